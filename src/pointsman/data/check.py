"""The health of a dataset: everything that is wrong or odd with it, in one report."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pointsman.data.check_answers import check_answers, check_coordinates, check_trivia
from pointsman.data.check_run import Item, Run, class_of
from pointsman.data.dataset import (
    IMAGES,
    MANIFEST,
    SPLITS,
    TRAINED_ON,
    check_split,
    read_manifest,
    without_sample,
)
from pointsman.data.image_digest import Picture, decode, is_changed, near_duplicates
from pointsman.data.readers import image_content
from pointsman.dialects.json_files import read_values
from pointsman.errors import PointsmanError, SampleError
from pointsman.files import digest_json, read_object
from pointsman.findings import Report
from pointsman.labels import LabelMap
from pointsman.progress import Progress, no_progress
from pointsman.sample import RoutingSample, parse_sample

MAX_RATIO = 10
"""A class with more than this times the samples of another is worth a warning."""


def check_dataset(
    path: str | Path, *, images: bool = True, progress: Progress | None = None
) -> Report:
    """Looks for everything that is wrong with a dataset folder; never stops at a fault.

    Args:
        path: the folder of ``dataset.json``.
        images: decode every image; without it only the text is looked at.
        progress: called with the samples of a split that are done.
    """
    path = Path(path)
    run = Run(path, progress or no_progress)
    if not path.is_dir():
        run.error("dataset", str(path), "no such folder; give a dataset folder")
        return Report(path, run.findings, _counts([], None))
    labels, manifest = _manifest(run)
    items = [
        item for split in SPLITS for item in _items(run, split, labels, manifest, images=images)
    ]
    if not items:
        run.error("dataset", str(path), "the dataset is empty; add samples")
    if images:
        _check_images_folder(run, manifest)
        _check_similar(run, items)
    _check_pictures_apart(run, items)
    _check_questions(run, items)
    if labels is not None:
        _check_balance(run, items, labels)
        check_answers(run, items, labels)
        check_coordinates(run, items, labels)
        check_trivia(run, items)
    run.findings.sort(key=lambda finding: finding.level != "error")
    return Report(path, run.findings, _counts(items, labels))


def _manifest(run: Run) -> tuple[LabelMap | None, dict[str, Any] | None]:
    """The label map and ``dataset.json``, each None if it cannot be had."""
    try:
        return read_manifest(run.path)
    except PointsmanError as error:
        run.error("dataset", str(run.path), _without(str(error), run.path))
    try:
        adapters = read_object(run.path / MANIFEST).get("adapters")
        return LabelMap.from_json(adapters, str(run.path)), None
    except PointsmanError:
        return None, None


def _items(
    run: Run,
    split: str,
    labels: LabelMap | None,
    manifest: dict[str, Any] | None,
    *,
    images: bool,
) -> Iterator[Item]:
    file = run.path / f"{split}.jsonl"
    if not file.is_file():
        run.error("dataset", str(file), "no such file; generate the dataset again")
        return
    if manifest is not None:
        try:
            check_split(run.path, split, manifest)
        except PointsmanError as error:
            run.error("fingerprint", str(file), _without(str(error), file))
    for done, (where, record) in enumerate(_lines(run, file), 1):
        run.progress(done, step=split)
        sample = _sample(run, where, record, labels)
        if sample is None:
            continue
        pictures = [_picture(run, where, image) if images else None for image in sample.images]
        shown = [p.pixels if p else i for p, i in zip(pictures, sample.images, strict=True)]
        size = pictures[0].size if pictures and pictures[0] else None
        _check_bbox(run, where, sample, size)
        yield Item(split, where, sample, tuple(shown), size)


def _lines(run: Run, file: Path) -> Iterator[tuple[str, Any]]:
    try:
        yield from read_values(file)
    except SampleError as error:
        run.error("dataset", str(file), _without(str(error), file))


def _sample(run: Run, where: str, record: Any, labels: LabelMap | None) -> RoutingSample | None:
    """The sample, unlabelled if its label is wrong, or None if it is none at all."""
    try:
        sample = parse_sample(record, None, where)
    except SampleError as error:
        run.error("sample", where, _without(str(error), where))
        return None
    try:
        return sample if labels is None else parse_sample(record, labels, where)
    except SampleError as error:
        run.error("label", where, _without(str(error), where))
        return sample


def _picture(run: Run, where: str, image: str) -> Picture | None:
    """The decoded image, or None if it cannot be; each file is looked at once."""
    if image in run.pictures:
        return run.pictures[image]
    run.pictures[image] = picture = None
    try:
        name, content = image_content(image, run.path)
        run.pictures[image] = picture = decode(content, name)
    except SampleError as error:
        run.error("image", where, str(error))
        return None
    if picture.blank:
        run.warning("image", where, f"{image} shows nothing: every pixel has the same colour")
    if is_changed(image, picture.digest):
        run.error("fingerprint", where, f"{image} was changed after the dataset was made")
    return picture


def _check_bbox(run: Run, where: str, sample: RoutingSample, size: tuple[int, int] | None) -> None:
    if sample.bbox is None or size is None:
        return
    x0, y0, x1, y1 = sample.bbox
    if x0 < 0 or y0 < 0 or x1 > size[0] or y1 > size[1]:
        box = list(sample.bbox)
        run.warning("bbox", where, f"bbox {box} is not inside its image of {size[0]}x{size[1]}")


def _check_images_folder(run: Run, manifest: dict[str, Any] | None) -> None:
    folder = run.path / IMAGES
    found = {f"{IMAGES}/{file.name}" for file in folder.iterdir()} if folder.is_dir() else set()
    if unused := found - set(run.pictures):
        example = min(unused)
        run.warning("unused-image", str(folder), f"{len(unused)} belong to no sample ({example})")
    digests = {picture.digest for picture in run.pictures.values() if picture}
    explained = any(f.kind == "fingerprint" for f in run.findings) or None in run.pictures.values()
    if manifest is None or explained:
        return
    if digest_json(sorted(digests)) != manifest["images"]["sha256"]:
        run.error("fingerprint", str(folder), "not the images that the dataset was made with")


def _check_pictures_apart(run: Run, items: list[Item]) -> None:
    """No picture is in two splits."""
    first: dict[str, dict[str, str]] = defaultdict(dict)
    for item in items:
        for image in item.images:
            first[image].setdefault(item.split, item.where)
    for places in first.values():
        if len(places) > 1:
            (_, where), *others = places.items()
            also = ", ".join(f"{split} ({other})" for split, other in others)
            run.error("split-leak", where, f"the same picture is in {also}")


def _check_similar(run: Run, items: list[Item]) -> None:
    """No picture looks like one of another split."""
    similar = near_duplicates(picture for picture in run.pictures.values() if picture)
    at: dict[str, Item] = {}
    for item in items:
        for image in item.images:
            at.setdefault(image, item)
    apart = [
        (at[image], at[other])
        for image, others in similar.items()
        for other in others
        if image in at and other in at and at[image].split != at[other].split
    ]
    if apart:
        one, other = apart[0]
        run.warning(
            "near-duplicate",
            one.where,
            f"{len(apart)} pairs of pictures look the same and are in two splits, the first with "
            f"{other.where}: validation is easier than real screens; generate without "
            "--no-group-similar",
        )


def _check_questions(run: Run, items: list[Item]) -> None:
    """No instruction is asked twice of one picture."""
    same: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        same[item.question].append(item)
    for first, *others in same.values():
        for other in others:
            about = f"the same instruction and image as {first.where}"
            if first.sample.label != other.sample.label:
                mine, theirs = class_of(other.sample), class_of(first.sample)
                run.error("contradiction", other.where, f"{about}: here {mine}, there {theirs}")
            elif first.split != other.split:
                run.error("duplicate", other.where, f"{about}, in another split")
            else:
                run.warning("duplicate", other.where, about)


def _check_balance(run: Run, items: list[Item], labels: LabelMap) -> None:
    counts = {split: Counter[str | None]() for split in SPLITS}
    for item in items:
        counts[item.split][item.sample.adapter] += item.sample.in_scope
    filled = {item.split for item in items}
    for split in SPLITS:
        level, needs = run.warning, ""
        if split in TRAINED_ON:
            level, needs = run.error, "; `pointsman train` needs one of each adapter"
        present = {item.sample.label for item in items if item.split == split}
        missing = [f"sample of {name}" for name in without_sample(labels, present)]
        for what in missing if split in filled else ["samples"]:
            level("missing-class", str(run.path / f"{split}.jsonl"), f"holds no {what}{needs}")
    train = {name: counts["train"][name] for name in labels if counts["train"][name]}
    if train and max(train.values()) > MAX_RATIO * min(train.values()):
        most, least = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
        run.warning(
            "imbalance",
            str(run.path / "train.jsonl"),
            f"{most} has {train[most]} samples, {least} {train[least]}: more than {MAX_RATIO} to 1",
        )


def _counts(items: list[Item], labels: LabelMap | None) -> dict[str, Any]:
    splits: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        found = Counter(class_of(item.sample) for item in items if item.split == split)
        names = [*(labels or ()), "out_of_scope"]
        splits[split] = {name: found[name] for name in names} | (
            {"unlabelled": found["unlabelled"]} if found["unlabelled"] else {}
        )
    shown = {image for item in items for image in item.images}
    return {"samples": len(items), "images": len(shown), "splits": splits}


def _without(message: str, where: Any) -> str:
    """The message without the place that it starts with, which a finding has of its own."""
    return message.removeprefix(f"{where}: ").removeprefix(f"{where}/")
