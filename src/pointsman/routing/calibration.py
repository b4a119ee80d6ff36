"""Calibration: what a head's logits are worth, and when not to trust them."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, Self

from torch import Tensor
from torch.nn import functional

from pointsman.errors import ConfigError


@dataclass(frozen=True)
class Calibration:
    """Temperature of the softmax, and the score under which a router abstains.

    Raises:
        ConfigError: a value out of its range.
    """

    temperature: float = 1.0
    threshold: float = 0.0
    """Least score that is routed."""
    coverage: float = 1.0
    """Share of in-scope validation samples that ``threshold`` keeps at least."""
    log_prior: tuple[float, ...] = ()
    """Added to each label's scaled logit: log of its share of requests over that in training."""
    conformal: float | None = None
    """Share of requests in scope whose label set holds the right label; None: no label sets."""
    set_threshold: float = 0.0
    """Least probability of a label in the set."""

    def __post_init__(self) -> None:
        in_range = self.temperature > 0 and isfinite(self.threshold) and 0 < self.coverage <= 1
        if not in_range:
            raise ConfigError(
                f"{self}: give a temperature above 0, a finite threshold and a coverage "
                "above 0 and up to 1"
            )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Reads the form of ``asdict`` as JSON has it."""
        return cls(**value | {"log_prior": tuple(value["log_prior"])})

    def probabilities(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities of logits (..., labels)."""
        scaled = logits / self.temperature
        for label, shift in enumerate(self.log_prior):  # no tensor that would have to be sent
            scaled[..., label] += shift
        return functional.softmax(scaled, dim=-1)
