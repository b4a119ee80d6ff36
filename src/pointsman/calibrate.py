"""Calibration: what a head's logits are worth, and when not to trust them."""

from dataclasses import dataclass
from math import floor, isfinite
from typing import Any, NamedTuple

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from pointsman.errors import ConfigError
from pointsman.labels import OUT_OF_SCOPE
from pointsman.scores import Evidence


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
    def of(cls, value: dict[str, Any]) -> "Calibration":
        """Reads the form of ``asdict`` as JSON has it."""
        return cls(**value | {"log_prior": tuple(value["log_prior"])})

    def probabilities(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities of logits (..., labels)."""
        scaled = logits / self.temperature
        for label, shift in enumerate(self.log_prior):  # no tensor that would have to be sent
            scaled[..., label] += shift
        return functional.softmax(scaled, dim=-1)


def calibrate(
    evidence: Evidence,
    labels: Tensor,
    coverage: float,
    *,
    log_prior: tuple[float, ...] = (),
    conformal: float | None = None,
) -> Calibration:
    """Fits a calibration on validation: evidence of n samples, labels (n,), -1 out of scope.

    Args:
        coverage: share of samples in scope that the threshold keeps at least.
        log_prior: see ``Calibration``.
        conformal: share of samples in scope whose label sets are to hold the right label.
    """
    inside = labels != OUT_OF_SCOPE
    logits, truth = evidence.logits[inside], labels[inside]
    temperature = fit_temperature(logits, truth)
    shifted = Calibration(temperature, log_prior=log_prior)
    set_threshold = 0.0
    if conformal is not None:
        right = shifted.probabilities(logits).gather(1, truth[:, None])[:, 0]
        set_threshold = conformal_threshold(right, conformal)
    return Calibration(
        temperature,
        fit_threshold(evidence.scores[inside], evidence.scores[~inside], coverage),
        coverage,
        log_prior,
        conformal,
        set_threshold,
    )


def fit_threshold(inside: Tensor, outside: Tensor, coverage: float) -> float:
    """The score (n,) and (m,) under which to abstain.

    It keeps ``coverage`` of the samples in scope. Where there are samples out of scope, more are
    kept if that loses less than it wins: of all thresholds that keep at least so many, the one of
    largest balanced accuracy (Youden, 1950).
    """
    most = torch.quantile(inside, 1 - coverage, interpolation="lower")
    if not len(outside):
        return _under(float(most), inside)
    tried = torch.unique(inside[inside <= most])  # ascending
    kept = (inside >= tried[:, None]).double().mean(1)
    rejected = (outside < tried[:, None]).double().mean(1)
    # The last of equals: the one that rejects most.
    best = len(tried) - 1 - int((kept + rejected).flip(0).argmax())
    return _under(float(tried[best]), torch.cat([inside, outside]))


def _under(score: float, scores: Tensor) -> float:
    """Halfway to the next lower score: no rounding is to decide what becomes of a sample."""
    lower = scores[scores < score]
    below = float(lower.max()) if len(lower) else score - 0.02 * float(scores.std(correction=0))
    return (score + below) / 2


def conformal_threshold(right: Tensor, coverage: float) -> float:
    """The least probability of a label in a set, from those of n samples' right labels (n,).

    Split conformal prediction with the least ambiguous sets (Sadinle et al., JASA 2019): the set of
    a sample that comes from where these come from holds its label with at least this probability.
    """
    rank = floor((1 - coverage) * (len(right) + 1) + 1e-9)
    # Too few samples to leave any label out.
    return 0.0 if rank < 1 else float(right.sort().values[rank - 1])


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature of least negative log-likelihood (Guo et al., ICML 2017).

    Targets are smoothed by two samples, as in Platt scaling (Platt, 1999): a head that is right on
    each of few samples would otherwise drive the temperature to 0.
    """
    smoothing = 2 / (len(labels) + 2)

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
