"""The health of a dataset: everything that is wrong or odd with it, in one report."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointsman.data import coordinates, leaks
from pointsman.data.dataset import (
    IMAGES,
    MANIFEST,
    SPLITS,
    TRAINED_ON,
    check_split,
    read_manifest,
    without_sample,
)
from pointsman.data.image_digest import Picture, decode, is_changed
from pointsman.data.readers import image_bytes, read_lines
from pointsman.errors import PointsmanError, SampleError
from pointsman.files import digest_json, read_object
from pointsman.findings import Finding, Report
from pointsman.labels import LabelMap
from pointsman.progress import Progress, no_progress
from pointsman.sample import RoutingSample, parse_sample

MAX_RATIO = 10
"""A class with more than this times the samples of another is worth a warning."""


@dataclass(frozen=True)
class _Item:
    split: str
    where: str
    sample: RoutingSample
    images: tuple[str, ...]
    """What each image shows: the digest of its pixels, or its path where it was not decoded."""
    size: tuple[int, int] | None

    @property
    def question(self) -> str:
        """Prompt and images; case, spacing and a closing full stop make no difference."""
        prompt = [
            (turn.role, " ".join(turn.text.casefold().split()).rstrip(" .!?"))
            for turn in self.sample.prompt
        ]
        return digest_json([prompt, self.images])


@dataclass
class _Check:
    """One run: the findings so far and the means to add to them."""

    path: Path
    progress: Progress
    findings: list[Finding] = field(default_factory=list)
    pictures: dict[str, Picture | None] = field(default_factory=dict)

    def error(self, kind: str, where: str, message: str) -> None:
        self.findings.append(Finding("error", kind, where, message))

    def warning(self, kind: str, where: str, message: str) -> None:
        self.findings.append(Finding("warning", kind, where, message))


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
    run = _Check(path, progress or no_progress)
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
    _check_pictures_apart(run, items)
    _check_questions(run, items)
    if labels is not None:
        _check_balance(run, items, labels)
        _check_answers(run, items, labels)
        _check_coordinates(run, items, labels)
        _check_trivia(run, items)
    run.findings.sort(key=lambda finding: finding.level != "error")
    return Report(path, run.findings, _counts(items, labels))


def _manifest(run: _Check) -> tuple[LabelMap | None, dict[str, Any] | None]:
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
    run: _Check,
    split: str,
    labels: LabelMap | None,
    manifest: dict[str, Any] | None,
    *,
    images: bool,
) -> Iterator[_Item]:
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
        yield _Item(split, where, sample, tuple(shown), size)


def _lines(run: _Check, file: Path) -> Iterator[tuple[str, Any]]:
    try:
        yield from read_lines(file)
    except SampleError as error:
        run.error("dataset", str(file), _without(str(error), file))


def _sample(run: _Check, where: str, record: Any, labels: LabelMap | None) -> RoutingSample | None:
    """The sample, unlabelled if its label is wrong, or None if it is none at all."""
    try:
        if isinstance(record, SampleError):
            raise record
        sample = parse_sample(record, None, where)
    except SampleError as error:
        run.error("sample", where, _without(str(error), where))
        return None
    try:
        return sample if labels is None else parse_sample(record, labels, where)
    except SampleError as error:
        run.error("label", where, _without(str(error), where))
        return sample


def _picture(run: _Check, where: str, image: str) -> Picture | None:
    """The decoded image, or None if it cannot be; each file is looked at once."""
    if image in run.pictures:
        return run.pictures[image]
    run.pictures[image] = picture = None
    try:
        name, content = image_bytes(str(run.path / image))
        run.pictures[image] = picture = decode(content, name)
    except SampleError as error:
        run.error("image", where, str(error))
        return None
    if picture.blank:
        run.warning("image", where, f"{image} shows nothing: every pixel has the same colour")
    if is_changed(image, picture.digest):
        run.error("fingerprint", where, f"{image} was changed after the dataset was made")
    return picture


def _check_bbox(
    run: _Check, where: str, sample: RoutingSample, size: tuple[int, int] | None
) -> None:
    if sample.bbox is None or size is None:
        return
    x0, y0, x1, y1 = sample.bbox
    if x0 < 0 or y0 < 0 or x1 > size[0] or y1 > size[1]:
        box = list(sample.bbox)
        run.warning("bbox", where, f"bbox {box} is not inside its image of {size[0]}x{size[1]}")


def _check_images_folder(run: _Check, manifest: dict[str, Any] | None) -> None:
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


def _check_pictures_apart(run: _Check, items: list[_Item]) -> None:
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


def _check_questions(run: _Check, items: list[_Item]) -> None:
    """No instruction is asked twice of one picture."""
    same: dict[str, list[_Item]] = defaultdict(list)
    for item in items:
        same[item.question].append(item)
    for first, *others in same.values():
        for other in others:
            about = f"the same instruction and image as {first.where}"
            if first.sample.label != other.sample.label:
                mine, theirs = _class(other.sample), _class(first.sample)
                run.error("contradiction", other.where, f"{about}: here {mine}, there {theirs}")
            elif first.split != other.split:
                run.error("duplicate", other.where, f"{about}, in another split")
            else:
                run.warning("duplicate", other.where, about)


def _check_balance(run: _Check, items: list[_Item], labels: LabelMap) -> None:
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


def _check_answers(run: _Check, items: list[_Item], labels: LabelMap) -> None:
    """No prompt holds its answer; one that names its adapter is easier than real ones may be.

    No answer is empty, and coordinates are written as the base writes them.
    """
    for kind, test, what in (
        ("answer-leak", leaks.holds_answer, "hold the answer in the prompt"),
        ("answer-leak", leaks.holds_coordinates, "hold the answer's coordinates in the prompt"),
        ("adapter-name", leaks.names_adapter, "name the adapter in the prompt"),
        ("empty-answer", leaks.answers_nothing, "have an empty answer, which teaches silence"),
    ):
        for name in (*labels, "out_of_scope"):
            mine = [item for item in items if _class(item.sample) == name]
            guilty = [item for item in mine if test(item.sample)]
            if guilty:
                count = f"{len(guilty)} of {len(mine)} samples of {name}"
                run.warning(kind, guilty[0].where, f"{count} {what}")


def _check_coordinates(run: _Check, items: list[_Item], labels: LabelMap) -> None:
    """Each adapter has a training set of its own, hence maybe a convention of its own."""
    for name in (*labels, "out_of_scope"):
        mine = [i for i in items if i.size and _class(i.sample) == name]
        places = {i.where: coordinates.places_of(i.sample, i.size) for i in mine if i.size}
        if found := coordinates.fault([place for those in places.values() for place in those]):
            bad = (
                w for w, those in places.items() if not all(p.fits(coordinates.OURS) for p in those)
            )
            where = next(bad, next(iter(places)))
            run.warning("coordinates", where, f"answers of {name} {found}")


def _check_trivia(run: _Check, items: list[_Item]) -> None:
    """No rule that looks neither at the picture nor at the request predicts the adapter."""
    labelled = [item for item in items if item.sample.label is not None and item.images]
    sized = [item for item in labelled if item.size]
    _warn_rule(run, "the image size", sized, [item.size for item in sized])
    patterns = [leaks.path_pattern(item.sample.images[0]) for item in labelled]
    _warn_rule(run, "the pattern of the image path", labelled, patterns)
    lengths = [len(item.sample.instruction) for item in labelled]
    _warn_rule(run, "the length of the prompt", labelled, lengths)
    # Training sets of different adapters often come with a system prompt each, which a client
    # that does not know the adapter cannot send.
    systems = ["".join(t.text for t in i.sample.turns if t.role == "system") for i in labelled]
    _warn_rule(run, "the system prompt", labelled, systems)


def _warn_rule(run: _Check, what: str, items: list[_Item], values: list[Any]) -> None:
    classes = [item.sample.adapter for item in items]
    rule = leaks.rule(values, classes, [item.images[0] for item in items])
    if rule is not None and rule.suspicious:
        run.warning(
            "trivia",
            str(run.path),
            f"{what} alone predicts the adapter for {rule.accuracy:.0%} of the samples, always "
            f"guessing one class for {rule.baseline:.0%}: a router may learn that and fail on "
            "real screens",
        )


def _counts(items: list[_Item], labels: LabelMap | None) -> dict[str, Any]:
    splits: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        found = Counter(_class(item.sample) for item in items if item.split == split)
        names = [*(labels or ()), "out_of_scope"]
        splits[split] = {name: found[name] for name in names} | (
            {"unlabelled": found["unlabelled"]} if found["unlabelled"] else {}
        )
    shown = {image for item in items for image in item.images}
    return {"samples": len(items), "images": len(shown), "splits": splits}


def _class(sample: RoutingSample) -> str:
    if sample.label is None:
        return "unlabelled"
    return sample.adapter or "out_of_scope"


def _without(message: str, where: Any) -> str:
    """The message without the place that it starts with, which a finding has of its own."""
    return message.removeprefix(f"{where}: ").removeprefix(f"{where}/")
