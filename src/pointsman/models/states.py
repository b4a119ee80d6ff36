"""All hidden states of a batch, in the form that the original scripts expect of their encoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pointsman.errors import ConfigError


class LayerStates(Tensor):
    """States (B, T, hidden) of one layer, as a tensor that refuses reads at position 0.

    Raises:
        ConfigError: it is indexed at position 0, as in ``states[:, 0, :]``.
    """

    # What is computed from it is a plain tensor.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __getitem__(self, index: Any) -> Any:
        if _is_position_0(index):
            raise ConfigError(
                "position 0 of a causal base reads nothing but itself: its state is the same for "
                "every image and text; read the last token, `hidden_states[layer][:, -1, :]`, at "
                "the layer that the router reads (`pointsman export` prints the line)"
            )
        return super().__getitem__(index)


def _is_position_0(index: Any) -> bool:
    """Whether an index into (B, T, hidden) selects only position 0."""
    if not isinstance(index, tuple) or len(index) < 2:
        return False
    position = index[-2] if index[0] is Ellipsis else index[1]
    return position in (slice(1), slice(0, 1)) if isinstance(position, slice) else _is_0(position)


def _is_0(position: Any) -> bool:
    return isinstance(position, int) and position == 0


@dataclass(frozen=True)
class EncoderOutput:
    """The base's output for a batch of B prompts of T tokens."""

    hidden_states: tuple[Tensor, ...]
    """(B, T, hidden): the input of each layer, then the model's normed output"""
    attention_mask: Tensor
    """(B, T)"""
    mm_token_type_ids: Tensor
    """(B, T), 1 on image tokens"""

    @classmethod
    def of(cls, states: tuple[Tensor, ...], inputs: Mapping[str, Any]) -> "EncoderOutput":
        """States that refuse position 0, with the masks of their inputs."""
        guarded = tuple(state.as_subclass(LayerStates) for state in states)
        return cls(guarded, inputs["attention_mask"], inputs["mm_token_type_ids"])

    @property
    def last_hidden_state(self) -> Tensor:
        return self.hidden_states[-1]
