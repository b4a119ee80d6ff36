"""Route: one decision of a router."""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from pointsman.errors import AbstainedError


class Held(NamedTuple):
    """The labels that a batch's sessions hold."""

    labels: Tensor
    """(B,) int64, on the logits' device; -1 if nothing is held"""
    hysteresis: float
    """Another label takes over if its probability is larger by more than this."""


@dataclass(frozen=True)
class Route:
    """One decision."""

    label: int
    """-1 if the router abstained"""
    adapter: str | None
    """The adapter that is to answer; the fallback if the router abstained; None: the base"""
    probabilities: dict[str, float]
    """Calibrated probabilities by adapter, in label order"""
    abstained: bool
    score: float
    """How much the request resembles those that the adapters are for; see ``scores``"""
    candidates: tuple[str, ...] | None = None
    """Adapters that include the right one with the probability of ``train --conformal``, if set"""
    refused: bool = False
    """Whether the router abstained and its fallback is ``error``: no answer may be given"""
    held: bool = False
    """Whether a session kept its adapter although the router alone would have decided otherwise"""
    router_digest: str | None = field(default=None, compare=False)
    """Of the sealed router that decided; None: it was not read from a folder"""

    @property
    def confidence(self) -> float:
        return max(self.probabilities.values())

    def check_answered(self) -> None:
        """Raises ``AbstainedError`` if no answer may be given."""
        if self.refused:
            raise AbstainedError(abstained(self.score))


def abstained(score: float) -> str:
    """Why a request gets no answer, and what to do about it."""
    return (
        f"the router abstained (score {score:.2f}): the request is for none of the adapters; "
        'name one, or set fallback in the project file to "base" or an adapter'
    )
