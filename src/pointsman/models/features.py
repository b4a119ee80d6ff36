"""Features: a reader's pooled hidden state, and the recipe that makes it.

The reader is the base, or a text encoder. A causal decoder's position 0 attends only to itself, so
it is the same for every sample. Pooling there (``first``) carries no information and is refused,
except for bidirectional encoders. A base's default is the prompt's last real token, which attends
to the images and all of the text.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, Self, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from pointsman.conversation import History, Prompt, user_turn
from pointsman.errors import ArtefactError, ConfigError, SampleError
from pointsman.models.checkpoint import Fingerprint

Pooling = Literal["last", "mean", "image-mean", "first"]


class Reader(Protocol):
    """Turns prompts into states: the base (``Base``), or a text encoder (``TextEncoder``)."""

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
    def precision(self) -> str:
        """The dtype of its weights, see ``checkpoint.Dtype``."""

    @property
    def depth(self) -> int:
        """Number of layers."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def reads_images(self) -> bool: ...
    @property
    def is_causal(self) -> bool:
        """Whether a position's state is independent of what follows it."""

    @property
    def normalises(self) -> bool:
        """Whether features are scaled to length 1."""

    @property
    def default_layers(self) -> tuple[int, ...]: ...
    @property
    def default_pooling(self) -> Pooling: ...

    def estimated_tokens(self, characters: int, sizes: Sequence[tuple[int, int]]) -> int:
        """An estimate of the tokens of a text and images of these sizes (width, height)."""

    def without_adapters(self) -> AbstractContextManager[None]:
        """Switches all adapters off inside the block."""

    def prepare(self, prompts: Sequence[Prompt]) -> Any:
        """A padded batch of B prompts of T tokens on the host; thread-safe."""

    def on_device(self, *prepared: Any) -> Any:
        """Batches that ``prepare`` made, joined on the reader's device."""

    def encode(self, prompts: Sequence[Prompt]) -> Any:
        """A padded batch of B prompts of T tokens, with its ``attention_mask`` (B, T)."""

    def read(
        self, encoded: Any, layers: Sequence[int], keep: Callable[[int, Tensor], None]
    ) -> None:
        """One forward; ``keep`` is called with each of the ascending layers and its states.

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
    """How features are made. Training and serving must use the same recipe.

    Raises:
        ConfigError: there is no layer, a layer is below 1, or a pooling or history is invalid.
    """

    layers: tuple[int, ...]
    """Ascending depths: the state after this many layers, before any final norm of a base."""
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
    def default(cls, reader: Reader) -> Self:
        """The default depths and pooling for a reader."""
        return cls(reader.default_layers, (reader.default_pooling,))

    def check_reader(self, reader: Reader) -> None:
        """Raises ``ConfigError`` on a layer or a pooling that ``reader`` lacks."""
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
        """The feature locations, one vector each, in storage order."""
        return tuple(Place(layer, name) for layer in self.layers for name in self.poolings)

    def pool(self, states: Tensor, encoded: Mapping[str, Any], *, normalise: bool) -> Tensor:
        """One layer's states as features, one per pooling.

        Args:
            states: (B, T, hidden), from one of the recipe's layers.
            encoded: the batch that was read.
            normalise: whether features are scaled to length 1, as the reader says.

        Returns:
            Features (B, poolings, hidden); those of all layers, concatenated, follow the order of
            the recipe's places.

        Raises:
            SampleError: the pooling is ``image-mean`` and a prompt has no image.
        """
        features = torch.stack([pool(states, encoded, name) for name in self.poolings], dim=1)
        return functional.normalize(features, dim=-1) if normalise else features

    @classmethod
    def from_json(cls, value: Any, where: str) -> Self:
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
    """The model that made a set of features, hence the one that a router trained on them needs."""

    base_model_id: str
    """Hub id or folder of the base, or of the text encoder."""
    base_revision: str | None
    fingerprint: Fingerprint

    @property
    def is_encoder(self) -> bool:
        """Whether a text encoder made them, instead of the base."""
        return bool(self.fingerprint.reading)

    @classmethod
    def from_json(cls, value: Any, where: str) -> Self:
        try:
            fingerprint = Fingerprint(**value["fingerprint"])
            return cls(value["base_model_id"], value["base_revision"], fingerprint)
        except (KeyError, TypeError):
            raise ArtefactError(f"{where}: does not say which base made it") from None


def extract(reader: Reader, encoded: Any, recipe: FeatureRecipe) -> Tensor:
    """Features of a batch (B, places, hidden), stopping at the deepest layer of the recipe."""
    pooled: dict[int, Tensor] = {}

    def keep(depth: int, states: Tensor) -> None:
        pooled[depth] = recipe.pool(states, encoded, normalise=reader.normalises)

    reader.read(encoded, recipe.layers, keep)
    return torch.cat([pooled[depth] for depth in recipe.layers], dim=1)


def probe_features(reader: Reader, recipe: FeatureRecipe) -> Tensor:
    """Features (probes, places, hidden) of fixed synthetic prompts, float32 on the CPU.

    They show whether another machine, dtype or library still makes the same features. They are
    generated by formula, because real samples would put users' screens into a router's folder.
    """
    with torch.inference_mode():
        features = [extract(reader, reader.encode([p]), recipe) for p in probe_prompts()]
    return torch.cat(features).float().cpu()


def pool(hidden: Tensor, encoded: Mapping[str, Any], pooling: Pooling) -> Tensor:
    """Pools states (B, T, hidden) of a batch into vectors (B, hidden)."""
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
    """Fixed synthetic prompts, each with an image; the larger images are resampled."""
    texts = ("Click the second option", "Pick March 14", "Type 82 into the amount field")
    sizes = ((128, 96), (150, 200), (310, 230))
    for step, (text, (width, height)) in enumerate(zip(texts, sizes, strict=True), 1):
        y, x = np.mgrid[0:height, 0:width]
        pixels = np.stack([x * 2 % 256, y * 2 % 256, (x // 16 + y // 16) % 2 * 80 * step], -1)
        yield Prompt((user_turn(text),), (Image.fromarray(pixels.astype(np.uint8)),))
