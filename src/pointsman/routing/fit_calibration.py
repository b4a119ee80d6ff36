"""Fits temperature, abstention threshold and label sets on validation."""

from dataclasses import replace
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
) -> Calibration:
    """Fits a calibration on validation: evidence of n samples, labels (n,), -1 out of scope.

    Args:
        coverage: minimum share of in-scope samples that the threshold keeps.
        log_prior: see ``Calibration``.
    """
    inside = labels != OUT_OF_SCOPE
    return Calibration(
        fit_temperature(evidence.logits[inside], labels[inside]),
        fit_threshold(evidence.scores[inside], coverage),
        coverage,
        log_prior,
    )


def with_label_sets(calibration: Calibration, right: Tensor, coverage: float) -> Calibration:
    """Adds label sets.

    Args:
        right: probabilities (n,) of the right labels of in-scope samples that chose nothing, so
            that the promise holds.
        coverage: share of in-scope requests whose label set is to contain the right label.
    """
    return replace(
        calibration, conformal=coverage, set_threshold=conformal_threshold(right, coverage)
    )


def fit_threshold(inside: Tensor, coverage: float) -> float:
    """The score below which to abstain, from the scores (n,) in scope: it keeps ``coverage``.

    Samples out of scope have no say: easy ones would leave it anywhere in an empty gap.
    """
    most = torch.quantile(inside, 1 - coverage, interpolation="lower")
    return just_below(float(most), inside)


def fit_veto(inside: Tensor, outside: Tensor, coverage: float) -> float:
    """The value below which the output for samples out of scope vetoes a request.

    It has the largest balanced accuracy (Youden, 1950) among all that keep the share ``coverage``
    of the samples in scope. Among equals, it is the strictest.

    Args:
        inside, outside: values (n,) and (m,) of samples that the score keeps.
    """
    most = torch.quantile(inside, 1 - coverage, interpolation="lower")
    tried = torch.unique(inside[inside <= most])  # ascending
    kept = (inside >= tried[:, None]).double().mean(1)
    rejected = (outside < tried[:, None]).double().sum(1) / max(1, len(outside))
    best = len(tried) - 1 - int((kept + rejected).flip(0).argmax())
    return just_below(float(tried[best]), torch.cat([inside, outside]))


def just_below(score: float, scores: Tensor) -> float:
    """Below a score by so much that rounding never decides, but not far into an empty gap."""
    lower = scores[scores < score]
    margin = 0.02 * float(scores.std(correction=0))
    return score - min(margin, (score - float(lower.max())) / 2) if len(lower) else score - margin


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
