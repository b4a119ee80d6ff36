"""Merging the training sets of several adapters into one labelled routing dataset."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pointsman.data.dataset import (
    IMAGES,
    MANIFEST,
    SPLITS,
    UNFINISHED,
    Dataset,
    read_dataset,
    seal,
    write_files,
)
from pointsman.data.image_digest import near_duplicates
from pointsman.data.scan import Entry, Faults, Source, kept_keys, scan, store_images
from pointsman.data.split import assign, group_by_shared
from pointsman.errors import ArtefactError, ConfigError, LabelError, SampleError
from pointsman.files import digest_json, read_object, sole_run, write_bytes
from pointsman.labels import LabelMap
from pointsman.progress import Progress, no_progress
from pointsman.sample import RoutingSample

OUT_OF_SCOPE_SOURCE = "out_of_scope"
"""The name that a source of samples for no adapter is given under."""
_OUR_IMAGE = re.compile(r"\.?[0-9a-f]{16}\.\w+(\.partial)?")
_RECORDED = ("val", "test", "balance", "cap", "group_similar")
Balance = Literal["none", "downsample"]


@dataclass(frozen=True)
class Options:
    """What decides, next to the sources, which samples go where.

    Raises:
        ConfigError: a share, cap or balance that cannot be.
    """

    seed: int = 0
    val: float = 0.1
    test: float = 0.1
    balance: Balance = "none"
    cap: int | None = None
    skip_bad: bool = False
    group_similar: bool = True

    def __post_init__(self) -> None:
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test < 1):
            raise ConfigError(
                f"val {self.val} and test {self.test}: give shares from 0 up that leave some of 1 "
                "for train"
            )
        if self.balance not in ("none", "downsample"):
            raise ConfigError(f"balance {self.balance!r} is not 'none' or 'downsample'")
        if self.cap is not None and self.cap < 1:
            raise ConfigError(f"cap {self.cap}: at least one sample per adapter is needed")

    @property
    def shares(self) -> dict[str, float]:
        shares = {"train": 1 - self.val - self.test, "val": self.val, "test": self.test}
        return {name: share for name, share in shares.items() if share > 0}


def generate_dataset(
    sources: Mapping[str, Sequence[str | Path]],
    out: str | Path,
    *,
    labels: LabelMap | None = None,
    out_of_scope: Sequence[str | Path] = (),
    val: float = 0.1,
    test: float = 0.1,
    balance: Balance = "none",
    cap: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    group_similar: bool = True,
    progress: Progress | None = None,
    remark: Callable[[str], None] | None = None,
) -> Dataset:
    """Merges training sets into a dataset folder, the same to the byte for the same samples.

    The order of records and files plays no part. Samples that share a picture, in whatever
    encoding, go to one split. Run again after an interruption, it goes on with the images that it
    has; run again on its own finished result, it checks and repairs that.

    Args:
        sources: adapter name to what ``read_source`` reads; ``out_of_scope`` is a reserved name.
        out: the dataset folder to make.
        labels: the label order; by default the order of ``sources``.
        out_of_scope: sources of samples that no adapter should answer.
        val: share of the samples for validation, 0 to 1.
        test: share of the samples for testing, 0 to 1.
        balance: ``downsample`` cuts every adapter to the smallest one's number of samples; samples
            out of scope are left as they are.
        cap: keep at most so many samples of each adapter, and out of scope.
        seed: decides which samples are kept and where they go.
        skip_bad: drop samples that cannot be used, and count them, instead of refusing.
        group_similar: keep near-duplicate pictures, such as one screen with another cursor, in one
            split; see ``near_duplicates``.
        progress: called with the samples of a source, then the images, that are done.
        remark: called with each line on what was dropped and why, and on keys that are not read.

    Raises:
        SampleError: what is wrong with the sources, a line for each reason.
        LabelError: a source for an unknown adapter, or an adapter without a source.
        ConfigError: an option that cannot be.
        ArtefactError: ``out`` holds something else, cannot be written, or another run writes to it.
        MissingDependency: a source needs an optional package.
    """
    out = Path(out)
    options = Options(seed, val, test, balance, cap, skip_bad, group_similar)
    with sole_run(out):
        return _generate(
            sources, out, labels, out_of_scope, options, progress or no_progress, remark
        )


def _generate(
    sources: Mapping[str, Sequence[str | Path]],
    out: Path,
    labels: LabelMap | None,
    out_of_scope: Sequence[str | Path],
    options: Options,
    progress: Progress,
    remark: Callable[[str], None] | None,
) -> Dataset:
    labels = labels or LabelMap(tuple(name for name in sources if name != OUT_OF_SCOPE_SOURCE))
    wanted = _sources(sources, out_of_scope, labels)
    details: dict[str, Any] = {
        "seed": options.seed,
        "options": {name: getattr(options, name) for name in _RECORDED},
    }
    _refuse_other(out, {"adapters": list(labels), **details})

    faults = Faults()
    entries = scan(wanted, labels, faults, progress)
    unreadable = len(faults.samples)
    unique, duplicates = _unique(entries, faults)
    faults.raise_if_any(options.skip_bad)
    bad = unreadable + len(entries) - duplicates - len(unique)
    for line in _remarks(faults, bad, unreadable + len(entries), unique):
        if remark is not None:
            remark(line)
    kept = _chosen(unique, labels, options)
    splits = _split(kept, options)

    details["dropped"] = {
        "duplicates": duplicates,
        "bad": bad,
        "surplus": len(unique) - len(kept),
    }
    images = {picture.digest for entry in kept for picture in entry.pictures}
    files = seal(labels, splits, images, details)
    _refuse_other(out, files[MANIFEST])
    _write(out, files, wanted, kept, progress)
    return read_dataset(out)


def parse_sources(pairs: Iterable[str]) -> dict[str, list[str]]:
    """``NAME=PATH`` as the command line takes them; a name may be given several times.

    Raises:
        ConfigError: a pair without a name, a path or the sign between them.
    """
    sources: dict[str, list[str]] = {}
    for pair in pairs:
        name, _, path = pair.partition("=")
        if not name or not path:
            raise ConfigError(f"--source {pair!r}: give NAME=PATH, such as calendar=calendar.jsonl")
        sources.setdefault(name, []).append(path)
    return sources


def _sources(
    sources: Mapping[str, Sequence[str | Path]],
    out_of_scope: Sequence[str | Path],
    labels: LabelMap,
) -> list[Source]:
    """All sources in label order. Raises ``LabelError`` unless each adapter has one."""
    if OUT_OF_SCOPE_SOURCE in labels.names:
        raise LabelError(
            f"adapter name {OUT_OF_SCOPE_SOURCE!r} stands for no adapter; choose another name"
        )
    for name in sources:
        if name not in labels.names and name != OUT_OF_SCOPE_SOURCE:
            raise LabelError(f"source {name!r}: no such adapter in {labels}; add it or rename it")
    if missing := [name for name in labels if not sources.get(name)]:
        raise LabelError(
            f"no source for {', '.join(missing)}: every adapter of {labels} needs one, or its "
            "label cannot be learnt"
        )
    nowhere = [*sources.get(OUT_OF_SCOPE_SOURCE, ()), *out_of_scope]
    return [
        *(Source(name, str(path)) for name in labels for path in sources[name]),
        *(Source(None, str(path)) for path in nowhere),
    ]


def _unique(entries: Sequence[Entry], faults: Faults) -> tuple[list[Entry], int]:
    """Entries without repetitions, and how many those were.

    One question under two adapters is a fault: none of its entries is kept.
    """
    by_question: dict[str, list[Entry]] = {}
    for entry in entries:
        by_question.setdefault(entry.question, []).append(entry)
    kept: list[Entry] = []
    repeated = 0
    for same in by_question.values():
        first = same[0]
        others = [entry for entry in same if entry.sample.adapter != first.sample.adapter]
        if others:
            faults.samples += [_contradiction(first, other) for other in others]
            continue
        kept.append(min(same, key=lambda entry: entry.content))
        repeated += len(same) - 1
    return kept, repeated


def _contradiction(first: Entry, other: Entry) -> str:
    def owner(entry: Entry) -> str:
        return "out of scope" if entry.sample.adapter is None else entry.sample.adapter

    return (
        f"{other.where}: the same instruction and image as {first.where}, here under "
        f"{owner(other)}, there under {owner(first)}; keep one of them"
    )


def _chosen(entries: Sequence[Entry], labels: LabelMap, options: Options) -> list[Entry]:
    """At most so many entries of each adapter, in an order that only seed and content decide."""
    ordered = sorted(entries, key=lambda entry: digest_json([options.seed, entry.question]))
    counts = Counter(entry.sample.adapter for entry in ordered)
    if missing := [name for name in labels if not counts[name]]:
        raise SampleError(f"no usable sample is left of {', '.join(missing)}; add some")
    cap = len(ordered) if options.cap is None else options.cap
    fair = min(counts[name] for name in labels) if options.balance == "downsample" else cap
    taken: Counter[str | None] = Counter()
    kept = []
    for entry in ordered:
        adapter = entry.sample.adapter
        if taken[adapter] < (cap if adapter is None else min(cap, fair)):
            taken[adapter] += 1
            kept.append(entry)
    return kept


def _split(entries: Sequence[Entry], options: Options) -> dict[str, list[RoutingSample]]:
    pictures = [picture for entry in entries for picture in entry.pictures]
    similar = near_duplicates(pictures) if options.group_similar else {}
    # Without an image, equal text is what must not be in two splits.
    keys = [
        [key for p in entry.pictures for key in (p.pixels, *similar.get(p.pixels, ()))]
        or [entry.question]
        for entry in entries
    ]
    groups = group_by_shared(keys)
    places = assign(
        [Counter(entries[index].sample.adapter for index in group) for group in groups],
        options.shares,
    )
    split_of = {
        index: place for group, place in zip(groups, places, strict=True) for index in group
    }
    splits: dict[str, list[RoutingSample]] = {name: [] for name in SPLITS}
    for index, entry in enumerate(entries):
        splits[split_of[index]].append(entry.sample)
    return splits


def _remarks(faults: Faults, bad: int, total: int, unique: Sequence[Entry]) -> list[str]:
    """What was dropped and why, and the keys that are not read, a line each."""
    dropped = [f"{bad} of {total} samples are dropped", *faults.reasons()] if bad else []
    return dropped + kept_keys(entry.sample for entry in unique)


def _refuse_other(out: Path, mine: Mapping[str, Any] | bytes) -> None:
    """Raises ``ArtefactError`` if ``out`` holds what this request did not make.

    Args:
        out: the folder to write to.
        mine: the whole ``dataset.json`` to be written, or the keys of it that are known so far.
    """
    hint = "choose another --out or delete it"
    manifest = out / MANIFEST
    if manifest.is_file():
        if isinstance(mine, bytes):
            same = manifest.read_bytes() == mine
        else:
            there = read_object(manifest)
            same = all(there.get(key) == value for key, value in mine.items())
        if not same:
            raise ArtefactError(f"{out}: already holds another dataset; {hint}")
    elif not (out / UNFINISHED).exists():
        for name in SPLITS:
            if (out / f"{name}.jsonl").exists():
                raise ArtefactError(
                    f"{out}: {name}.jsonl in it is not of an interrupted run; {hint}"
                )


def _write(
    out: Path,
    files: Mapping[str, bytes],
    sources: Sequence[Source],
    kept: Sequence[Entry],
    progress: Progress,
) -> None:
    """Images, splits, then ``dataset.json``; a marker stands in the folder until all are there."""
    marker = out / UNFINISHED
    resumed = marker.exists()
    write_bytes(marker, b"")
    store_images(sources, kept, out, progress)
    if resumed:  # an interrupted run with other options may have left images that no sample names
        names = {picture.name for entry in kept for picture in entry.pictures}
        for file in (out / IMAGES).glob("*"):
            if _OUR_IMAGE.fullmatch(file.name) and file.name not in names:
                file.unlink()
    write_files(out, files)
    marker.unlink()
