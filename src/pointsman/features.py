"""Features: a reader's pooled hidden state, one forward per sample, kept in a resumable store.

The reader is the base, or a text encoder. A causal decoder's position 0 attends only to itself, so
it is the same for every sample: pooling there (``first``) carries no information and is refused,
but for encoders that read both ways. A base's default is the prompt's last real token, which has
read the images and all of the text.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from pointsman.base import Prompt
from pointsman.checkpoint import Fingerprint
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
from pointsman.sample import History, RoutingSample, routed_part, user_turn

FORMAT_VERSION = 1
SHARD_SAMPLES = 64
"""Samples of one shard, hence the most work that an interruption loses."""

Pooling = Literal["last", "mean", "image-mean", "first"]
Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""


class Reader(Protocol):
    """What turns prompts into states: the base (``Base``), or a text encoder (``TextEncoder``)."""

    @property
    def id(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def fingerprint(self) -> Fingerprint: ...
    @property
    def model(self) -> Any: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def depth(self) -> int:
        """Number of layers."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def reads_images(self) -> bool: ...
    @property
    def is_causal(self) -> bool:
        """Whether a position's state tells nothing of what follows it."""

    @property
    def normalises(self) -> bool:
        """Whether features are scaled to length 1."""

    @property
    def default_layers(self) -> tuple[int, ...]: ...
    @property
    def default_pooling(self) -> "Pooling": ...

    def estimated_tokens(self, characters: int, sizes: Sequence[tuple[int, int]]) -> int:
        """About how many tokens a text and images of these sizes (width, height) will be."""

    def encode(self, prompts: Sequence[Prompt]) -> Any:
        """A padded batch of B prompts of T tokens, with its ``attention_mask`` (B, T)."""

    def read(
        self, encoded: Any, layers: Sequence[int], keep: Callable[[int, Tensor], None]
    ) -> None:
        """One forward; ``keep`` is given each of the ascending layers with its states.

        States are (B, T, hidden).
        """


class Place(NamedTuple):
    """Where in the reader a feature is read."""

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
    """Depths, ascending: the state after this many layers, before any final norm of a base."""
    poolings: tuple[Pooling, ...] = ("last",)
    history: History = "conversation"
    """How much of a conversation is read."""

    def __post_init__(self) -> None:
        if not self.layers or list(self.layers) != sorted({*self.layers}) or self.layers[0] < 1:
            raise ConfigError(f"layers {list(self.layers)}: give ascending depths from 1")
        known = ", ".join(get_args(Pooling))
        if unknown := [name for name in self.poolings if name not in get_args(Pooling)]:
            raise ConfigError(f"unknown pooling {unknown[0]!r}; known are {known}")
        if not self.poolings or len({*self.poolings}) < len(self.poolings):
            raise ConfigError(f"poolings {list(self.poolings)}: give one or more of {known}")
        if self.history not in get_args(History):
            known = ", ".join(get_args(History))
            raise ConfigError(f"unknown history {self.history!r}; known are {known}")

    @classmethod
    def default(cls, reader: Reader) -> "FeatureRecipe":
        """The depths and the pooling that suit a reader."""
        return cls(reader.default_layers, (reader.default_pooling,))

    def check_reader(self, reader: Reader) -> None:
        """Raises ``ConfigError`` on a layer or a pooling that ``reader`` has not."""
        if self.layers[-1] > reader.depth:
            raise ConfigError(
                f"layer {self.layers[-1]}: {reader.id} has layers 1 to {reader.depth}"
            )
        if "first" in self.poolings and reader.is_causal:
            raise ConfigError(
                "pooling 'first' is refused: position 0 of a causal base or model attends only to "
                "itself, so its state is the same for every sample; use 'last'"
            )
        if "image-mean" in self.poolings and not reader.reads_images:
            raise ConfigError(f"pooling 'image-mean': {reader.id} reads text alone; use 'mean'")

    def __str__(self) -> str:
        layers = "+".join(map(str, self.layers))
        return f"layer{'s' * (len(self.layers) > 1)} {layers} ({'+'.join(self.poolings)})"

    @property
    def places(self) -> tuple[Place, ...]:
        """Where features are read, one vector each, in the order in which they are stored."""
        return tuple(Place(layer, name) for layer in self.layers for name in self.poolings)

    @classmethod
    def of(cls, value: Any, where: str) -> "FeatureRecipe":
        """Reads the form of ``to_json``. Raises ``ConfigError`` naming ``where``."""
        try:
            layers, poolings = tuple(map(int, value["layers"])), tuple(value["poolings"])
            return cls(layers, poolings, value["history"])
        except (KeyError, TypeError, ValueError):
            raise ConfigError(f"{where}: {value!r} is not a feature recipe") from None

    def to_json(self) -> dict[str, Any]:
        return {
            "layers": list(self.layers),
            "poolings": list(self.poolings),
            "history": self.history,
        }


@dataclass(frozen=True)
class Origin:
    """What made a set of features, hence what a router trained on them needs."""

    base_model_id: str
    """Hub id or folder of the base, or of the text encoder."""
    base_revision: str | None
    fingerprint: Fingerprint

    @property
    def is_encoder(self) -> bool:
        """Whether a text encoder made them, not the base."""
        return bool(self.fingerprint.reading)

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
    depth: int
    """Layers of the reader"""
    splits: dict[str, tuple[Tensor, Tensor]]
    """Split to (features (n, places, hidden) float32, labels (n,) int64), in dataset order"""
    probes: Tensor
    """(probes, places, hidden) float32"""


def extract(reader: Reader, encoded: Any, recipe: FeatureRecipe) -> Tensor:
    """Features of a batch (B, places, hidden), stopping at the deepest layer of the recipe."""
    pooled: dict[Place, Tensor] = {}

    def keep(depth: int, states: Tensor) -> None:
        for name in recipe.poolings:
            pooled[Place(depth, name)] = pool(states, encoded, name)

    reader.read(encoded, recipe.layers, keep)
    features = torch.stack([pooled[place] for place in recipe.places], dim=1)
    return functional.normalize(features, dim=-1) if reader.normalises else features


def preprocess(
    dataset: Dataset,
    reader: Reader,
    out: Path,
    recipe: FeatureRecipe | None = None,
    *,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> Features:
    """Writes the features of every sample of a dataset to ``out``; goes on where it was stopped.

    Args:
        reader: the base, or a text encoder, which leaves images unread.
        recipe: by default ``FeatureRecipe.default``.
        batch_tokens: padded tokens of one batch; by default 16,384, and 1,024 on a CPU, where
            larger batches only spill its caches.

    Raises:
        ArtefactError: ``out`` holds something else or cannot be written.
        MismatchError: ``out`` holds features of another dataset, reader or recipe.
        ConfigError: a layer or a pooling that the reader has not.
        SampleError: a sample or an image that cannot be used.
    """
    recipe = recipe or FeatureRecipe.default(reader)
    recipe.check_reader(reader)
    batch_tokens = batch_tokens or (1024 if reader.device.type == "cpu" else 16384)
    identity = _identity(dataset, reader, recipe, batch_tokens)
    request = digest_json(identity)
    refuse_other(out, "features")
    if (out / "metadata.json").is_file():
        found = read_object(out / "metadata.json")
        _check_identity(found, identity, out)
        if _is_whole(out, _shards(identity)):
            return read_features(out)
    plan = {
        split: _plan([_length(sample, reader, recipe) for sample in samples], batch_tokens)
        for split, samples in dataset.splits.items()
    }
    total, done = sum(map(len, dataset.splits.values())), 0
    for split, shards in plan.items():
        for number, batches in enumerate(shards):
            path = out / _shard_name(split, number)
            if path.is_file():
                _check_request(read_tensors_and_metadata(path)[1].get("request"), request, out)
            else:
                shard = _shard(dataset.splits[split], batches, reader, recipe)
                write_tensors(path, shard, {"request": request})
            done += sum(map(len, batches))
            if progress:
                progress(done, total)
    write_tensors(out / "probes.safetensors", {"features": probe_features(reader, recipe)})
    made_by = {"base_model_id": reader.id, "base_revision": reader.revision}
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
        depth=int(metadata["depth"]),
        splits=splits,
        probes=_read_probes(path),
    )


def probe_features(reader: Reader, recipe: FeatureRecipe) -> Tensor:
    """Features (probes, places, hidden) of fixed synthetic prompts, float32 on the CPU.

    They tell whether another machine, dtype or library still makes the same features. They are
    drawn by formula because real samples would put users' screens into a router's folder.
    """
    with torch.inference_mode():
        features = [extract(reader, reader.encode([p]), recipe) for p in probe_prompts()]
    return torch.cat(features).float().cpu()


def load_prompt(
    sample: RoutingSample, history: History = "conversation", *, images: bool = True
) -> Prompt:
    """What the router reads of a sample, see ``sample.routed_part``.

    Args:
        images: False reads no image file, for who reads text alone; the turns show none.
    """
    turns, paths = routed_part(sample.turns, sample.images, history)
    if images:
        return Prompt(turns, tuple(load_image(path) for path in paths))
    return Prompt(tuple(replace(turn, parts=(turn.text,)) for turn in turns), ())


def pool(hidden: Tensor, encoded: Mapping[str, Any], pooling: Pooling) -> Tensor:
    """States (B, T, hidden) of a batch as features (B, hidden)."""
    mask: Tensor = encoded["attention_mask"]
    if pooling in ("first", "last"):
        positions = torch.arange(mask.shape[1], device=mask.device)
        at = mask.argmax(1) if pooling == "first" else (mask * positions).argmax(1)
        return hidden[torch.arange(len(hidden), device=mask.device), at]
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
        str(reader.dtype).removeprefix("torch."),
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
    """Shards of batches of sample indices: batches of like length within ``budget`` tokens.

    Fixed by the dataset alone, so that a resumed run makes the very same batches.
    """
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
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


def _length(sample: RoutingSample, reader: Reader, recipe: FeatureRecipe) -> int:
    """About how many tokens a sample will be."""
    turns, images = routed_part(sample.turns, sample.images, recipe.history)
    sizes = [image_size(Path(image)) for image in images] if reader.reads_images else []
    return reader.estimated_tokens(sum(len(turn.text) for turn in turns), sizes)


def _shard(
    samples: Sequence[RoutingSample],
    batches: list[list[int]],
    reader: Reader,
    recipe: FeatureRecipe,
) -> dict[str, Tensor]:
    def load(index: int) -> Prompt:
        return load_prompt(samples[index], recipe.history, images=reader.reads_images)

    def prepare(batch: list[int]) -> Any:
        try:
            return reader.encode([load(index) for index in batch])
        except ImageError:
            raise
        except SampleError:  # which of them? alone, the one at fault fails again
            for index in batch:
                with _named(samples[index]):
                    reader.encode([load(index)])
            raise

    features = []
    # One batch ahead: images are decoded while the reader is at work on the batch before.
    with ThreadPoolExecutor(1) as pool, torch.inference_mode():
        ahead = [pool.submit(prepare, batch) for batch in batches[:1]]
        for following in [*batches[1:], None]:
            encoded = ahead.pop().result()
            if following is not None:
                ahead.append(pool.submit(prepare, following))
            features.append(extract(reader, encoded, recipe).cpu())
    index = torch.tensor([index for batch in batches for index in batch])
    labels = [_label(samples[i]) for i in index.tolist()]
    return {"features": torch.cat(features), "labels": torch.tensor(labels), "index": index}


@contextmanager
def _named(sample: RoutingSample) -> Iterator[None]:
    """Errors name the sample."""
    try:
        yield
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
                "(class_names, recipe or reader was changed); run `pointsman preprocess` again"
            )
        parts.append(tensors)
    index = torch.cat([part["index"] for part in parts])
    order = index.argsort()
    features = torch.cat([part["features"] for part in parts])[order].float()
    return features, torch.cat([part["labels"] for part in parts])[order]
