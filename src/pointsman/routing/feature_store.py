"""The feature store: one forward per sample, written to shards that survive an interruption."""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pointsman.conversation import routed_part
from pointsman.data.dataset import Dataset
from pointsman.data.image_digest import load_sealed, sealed_images
from pointsman.errors import ArtefactError, ImageError, MismatchError, SampleError
from pointsman.files import (
    digest_json,
    read_object,
    read_tensors,
    read_tensors_and_metadata,
    refuse_other,
    sole_run,
    write_json,
    write_tensors,
)
from pointsman.images import image_size
from pointsman.labels import OUT_OF_SCOPE, LabelMap
from pointsman.models.cpu_kernels import threads_beside
from pointsman.models.features import FeatureRecipe, Origin, Reader, extract, probe_features
from pointsman.progress import Progress, no_progress
from pointsman.sample import RoutingSample, load_prompt

FORMAT_VERSION = 1
SHARD_SAMPLES = 64
"""Samples per shard: the most work that an interruption can lose."""
_AHEAD, _PREPARING = 2, 8
"""Batches that are prepared while one is read, and threads for that"""


@dataclass(frozen=True)
class Features:
    """A complete features folder, in memory."""

    path: Path
    labels: LabelMap
    recipe: FeatureRecipe
    origin: Origin
    hidden_size: int
    depth: int
    """Number of the reader's layers"""
    splits: dict[str, tuple[Tensor, Tensor]]
    """By split: (features (n, places, hidden) float32, labels (n,) int64), in dataset order"""
    probes: Tensor
    """(probes, places, hidden) float32"""


def preprocess(
    dataset: Dataset,
    reader: Reader,
    out: str | Path,
    recipe: FeatureRecipe | None = None,
    *,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> Features:
    """Writes the features of every sample of a dataset to ``out``; resumes an interrupted run.

    Args:
        reader: the base, or a text encoder, which ignores images.
        recipe: by default ``FeatureRecipe.default``.
        out: the features folder to write.
        batch_tokens: padded tokens of one batch; by default 16,384, or 1,024 on a CPU, where
            larger batches would only overflow its caches.
        progress: called with (samples done, total samples).

    Raises:
        ArtefactError: ``out`` holds something else, cannot be written, or another run writes to it.
        MismatchError: ``out`` holds features of another dataset, reader or recipe, or an image was
            changed after the dataset was made.
        ConfigError: the reader lacks a layer or a pooling.
        SampleError: a sample or an image cannot be used.
    """
    out = Path(out)
    recipe = recipe or FeatureRecipe.default(reader)
    recipe.check_reader(reader)
    batch_tokens = batch_tokens or (1024 if reader.device.type == "cpu" else 16384)
    identity = _identity(dataset, reader, recipe, batch_tokens)
    refuse_other(out, "features")
    with sole_run(out):
        # Before hours of work, and before a finished folder is given out.
        sealed = sealed_images(dataset, progress or no_progress) if reader.reads_images else {}
        return _preprocess(dataset, reader, out, recipe, identity, sealed, progress or no_progress)


def _preprocess(
    dataset: Dataset,
    reader: Reader,
    out: Path,
    recipe: FeatureRecipe,
    identity: dict[str, Any],
    sealed: Mapping[str, str],
    progress: Progress,
) -> Features:
    request = digest_json(identity)
    if (out / "metadata.json").is_file():
        found = read_object(out / "metadata.json")
        _check_identity(found, identity, out)
        if _is_whole(out, _shards(identity)):
            return read_features(out)
    plan = {
        split: _plan(
            [_length(sample, reader, recipe) for sample in samples], identity["batch_tokens"]
        )
        for split, samples in dataset.splits.items()
    }
    total, done = sum(map(len, dataset.splits.values())), 0
    missing = []
    for split, shards in plan.items():
        for number, batches in enumerate(shards):
            path = out / _shard_name(split, number)
            if path.is_file():
                _check_request(read_tensors_and_metadata(path)[1].get("request"), request, out)
                done += sum(map(len, batches))
                progress(done, total)
            else:
                missing.append((path, dataset.splits[split], batches))

    def read(path: str) -> Image.Image:
        return load_sealed(path, sealed[path])

    def prepare(sample: RoutingSample) -> Any:
        with _named(sample):
            prompt = load_prompt(sample, recipe.history, read if reader.reads_images else None)
            return reader.prepare([prompt])

    wanted = ([samples[i] for i in batch] for _, samples, batches in missing for batch in batches)
    with closing(_prepared(wanted, prepare)) as prepared, torch.inference_mode():
        for path, samples, batches in missing:
            # Not read back one by one: an accelerator goes on with the next batch meanwhile.
            features = [
                extract(reader, reader.on_device(*each), recipe)
                for each in islice(prepared, len(batches))
            ]
            index = torch.tensor([index for batch in batches for index in batch])
            shard = {
                "features": torch.cat(features).cpu(),
                "labels": torch.tensor([_label(samples[i]) for i in index.tolist()]),
                "index": index,
            }
            write_tensors(path, shard, {"request": request})
            done += len(index)
            progress(done, total)
    write_tensors(out / "probes.safetensors", {"features": probe_features(reader, recipe)})
    made_by = {"base_model_id": reader.id, "base_revision": reader.revision}
    write_json(out / "metadata.json", identity | made_by)
    return read_features(out)


def check_finite(values: Tensor, path: Path, split: str) -> None:
    """Raises ``SampleError`` if a split's features hold NaN or infinite values."""
    if not bool(values.isfinite().all()):
        raise SampleError(f"{path}: the {split} features hold NaN or infinite values")


def read_features(path: str | Path) -> Features:
    """Reads a complete features folder.

    Raises:
        ArtefactError: the folder is incomplete (``preprocess`` was interrupted), truncated or
            altered.
    """
    path = Path(path)
    where = path / "metadata.json"
    if not where.is_file():
        raise ArtefactError(
            f"{path}: not a complete features folder (no metadata.json); "
            "rerun the same `pointsman preprocess` command, it resumes where it stopped"
        )
    metadata = read_object(where)
    if missing := [key for key in _IDENTITY if key not in metadata]:
        raise ArtefactError(f"{where}: has no {missing[0]!r}; run `pointsman preprocess` again")
    try:
        shards = _shards(metadata)
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        raise ArtefactError(f"{where}: its sample counts are no counts; restore the file") from None
    if not _is_whole(path, shards):
        raise ArtefactError(
            f"{path}: files that metadata.json lists are missing; "
            "rerun the same `pointsman preprocess` command, it rebuilds them"
        )
    labels = LabelMap.from_json(metadata["class_names"], f"{where}: class_names")
    # Every shard names the request that made it, so metadata.json cannot be edited unnoticed.
    request = digest_json({key: metadata[key] for key in _IDENTITY})
    splits = {split: _read_split(path, split, number, request) for split, number in shards.items()}
    return Features(
        path=path,
        labels=labels,
        recipe=FeatureRecipe.from_json(metadata["recipe"], str(where)),
        origin=Origin.from_json(metadata, str(where)),
        hidden_size=int(metadata["hidden_size"]),
        depth=int(metadata["depth"]),
        splits=splits,
        probes=_read_probes(path),
    )


_IDENTITY = (
    "format_version",
    "num_classes",
    "class_names",
    "hidden_size",
    "depth",
    "dtype",
    "recipe",
    "fingerprint",
    "dataset_fingerprint",
    "samples",
    "batch_tokens",
    "shard_samples",
)


def _identity(
    dataset: Dataset, reader: Reader, recipe: FeatureRecipe, batch_tokens: int
) -> dict[str, Any]:
    """Everything that the bytes of a shard depend on."""
    values = (
        FORMAT_VERSION,
        len(dataset.labels),
        list(dataset.labels),
        reader.hidden_size,
        reader.depth,
        reader.precision,
        recipe.to_json(),
        asdict(reader.fingerprint),
        dataset.fingerprint,
        {split: len(samples) for split, samples in dataset.splits.items()},
        batch_tokens,
        SHARD_SAMPLES,
    )
    return dict(zip(_IDENTITY, values, strict=True))


def _check_request(found: str | None, expected: str, out: Path) -> None:
    if found != expected:
        raise MismatchError(
            f"{out}: holds features of another dataset, reader or recipe; "
            "choose another --out or delete it"
        )


def _plan(lengths: Sequence[int], budget: int) -> list[list[list[int]]]:
    """Shards of batches of sample indices: similar lengths, within ``budget`` tokens per batch.

    They depend on the dataset alone, so a resumed run makes exactly the same batches.
    """
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    shards = []
    for start in range(0, len(order), SHARD_SAMPLES):
        batches: list[list[int]] = []
        for index in order[start : start + SHARD_SAMPLES]:
            # Ascending lengths: the whole batch is padded to this sample's length.
            if batches and (len(batches[-1]) + 1) * lengths[index] <= budget:
                batches[-1].append(index)
            else:
                batches.append([index])
        shards.append(batches)
    return shards


def _length(sample: RoutingSample, reader: Reader, recipe: FeatureRecipe) -> int:
    """An estimate of a sample's number of tokens."""
    turns, images = routed_part(sample.turns, sample.images, recipe.history)
    sizes = [image_size(Path(image)) for image in images] if reader.reads_images else []
    return reader.estimated_tokens(sum(len(turn.text) for turn in turns), sizes)


def _prepared(
    batches: Iterable[Sequence[RoutingSample]], prepare: Callable[[RoutingSample], Any]
) -> Generator[list[Any]]:
    """Each batch's prepared samples; those of the next batches are prepared meanwhile."""
    pool, ahead = ThreadPoolExecutor(threads_beside(_PREPARING)), deque[list[Future[Any]]]()
    try:
        for batch in batches:
            ahead.append([pool.submit(prepare, sample) for sample in batch])
            if len(ahead) > _AHEAD:
                yield [future.result() for future in ahead.popleft()]
        while ahead:
            yield [future.result() for future in ahead.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _named(sample: RoutingSample) -> Iterator[None]:
    """Errors name the sample."""
    try:
        yield
    except ImageError:  # it names the image
        raise
    except SampleError as error:
        name = ", ".join(sample.images) or repr(sample.instruction[:60])
        raise SampleError(f"sample with {name}: {error}") from None


def _label(sample: RoutingSample) -> int:
    return OUT_OF_SCOPE if sample.label is None else sample.label


def _shard_name(split: str, number: int) -> str:
    return f"{split}-{number:05d}.safetensors"


def _check_identity(found: dict[str, Any], mine: dict[str, Any], out: Path) -> None:
    differing = [key for key in mine if found.get(key) != mine[key]]
    if differing:
        key = differing[0]
        named = _NAMES.get(key) or f"{key} ({found.get(key)}, not {mine[key]})"
        raise MismatchError(
            f"{out}: holds features of another {named}; choose another --out or delete it"
        )


_NAMES = {"fingerprint": "base or encoder", "dataset_fingerprint": "dataset"}


def _shards(identity: dict[str, Any]) -> dict[str, int]:
    """Number of shards of each split, from the sealed sample counts."""
    size = int(identity["shard_samples"])
    return {split: math.ceil(int(n) / size) for split, n in identity["samples"].items()}


def _is_whole(path: Path, shards: dict[str, int]) -> bool:
    """Whether every file that ``metadata.json`` lists exists."""
    names = [_shard_name(split, i) for split, n in shards.items() for i in range(n)]
    return all((path / name).is_file() for name in (*names, "probes.safetensors"))


def _read_probes(path: Path) -> Tensor:
    tensors = read_tensors(path / "probes.safetensors")
    if "features" not in tensors or tensors["features"].dim() != 3:
        raise ArtefactError(
            f"{path / 'probes.safetensors'}: not the probes of features; delete it and run the "
            "same `pointsman preprocess` again"
        )
    return tensors["features"]


def _read_split(path: Path, split: str, shards: int, request: str) -> tuple[Tensor, Tensor]:
    if not shards:
        return torch.empty(0), torch.empty(0, dtype=torch.long)
    parts = []
    for number in range(shards):
        tensors, metadata = read_tensors_and_metadata(path / _shard_name(split, number))
        if metadata.get("request") != request:
            raise MismatchError(
                f"{path}: {_shard_name(split, number)} and metadata.json do not belong together "
                "(class_names, recipe or reader was changed); run `pointsman preprocess` again"
            )
        parts.append(tensors)
    index = torch.cat([part["index"] for part in parts])
    order = index.argsort()
    features = torch.cat([part["features"] for part in parts])[order].float()
    return features, torch.cat([part["labels"] for part in parts])[order]
