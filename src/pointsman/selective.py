"""Selective prediction: what abstaining on the least sure requests buys."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class RiskCoverage(NamedTuple):
    """A curve; a point for each score at which the requests at least that sure are routed."""

    coverage: NDArray[np.float64]
    """Ascending, to 1: share of requests that are routed"""
    risk: NDArray[np.float64]
    """Share of those that are routed wrong"""

    @property
    def area(self) -> float:
        """AURC: the risk, averaged over coverages (Geifman, Uziel and El-Yaniv, ICLR 2019)."""
        return float(np.diff(self.coverage, prepend=0) @ self.risk)


def risk_coverage(scores: Sequence[float], wrong: Sequence[bool]) -> RiskCoverage:
    """The curve of requests (n,), the surest first (El-Yaniv and Wiener, JMLR 2010).

    Args:
        scores: the higher, the surer; equally sure requests are routed together.
        wrong: whether routing it is a mistake.
    """
    values = np.asarray(scores, float)
    order = np.argsort(-values, kind="stable")
    errors = np.cumsum(np.asarray(wrong, float)[order])
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    routed = last + 1
    return RiskCoverage(routed / len(values), errors[last] / routed)


def rejected_at(inside: Sequence[float], outside: Sequence[float], coverage: float) -> float:
    """Share of scores ``outside`` below the threshold that keeps ``coverage`` of those ``inside``.

    With 0.95 it is one minus the FPR at 95% TPR of the literature on out-of-distribution detection.
    """
    kept = math.ceil(coverage * len(inside) - 1e-9)  # 0.95 * 20 is a little above 19
    threshold = sorted(inside)[len(inside) - kept]
    return float((np.asarray(outside, float) < threshold).mean())
