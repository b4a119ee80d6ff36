"""Confidence curves: risk over coverage, and reliability."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Reliability(NamedTuple):
    """How often predictions of similar confidence were right, in equal-width confidence bins."""

    counts: Tensor
    """(bins,) number of predictions"""
    confidence: Tensor
    """(bins,) mean confidence, 0 in an empty bin"""
    accuracy: Tensor
    """(bins,) share of right predictions, 0 in an empty bin"""

    @property
    def ece(self) -> float:
        """Expected calibration error (Naeini et al., AAAI 2015): the mean gap per prediction."""
        gaps = (self.accuracy - self.confidence).abs()
        return float((gaps * self.counts).sum() / self.counts.sum().clamp(min=1))


def reliability(confidence: Tensor, correct: Tensor, bins: int = 15) -> Reliability:
    """Bins confidences (n,) from 0 to 1 and hits (n,); a bin includes its upper edge."""
    index = (confidence * bins).ceil().clamp(1, bins).long() - 1
    counts = torch.bincount(index, minlength=bins).double()
    sums = [torch.bincount(index, x.double(), minlength=bins) for x in (confidence, correct)]
    return Reliability(counts, *(total / counts.clamp(min=1) for total in sums))


class RiskCoverage(NamedTuple):
    """A curve with one point per score: requests with at least that score are routed."""

    coverage: NDArray[np.float64]
    """Share of requests that are routed, ascending to 1"""
    risk: NDArray[np.float64]
    """Share of the routed requests that are routed wrong"""

    @property
    def area(self) -> float:
        """AURC: the risk, averaged over coverages (Geifman, Uziel and El-Yaniv, ICLR 2019)."""
        return float(np.diff(self.coverage, prepend=0) @ self.risk)


def risk_coverage(scores: Sequence[float], wrong: Sequence[bool]) -> RiskCoverage:
    """The curve of requests (n,), the most confident first (El-Yaniv and Wiener, JMLR 2010).

    Args:
        scores: higher means more confident; requests with equal scores are routed together.
        wrong: whether routing the request is a mistake.
    """
    values = np.asarray(scores, float)
    order = np.argsort(-values, kind="stable")
    errors = np.cumsum(np.asarray(wrong, float)[order])
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    routed = last + 1
    return RiskCoverage(routed / len(values), errors[last] / routed)


def rejected_at(inside: Sequence[float], outside: Sequence[float], coverage: float) -> float:
    """Share of scores ``outside`` below the threshold that keeps ``coverage`` of those ``inside``.

    With 0.95 it is one minus the FPR at 95% TPR used in out-of-distribution detection.
    """
    kept = math.ceil(coverage * len(inside) - 1e-9)  # 0.95 * 20 is a little above 19
    threshold = sorted(inside)[len(inside) - kept]
    return float((np.asarray(outside, float) < threshold).mean())
