"""What an exported head reads, and how it detects other features.

The original scripts pooled at position 0, whose state is the same for every request. A head cannot
see where its features come from, but it can compare them with features that are known to be right:
the router's probes, which are stored with the head's weights.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pointsman.errors import ConfigError, MismatchError
from pointsman.models.features import FeatureRecipe, Place, pool
from pointsman.models.states import EncoderOutput

KEY = "reads"
"""The key in a state dict's metadata and in a ``.pt`` checkpoint for what the head reads."""
FARTHEST = 3.0
"""Features this many times longer or shorter than all examples are refused."""
ALIKE = 0.55
"""Directions are compared only if the examples' own cosines are at least this."""
SHARE = 0.4
"""Features are refused if their best cosine is below this share of the examples' own smallest."""
SAME, REPEATS = 0.01, 4
"""A warning is given if ``REPEATS`` features in a row differ by at most ``SAME`` of their norm."""

_LINES = {
    "last": "outputs.hidden_states[{layer}][:, -1, :]",
    "mean": "(outputs.hidden_states[{layer}] * attention_mask[..., None]).sum(1)"
    " / attention_mask.sum(1, keepdim=True)",
    "image-mean": "outputs.hidden_states[{layer}][input_ids == image_token_id]"
    ".mean(0, keepdim=True)",
    "first": "outputs.hidden_states[{layer}][:, 0, :]",
}
"""The features of one request, or of a batch that is padded on the left."""


class Reads:
    """What a head reads, if it is known, with correct example features (examples, features)."""

    def __init__(self, recipe: FeatureRecipe | None = None, examples: Tensor | None = None):
        self.recipe = recipe
        self.examples = examples
        self._anchor: Tensor | None = None
        self._repeats = 0

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Reads":
        """Reads a state dict's own metadata; most state dicts have none."""
        metadata = getattr(state, "_metadata", None) or {}
        found = metadata.get("", {}).get(KEY)
        if found is None:
            return cls()
        return cls(FeatureRecipe.from_json(found, KEY), found["examples"])

    def to_metadata(self) -> dict[str, Any]:
        """The form of ``from_state``: plain values and a tensor."""
        assert self.recipe is not None
        return self.recipe.to_json() | {"examples": self.examples}

    def to_json(self) -> dict[str, Any]:
        """The form for people, in a ``.pt`` checkpoint."""
        assert self.recipe is not None
        return self.recipe.to_json() | {"line": self.line}

    @property
    def places(self) -> int:
        """The number of hidden states that make up its features."""
        return 1 if self.recipe is None else len(self.recipe.places)

    @property
    def line(self) -> str:
        """A line of Python that computes the features from a base's hidden states."""
        assert self.recipe is not None
        parts = [_LINES[place.pooling].format(layer=place.layer) for place in self.recipe.places]
        whole = parts[0] if len(parts) == 1 else f"torch.cat([{', '.join(parts)}], dim=-1)"
        return f"hidden = {whole}"

    def features(self, output: EncoderOutput) -> Tensor:
        """Features (B, features) of an encoder's output. Raises ``ConfigError`` if unknown."""
        if self.recipe is None:
            raise ConfigError(
                "this head does not say what it reads; give it features (B, hidden), or retrain "
                "it with `pointsman train`"
            )
        encoded = {
            "attention_mask": output.attention_mask,
            "mm_token_type_ids": output.mm_token_type_ids,
        }
        pooled = [
            pool(_states(output, place), encoded, place.pooling) for place in self.recipe.places
        ]
        return torch.cat(pooled, dim=-1)

    def check(self, features: Tensor, size: int) -> None:
        """Refuses features (B, features) that are not what a head of ``size`` was trained on.

        Warns if several in a row are the same.

        Raises:
            MismatchError: the size is wrong, or the features are unlike all examples.
        """
        if features.shape[-1] != size:
            raise MismatchError(
                f"{features.shape[-1]} features for a head of {size}{self._instead}"
            )
        if not len(features):
            return
        rows = features.detach().float()
        if self.examples is not None and not self._is_like_examples(rows):
            raise MismatchError(
                f"these features are not what the head was trained on{self._instead}"
            )
        self._watch(rows)

    @property
    def _instead(self) -> str:
        if self.recipe is None:
            return "; give it what it was trained on"
        places = ", ".join(map(str, self.recipe.places))
        return f": it reads {places}; in place of `hidden_states[-1][:, 0, :]` write `{self.line}`"

    def _is_like_examples(self, rows: Tensor) -> bool:
        """Whether any of the rows (B, features) could come from the examples' place."""
        assert self.examples is not None
        examples = self.examples.to(rows)
        lengths, known = rows.norm(dim=-1), examples.norm(dim=-1)
        likely = (lengths * FARTHEST >= known.min()) & (lengths <= known.max() * FARTHEST)
        directions = functional.normalize(examples, dim=-1)
        own = (directions @ directions.mT).min()
        if own >= ALIKE:
            cosines = functional.normalize(rows, dim=-1) @ directions.mT
            likely &= cosines.amax(-1) >= own * SHARE
        return bool(likely.any())

    def _watch(self, rows: Tensor) -> None:
        """Counts identical features in a row, and warns if there are many."""
        anchor = rows[-1] if self._anchor is None else self._anchor.to(rows)
        same = (rows - anchor).norm(dim=-1) <= SAME * anchor.norm()
        if not bool(same.all()):
            self._anchor, self._repeats = rows[-1], 1
            return
        self._anchor, self._repeats = anchor, self._repeats + len(rows)
        if self._repeats >= REPEATS:
            warnings.warn(
                f"{self._repeats} requests in a row gave the head the same features; if the "
                "requests differed, these are states of position 0, which a causal base makes the "
                "same for every image and text: pool at the last token and retrain",
                stacklevel=4,
            )
            self._repeats = 1


def _states(output: EncoderOutput, place: Place) -> Tensor:
    if place.layer >= len(output.hidden_states) - 1:
        raise ConfigError(
            f"the head reads {place} before the final norm, which hidden_states do not hold; "
            "use Router.route"
        )
    return output.hidden_states[place.layer]
