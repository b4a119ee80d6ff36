"""Features: the base's pooled hidden state, one forward per sample, kept in a resumable store.

A causal decoder's position 0 attends only to itself, so it is the same for every sample: pooling
there (``first``) carries no information and is refused. The default is the prompt's last real
token, which has read the images and all of the text.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pointsman.base import Base, Encoded, Fingerprint, Prompt
from pointsman.data.dataset import Dataset
from pointsman.errors import ArtefactError, ConfigError, ImageError, MismatchError, SampleError
from pointsman.files import (
    digest_json,
    read_object,
    read_tensors,
    read_tensors_and_metadata,
    refuse_other,
    write_json,
    write_tensors,
)
from pointsman.images import image_size, load_image
from pointsman.labels import OUT_OF_SCOPE, LabelMap
from pointsman.sample import RoutingSample, user_turn

FORMAT_VERSION = 1
SHARD_SAMPLES = 64
"""Samples of one shard, hence the most work that an interruption loses."""

Pooling = Literal["last", "mean", "image-mean"]
Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""


class Place(NamedTuple):
    """Where in the base a feature is read."""

    layer: int
    pooling: Pooling

    def __str__(self) -> str:
        return f"layer {self.layer} ({self.pooling})"


@dataclass(frozen=True)
class FeatureRecipe:
    """How features are made. Train and serve must use the same.

    Raises:
        ConfigError: no layer, a layer below 1, or poolings that cannot work.
    """

    layers: tuple[int, ...]
    """Depths, ascending: the state after this many decoder layers, before any final norm."""
    poolings: tuple[Pooling, ...] = ("last",)

    def __post_init__(self) -> None:
        if not self.layers or list(self.layers) != sorted({*self.layers}) or self.layers[0] < 1:
            raise ConfigError(f"layers {list(self.layers)}: give ascending depths from 1")
        if "first" in map(str, self.poolings):
            raise ConfigError(
                "pooling 'first' is refused: position 0 of a causal base attends only to itself, "
                "so its state is the same for every sample; use 'last'"
            )
        known = ", ".join(get_args(Pooling))
        if unknown := [name for name in self.poolings if name not in get_args(Pooling)]:
            raise ConfigError(f"unknown pooling {unknown[0]!r}; known are {known}")
        if not self.poolings or len({*self.poolings}) < len(self.poolings):
            raise ConfigError(f"poolings {list(self.poolings)}: give one or more of {known}")

    @classmethod
    def default(cls, depth: int, poolings: tuple[Pooling, ...] = ("last",)) -> "FeatureRecipe":
        """A quarter, half and three quarters of ``depth``: middle layers often route best."""
        return cls(tuple(sorted({max(1, depth * n // 4) for n in (1, 2, 3)})), poolings)

    @property
    def places(self) -> tuple[Place, ...]:
        """Where features are read, one vector each, in the order in which they are stored."""
        return tuple(Place(layer, name) for layer in self.layers for name in self.poolings)

    @classmethod
    def of(cls, value: Any, where: str) -> "FeatureRecipe":
        """Reads the form of ``to_json``. Raises ``ConfigError`` naming ``where``."""
        try:
            return cls(tuple(map(int, value["layers"])), tuple(value["poolings"]))
        except (KeyError, TypeError, ValueError):
            raise ConfigError(f"{where}: {value!r} is not a feature recipe") from None

    def to_json(self) -> dict[str, Any]:
        return {"layers": list(self.layers), "poolings": list(self.poolings)}


@dataclass(frozen=True)
class Origin:
    """What made a set of features, hence what a router trained on them needs."""

    base_model_id: str
    base_revision: str | None
    fingerprint: Fingerprint

    @classmethod
    def of(cls, value: Any, where: str) -> "Origin":
        try:
            fingerprint = Fingerprint(**value["fingerprint"])
            return cls(value["base_model_id"], value["base_revision"], fingerprint)
        except (KeyError, TypeError):
            raise ArtefactError(f"{where}: does not say which base made it") from None


@dataclass(frozen=True)
class Features:
    """A complete features folder, in memory."""

    path: Path
    labels: LabelMap
    recipe: FeatureRecipe
    origin: Origin
    hidden_size: int
    splits: dict[str, tuple[Tensor, Tensor]]
    """Split to (features (n, places, hidden) float32, labels (n,) int64), in dataset order"""
    probes: Tensor
    """(probes, places, hidden) float32"""


def extract(
    base: Base,
    encoded: Encoded,
    recipe: FeatureRecipe,
    image_features: dict[str, Any] | None = None,
) -> Tensor:
    """Features of a batch (B, places, hidden), stopping at the deepest layer of the recipe.

    Args:
        image_features: ``base.image_features(encoded)`` if it is already there; the vision tower
            is then not run again.
    """
    pooled: dict[Place, Tensor] = {}
    trunk = base.trunk(recipe.layers[-1])
    layers = trunk.language_model.layers

    def keep(depth: int, states: Tensor) -> None:
        for name in recipe.poolings:
            pooled[Place(depth, name)] = pool(states, encoded, name)

    def keeps(depth: int) -> Callable[..., None]:
        return lambda _, args: keep(depth, args[0])

    # The input of layer d, not the output of layer d-1: DeepStack adds to it in between.
    hooks = [layers[depth].register_forward_pre_hook(keeps(depth)) for depth in recipe.layers[:-1]]
    try:
        output = trunk(**base.model_inputs(encoded, image_features), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    keep(recipe.layers[-1], output.last_hidden_state)
    return torch.stack([pooled[place] for place in recipe.places], dim=1)


def preprocess(
    dataset: Dataset,
    base: Base,
    out: Path,
    recipe: FeatureRecipe | None = None,
    *,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> Features:
    """Writes the features of every sample of a dataset to ``out``; goes on where it was stopped.

    Args:
        recipe: by default ``FeatureRecipe.default``.
        batch_tokens: padded tokens of one batch; by default 16,384, and 1,024 on a CPU, where
            larger batches only spill its caches.

    Raises:
        ArtefactError: ``out`` holds something else or cannot be written.
        MismatchError: ``out`` holds features of another dataset, base or recipe.
        SampleError: a sample or an image that cannot be used.
    """
    recipe = recipe or FeatureRecipe.default(base.depth)
    base.trunk(recipe.layers[-1])  # refuses a layer that the base has not
    batch_tokens = batch_tokens or (1024 if base.device.type == "cpu" else 16384)
    identity = _identity(dataset, base, recipe, batch_tokens)
    request = digest_json(identity)
    refuse_other(out, "features")
    if (out / "metadata.json").is_file():
        found = read_object(out / "metadata.json")
        _check_identity(found, identity, out)
        if _is_whole(out, _shards(identity)):
            return read_features(out)
    plan = {split: _plan(samples, base, batch_tokens) for split, samples in dataset.splits.items()}
    total, done = sum(map(len, dataset.splits.values())), 0
    for split, shards in plan.items():
        for number, batches in enumerate(shards):
            path = out / _shard_name(split, number)
            if path.is_file():
                _check_request(read_tensors_and_metadata(path)[1].get("request"), request, out)
            else:
                shard = _shard(dataset.splits[split], batches, base, recipe)
                write_tensors(path, shard, {"request": request})
            done += sum(map(len, batches))
            if progress:
                progress(done, total)
    write_tensors(out / "probes.safetensors", {"features": probe_features(base, recipe)})
    made_by = {"base_model_id": base.id, "base_revision": base.revision}
    write_json(out / "metadata.json", identity | made_by)
    return read_features(out)


def read_features(path: Path) -> Features:
    """Reads a complete features folder.

    Raises:
        ArtefactError: incomplete (``preprocess`` was interrupted), truncated or altered.
    """
    where = path / "metadata.json"
    if not where.is_file():
        raise ArtefactError(
            f"{path}: not a complete features folder (no metadata.json); "
            "run the same `pointsman preprocess` again, it goes on where it stopped"
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
            f"{path}: files that metadata.json speaks of are missing; "
            "run the same `pointsman preprocess` again, it makes them anew"
        )
    labels = LabelMap.of(metadata["class_names"], f"{where}: class_names")
    # Every shard names the request that made it, so no line of metadata.json can be changed alone.
    request = digest_json({key: metadata[key] for key in _IDENTITY})
    splits = {split: _read_split(path, split, number, request) for split, number in shards.items()}
    return Features(
        path=path,
        labels=labels,
        recipe=FeatureRecipe.of(metadata["recipe"], str(where)),
        origin=Origin.of(metadata, str(where)),
        hidden_size=int(metadata["hidden_size"]),
        splits=splits,
        probes=_read_probes(path),
    )


def probe_features(base: Base, recipe: FeatureRecipe) -> Tensor:
    """Features (probes, places, hidden) of fixed synthetic prompts, float32 on the CPU.

    They tell whether another machine, dtype or library still makes the same features. They are
    drawn by formula because real samples would put users' screens into a router's folder.
    """
    with torch.inference_mode():
        features = [extract(base, base.encode([prompt]), recipe) for prompt in probe_prompts()]
    return torch.cat(features).float().cpu()


def load_prompt(sample: RoutingSample) -> Prompt:
    """What the router reads of a sample: every turn but the assistant's, and its images."""
    paths = iter(sample.images)
    places = [(turn, next(paths)) for turn in sample.turns for part in turn.parts if part is None]
    shown = [path for turn, path in places if turn.role != "assistant"]
    return Prompt(sample.prompt, tuple(load_image(path) for path in shown))


def pool(hidden: Tensor, encoded: Encoded, pooling: Pooling) -> Tensor:
    """States (B, T, hidden) of a batch as features (B, hidden)."""
    mask = encoded["attention_mask"]
    if pooling == "last":
        positions = torch.arange(mask.shape[1], device=mask.device)
        last = (mask * positions).argmax(1)
        return hidden[torch.arange(len(hidden), device=mask.device), last]
    if pooling == "image-mean":
        mask = mask * encoded["mm_token_type_ids"]
        if not bool(mask.any(1).all()):
            raise SampleError("pooling 'image-mean' needs an image in every sample; use 'last'")
    weights = mask[..., None].float()
    return ((hidden.float() * weights).sum(1) / weights.sum(1)).to(hidden.dtype)


def probe_prompts() -> Iterator[Prompt]:
    """Fixed synthetic prompts, each with an image; the larger ones have to be resampled."""
    texts = ("Click the second option", "Pick March 14", "Type 82 into the amount field")
    sizes = ((128, 96), (150, 200), (310, 230))
    for step, (text, (width, height)) in enumerate(zip(texts, sizes, strict=True), 1):
        y, x = np.mgrid[0:height, 0:width]
        pixels = np.stack([x * 2 % 256, y * 2 % 256, (x // 16 + y // 16) % 2 * 80 * step], -1)
        yield Prompt((user_turn(text),), (Image.fromarray(pixels.astype(np.uint8)),))


_IDENTITY = (
    "format_version",
    "num_classes",
    "class_names",
    "hidden_size",
    "dtype",
    "recipe",
    "fingerprint",
    "dataset_fingerprint",
    "samples",
    "batch_tokens",
    "shard_samples",
)


def _identity(
    dataset: Dataset, base: Base, recipe: FeatureRecipe, batch_tokens: int
) -> dict[str, Any]:
    """Everything that the bytes of a shard depend on."""
    values = (
        FORMAT_VERSION,
        len(dataset.labels),
        list(dataset.labels),
        base.hidden_size,
        str(base.dtype).removeprefix("torch."),
        recipe.to_json(),
        asdict(base.fingerprint),
        dataset.fingerprint,
        {split: len(samples) for split, samples in dataset.splits.items()},
        batch_tokens,
        SHARD_SAMPLES,
    )
    return dict(zip(_IDENTITY, values, strict=True))


def _check_request(found: str | None, expected: str, out: Path) -> None:
    if found != expected:
        raise MismatchError(
            f"{out}: holds features of another dataset, base or recipe; "
            "choose another --out or delete it"
        )


def _plan(samples: Sequence[RoutingSample], base: Base, budget: int) -> list[list[list[int]]]:
    """Shards of batches of sample indices: batches of like length within ``budget`` tokens.

    Fixed by the dataset alone, so that a resumed run makes the very same batches.
    """
    lengths = [_estimated_tokens(sample, base) for sample in samples]
    order = sorted(range(len(samples)), key=lambda index: (lengths[index], index))
    shards = []
    for start in range(0, len(order), SHARD_SAMPLES):
        batches: list[list[int]] = []
        for index in order[start : start + SHARD_SAMPLES]:
            # Ascending lengths: this sample's is the length that the whole batch is padded to.
            if batches and (len(batches[-1]) + 1) * lengths[index] <= budget:
                batches[-1].append(index)
            else:
                batches.append([index])
        shards.append(batches)
    return shards


def _estimated_tokens(sample: RoutingSample, base: Base) -> int:
    merge = int(base.image_processor.merge_size) ** 2
    sizes = [image_size(Path(image)) for image in sample.images]
    patches = [base.image_processor.get_number_of_image_patches(h, w) for w, h in sizes]
    characters = sum(len(turn.text) for turn in sample.prompt)
    return int(sum(patches)) // merge + characters // 4 + 16


def _shard(
    samples: Sequence[RoutingSample], batches: list[list[int]], base: Base, recipe: FeatureRecipe
) -> dict[str, Tensor]:
    def prepare(batch: list[int]) -> Encoded:
        try:
            return base.encode([load_prompt(samples[index]) for index in batch])
        except ImageError:
            raise
        except SampleError:  # which of them? alone, the one at fault fails again
            for index in batch:
                _encode_named(base, samples[index])
            raise

    features = []
    # One batch ahead: images are decoded while the base is at work on the batch before.
    with ThreadPoolExecutor(1) as pool, torch.inference_mode():
        ahead = [pool.submit(prepare, batch) for batch in batches[:1]]
        for following in [*batches[1:], None]:
            encoded = ahead.pop().result()
            if following is not None:
                ahead.append(pool.submit(prepare, following))
            features.append(extract(base, encoded, recipe).cpu())
    index = torch.tensor([index for batch in batches for index in batch])
    labels = [_label(samples[i]) for i in index.tolist()]
    return {"features": torch.cat(features), "labels": torch.tensor(labels), "index": index}


def _encode_named(base: Base, sample: RoutingSample) -> None:
    try:
        base.encode([load_prompt(sample)])
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


_NAMES = {"fingerprint": "base", "dataset_fingerprint": "dataset"}


def _shards(identity: dict[str, Any]) -> dict[str, int]:
    """Number of shards of each split, from the sealed sample counts."""
    size = int(identity["shard_samples"])
    return {split: math.ceil(int(n) / size) for split, n in identity["samples"].items()}


def _is_whole(path: Path, shards: dict[str, int]) -> bool:
    """Whether every file that ``metadata.json`` speaks of is there."""
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
                "(class_names, recipe or base was changed); run `pointsman preprocess` again"
            )
        parts.append(tensors)
    index = torch.cat([part["index"] for part in parts])
    order = index.argsort()
    features = torch.cat([part["features"] for part in parts])[order].float()
    return features, torch.cat([part["labels"] for part in parts])[order]
