"""Fits temperature, abstention threshold and label sets on validation."""

from math import floor

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from pointsman.labels import OUT_OF_SCOPE
from pointsman.routing.calibration import Calibration
from pointsman.routing.scores import Evidence


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
        coverage: minimum share of in-scope samples that the threshold keeps.
        log_prior: see ``Calibration``.
        conformal: share of in-scope samples whose label sets are to contain the right label.
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
    """The score below which to abstain, from the scores (n,) in scope and (m,) out of scope.

    It keeps at least ``coverage`` of the samples in scope. With samples out of scope, it is the
    threshold with the largest balanced accuracy (Youden, 1950) among all that keep that share.
    """
    most = torch.quantile(inside, 1 - coverage, interpolation="lower")
    if not len(outside):
        return halfway_below(float(most), inside)
    tried = torch.unique(inside[inside <= most])  # ascending
    kept = (inside >= tried[:, None]).double().mean(1)
    rejected = (outside < tried[:, None]).double().mean(1)
    # Among equals, the last one rejects most.
    best = len(tried) - 1 - int((kept + rejected).flip(0).argmax())
    return halfway_below(float(tried[best]), torch.cat([inside, outside]))


def halfway_below(score: float, scores: Tensor) -> float:
    """Halfway to the next lower score, so that rounding never decides about a sample."""
    lower = scores[scores < score]
    below = float(lower.max()) if len(lower) else score - 0.02 * float(scores.std(correction=0))
    return (score + below) / 2


def conformal_threshold(right: Tensor, coverage: float) -> float:
    """The minimum probability of a label in a set, from those of n samples' right labels (n,).

    Split conformal prediction with the least ambiguous sets (Sadinle et al., JASA 2019): for a
    sample from the same distribution, the set contains its label with at least this probability.
    """
    rank = floor((1 - coverage) * (len(right) + 1) + 1e-9)
    # Too few samples to leave any label out.
    return 0.0 if rank < 1 else float(right.sort().values[rank - 1])


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the lowest negative log-likelihood (Guo et al., ICML 2017).

    Targets are smoothed by two samples, as in Platt scaling (Platt, 1999): otherwise a head that is
    right on all of a few samples would drive the temperature to 0.
    """
    smoothing = 2 / (len(labels) + 2)

    def loss(log_temperature: float) -> float:
        scaled = logits.double() / float(torch.tensor(log_temperature).exp())
        return float(functional.cross_entropy(scaled, labels, label_smoothing=smoothing))

    bound = float(torch.tensor(10.0).log())
    return float(torch.tensor(minimize_scalar(loss, bounds=(-bound, bound)).x).exp())
