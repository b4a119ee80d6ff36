"""A dataset: a folder of labelled samples in three splits, sealed by ``dataset.json``."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointsman.errors import ArtefactError, MismatchError, SampleError
from pointsman.files import digest_bytes, digest_file, digest_json, read_object, write_bytes
from pointsman.labels import LabelMap
from pointsman.sample import RoutingSample, read_samples, to_jsonl

SPLITS = ("train", "val", "test")
MANIFEST = "dataset.json"
TRAINED_ON = ("train", "val")
"""Where a router needs a sample of every adapter: it learns from the one, the other sets limits."""
IMAGES = "images"
UNFINISHED = ".unfinished"
"""Present while a dataset is being written, and after an interrupted run."""
FORMAT_VERSION = 1
_REGENERATE = "generate the dataset again"


@dataclass(frozen=True)
class Dataset:
    """Labelled samples in three splits; a split may be empty, but its key is always present."""

    path: Path
    labels: LabelMap
    splits: dict[str, list[RoutingSample]]
    """Image paths are joined to ``path``."""
    fingerprint: str
    """SHA-256 over label order, samples and images."""


def read_dataset(path: str | Path) -> Dataset:
    """Reads a dataset folder for training.

    Raises:
        ArtefactError: the dataset is missing or unfinished, or a file is broken.
        MismatchError: a file was changed after the dataset was made.
        SampleError: a sample is invalid, or an adapter has no sample in ``train``.
        LabelError: the adapter names do not form a label map.
    """
    dataset = _read(Path(path))
    present = {sample.label for sample in dataset.splits["train"]}
    if missing := without_sample(dataset.labels, present):
        raise SampleError(
            f"{path}: train has no sample of {', '.join(missing)}, so that label cannot be "
            f"learnt; add samples and {_REGENERATE}"
        )
    return dataset


def read_samples_of(path: str | Path, labels: LabelMap) -> list[RoutingSample]:
    """Reads samples to evaluate on: a dataset folder's test split (else val), or one JSONL file.

    Args:
        path: the folder or the file.
        labels: the label map of the router under test; the data must have the same.

    Raises:
        MismatchError: the folder was made for another label map.
        ArtefactError, SampleError, LabelError: as ``read_dataset``, but ``train`` is not checked.
    """
    path = Path(path)
    if not path.is_dir():
        return read_samples(path, labels)
    dataset = _read(path)
    dataset.labels.check_same(
        labels, f"dataset {path}", "the router", "use data and router of the same label order"
    )
    held_out = dataset.splits["test"] or dataset.splits["val"]
    if not held_out:
        raise SampleError(
            f"{path}: test and val are both empty; {_REGENERATE} with a share for test, "
            "or name one JSONL file"
        )
    return held_out


def without_sample(labels: LabelMap, present: Collection[int | None]) -> list[str]:
    """Adapters whose label is not among those of a split."""
    return [name for label, name in enumerate(labels) if label not in present]


def untrainable(dataset: Dataset) -> str | None:
    """Why ``train`` would refuse the features of a dataset; None if it takes them."""
    for split in TRAINED_ON:
        labels = {sample.label for sample in dataset.splits[split]}
        if missing := without_sample(dataset.labels, labels):
            return (
                f"{dataset.path}: {split} has no sample of {', '.join(missing)}, so "
                "`pointsman train` will refuse it (`train --extend` takes it): add samples with "
                "other pictures, 3 pictures for train, val and test, or raise --val"
            )
    return None


def seal(
    labels: LabelMap,
    splits: Mapping[str, Sequence[RoutingSample]],
    image_digests: Iterable[str],
    details: Mapping[str, Any],
) -> dict[str, bytes]:
    """The files of a dataset, ``dataset.json`` last: name to content.

    Args:
        labels: the label map that the samples were labelled with.
        splits: samples by split; image paths relative to the dataset folder.
        image_digests: SHA-256 of every image file, in any order.
        details: further keys of ``dataset.json`` (seed, options, what was dropped).
    """
    files = {
        f"{name}.jsonl": to_jsonl(sample.record() for sample in splits.get(name, ())).encode()
        for name in SPLITS
    }
    digests = sorted(set(image_digests))
    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "adapters": list(labels),
        **details,
        "splits": {
            name: {
                "n": len(splits.get(name, ())),
                "sha256": digest_bytes(files[f"{name}.jsonl"]),
                **_counts(splits.get(name, ()), labels),
            }
            for name in SPLITS
        },
        "images": {"n": len(digests), "sha256": digest_json(digests)},
    }
    manifest["fingerprint"] = fingerprint_of(manifest)
    # Bytes, not files: the content is compared with the folder's before anything is written.
    return files | {MANIFEST: (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()}


def write_files(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes what ``seal`` returned; a file that already has this content is not rewritten."""
    for name, content in files.items():
        target = path / name
        if not target.is_file() or digest_file(target) != digest_bytes(content):
            write_bytes(target, content)


def read_manifest(path: Path) -> tuple[LabelMap, dict[str, Any]]:
    """Reads ``dataset.json`` and checks that it is self-consistent.

    Raises:
        ArtefactError: the file is missing or unfinished, has another format version or lacks a key.
        MismatchError: its fingerprint does not match its own content.
        LabelError: the adapter names do not form a label map.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise ArtefactError(_absent(path))
    manifest = read_object(file)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ArtefactError(
            f"{file}: format_version {manifest.get('format_version')!r} is not {FORMAT_VERSION}; "
            f"{_REGENERATE} with this version"
        )
    labels = LabelMap.from_json(manifest.get("adapters"), str(file))
    try:
        expected = fingerprint_of(manifest)
    except (KeyError, TypeError):
        raise ArtefactError(f"{file}: splits or images lack their sha256; {_REGENERATE}") from None
    if manifest.get("fingerprint") != expected:
        raise MismatchError(
            f"{file}: fingerprint {manifest.get('fingerprint')!r} is not {expected!r}, that of its "
            f"adapters, splits and images: it was edited; {_REGENERATE}"
        )
    return labels, manifest


def fingerprint_of(manifest: Mapping[str, Any]) -> str:
    """SHA-256 over the adapter names in order and the digests of splits and images."""
    splits = {name: manifest["splits"][name]["sha256"] for name in SPLITS}
    return digest_json([manifest["adapters"], splits, manifest["images"]["sha256"]])


def check_split(path: Path, name: str, manifest: Mapping[str, Any]) -> None:
    """Raises ``MismatchError`` unless a split's file is the one that ``manifest`` sealed."""
    file = path / f"{name}.jsonl"
    found, sealed = digest_file(file), manifest["splits"][name]["sha256"]
    if found != sealed:
        raise MismatchError(
            f"{file}: its SHA-256 starts with {found[:12]}, {MANIFEST} says {sealed[:12]}: it was "
            f"changed after the dataset was made; {_REGENERATE}"
        )


def _read(path: Path) -> Dataset:
    labels, manifest = read_manifest(path)
    splits = {name: _read_split(path, name, manifest, labels) for name in SPLITS}
    if not any(splits.values()):
        raise SampleError(f"{path}: the dataset is empty; add samples and {_REGENERATE}")
    return Dataset(path, labels, splits, manifest["fingerprint"])


def _read_split(
    path: Path, name: str, manifest: Mapping[str, Any], labels: LabelMap
) -> list[RoutingSample]:
    check_split(path, name, manifest)
    file = path / f"{name}.jsonl"
    return read_samples(file, labels) if file.stat().st_size else []


def _counts(samples: Sequence[RoutingSample], labels: LabelMap) -> dict[str, Any]:
    counts = Counter(sample.adapter for sample in samples)
    return {"adapters": {name: counts[name] for name in labels}, "out_of_scope": counts[None]}


def _absent(path: Path) -> str:
    if not path.is_dir():
        return f"{path}: no such folder; give a dataset folder"
    if (path / UNFINISHED).exists():
        return f"{path}: the dataset was left unfinished; rerun the command that made it"
    return (
        f"{path}: no {MANIFEST} in it, so it is no dataset; make one with `pointsman data generate`"
    )
