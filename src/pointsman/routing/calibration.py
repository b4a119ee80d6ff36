"""Calibration: from a head's logits to probabilities, and when to abstain."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, Self

from torch import Tensor
from torch.nn import functional

from pointsman.errors import ConfigError


@dataclass(frozen=True)
class Calibration:
    """Temperature of the softmax, and the score below which a router abstains.

    Raises:
        ConfigError: a value is out of range.
    """

    temperature: float = 1.0
    threshold: float = 0.0
    """The lowest score that is routed."""
    coverage: float = 1.0
    """Minimum share of in-scope validation samples that ``threshold`` keeps."""
    log_prior: tuple[float, ...] = ()
    """Added to each label's scaled logit: log of its share of requests over its training share."""
    conformal: float | None = None
    """Share of in-scope requests whose label set contains the right label; None: no label sets."""
    set_threshold: float = 0.0
    """Minimum probability of a label in the set."""

    def __post_init__(self) -> None:
        in_range = self.temperature > 0 and isfinite(self.threshold) and 0 < self.coverage <= 1
        if not in_range:
            raise ConfigError(
                f"{self}: give a temperature above 0, a finite threshold and a coverage "
                "above 0 and up to 1"
            )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Reads the JSON form of ``asdict``."""
        return cls(**value | {"log_prior": tuple(value["log_prior"])})

    def probabilities(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities of logits (..., labels)."""
        scaled = logits / self.temperature
        for label, shift in enumerate(self.log_prior):  # no tensor that would have to be sent
            scaled[..., label] += shift
        return functional.softmax(scaled, dim=-1)
