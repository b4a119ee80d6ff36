"""Calibration: what a head's logits are worth, and when not to trust them."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from pointsman.errors import ConfigError
from pointsman.labels import OUT_OF_SCOPE


@dataclass(frozen=True)
class Calibration:
    """Temperature of the softmax, and the confidence under which a router abstains.

    Raises:
        ConfigError: a value out of its range.
    """

    temperature: float = 1.0
    threshold: float = 0.0
    """Least confidence, the largest calibrated probability, that is routed."""
    coverage: float = 1.0
    """Share of in-scope validation samples that ``threshold`` was chosen to keep."""

    def __post_init__(self) -> None:
        in_range = self.temperature > 0 and 0 <= self.threshold <= 1 and 0 < self.coverage <= 1
        if not in_range:
            raise ConfigError(
                f"{self}: give a temperature above 0, a threshold from 0 to 1 and a coverage "
                "above 0 and up to 1"
            )

    def probabilities(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities of logits (..., labels)."""
        return functional.softmax(logits / self.temperature, dim=-1)


def calibrate(logits: Tensor, labels: Tensor, coverage: float) -> Calibration:
    """Fits a calibration on validation logits (n, labels) and labels (n,).

    Out-of-scope samples (-1) are left out: the threshold keeps ``coverage`` of the others.
    """
    logits, labels = logits[labels != OUT_OF_SCOPE], labels[labels != OUT_OF_SCOPE]
    temperature = fit_temperature(logits, labels)
    confidence = Calibration(temperature).probabilities(logits).max(-1).values
    threshold = torch.quantile(confidence, 1 - coverage, interpolation="lower")
    return Calibration(temperature, min(1.0, float(threshold)), coverage)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature of least negative log-likelihood (Guo et al., ICML 2017).

    Targets are smoothed as in Platt scaling (Platt, 1999): a head that is right on each of few
    samples would otherwise drive the temperature to 0.
    """
    classes = logits.shape[-1]
    smoothing = classes / (len(labels) + classes)

    def loss(log_temperature: float) -> float:
        scaled = logits.double() / float(torch.tensor(log_temperature).exp())
        return float(functional.cross_entropy(scaled, labels, label_smoothing=smoothing))

    bound = float(torch.tensor(10.0).log())
    return float(torch.tensor(minimize_scalar(loss, bounds=(-bound, bound)).x).exp())


class Reliability(NamedTuple):
    """How often predictions of like confidence were right, in equal-width bins of confidence."""

    counts: Tensor
    """(bins,) predictions"""
    confidence: Tensor
    """(bins,) mean confidence, 0 in an empty bin"""
    accuracy: Tensor
    """(bins,) share that was right, 0 in an empty bin"""

    @property
    def ece(self) -> float:
        """Expected calibration error (Naeini et al., AAAI 2015): the mean gap of a prediction."""
        gaps = (self.accuracy - self.confidence).abs()
        return float((gaps * self.counts).sum() / self.counts.sum().clamp(min=1))


def reliability(confidence: Tensor, correct: Tensor, bins: int = 15) -> Reliability:
    """Bins of confidences (n,) from 0 to 1 and hits (n,); a bin's upper edge belongs to it."""
    index = (confidence * bins).ceil().clamp(1, bins).long() - 1
    counts = torch.bincount(index, minlength=bins).double()
    sums = [torch.bincount(index, x.double(), minlength=bins) for x in (confidence, correct)]
    return Reliability(counts, *(total / counts.clamp(min=1) for total in sums))
