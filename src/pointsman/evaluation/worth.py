"""Worth: whether routing pays on this data, compared with every way to answer without it.

A share of answers is reported with the 95% interval of a percentile bootstrap (Efron, Annals of
Statistics 1979), a difference with that of the paired differences: what makes a request hard for
every adapter cancels out. Requests about one picture are drawn together, since they are not
independent.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap

Role = Literal["routed", "oracle", "base", "wrong", "frequent", "multitask"]
"""Answers by the routed adapter (abstained: the base), the sample's own adapter, the base, or the
adapter of the next label; to measure the worth of routing, also by the most frequent adapter and by
one that was trained on everything."""
Verdict = Literal["pays", "loses", "not shown"]
ALTERNATIVES: tuple[Role, ...] = ("routed", "oracle", "frequent", "multitask", "base")
"""Roles that a user could choose for every request, and the oracle as the upper bound."""
_TITLES: dict[Verdict, str] = {
    "pays": "Routing pays",
    "loses": "Routing loses",
    "not shown": "Not shown that routing pays",
}
FEWEST = 20
"""With fewer pictures no verdict is given: the bootstrap intervals would be too narrow."""
_RESAMPLES = 9999
_SEED = 0
_BATCH_VALUES = 2**22
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value and its 95% confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Alternative:
    """One way to answer every request."""

    success: Interval
    """Share of answers that are right"""
    gain: Interval | None
    """What routing adds to that share; None for routing itself"""
    seconds: Interval | None
    """Median seconds of a single request; None if nothing was timed"""
    time_ratio: Interval | None
    """Median ratio of the routed time to this way's time, request by request"""


@dataclass(frozen=True)
class Worth:
    """What routing is worth on samples in scope that have a bbox."""

    n: int
    pictures: int
    """Number of different pictures: requests about one picture are not independent"""
    timed: int
    frequent: str
    """The most frequent adapter; among equals, the first in label order"""
    ways: dict[Role, Alternative]

    @property
    def rival(self) -> Role:
        """The best alternative to routing; among equals, the first of ``ALTERNATIVES``."""
        rivals = [role for role in self.ways if role not in ("routed", "oracle")]
        return max(rivals, key=lambda role: self.ways[role].success.value)

    @property
    def verdict(self) -> Verdict:
        """Pays: better than every rival, by the interval. Loses: worse than one of them."""
        gains = [way.gain for role, way in self.ways.items() if way.gain and role != "oracle"]
        if self.pictures < FEWEST:
            return "not shown"
        if any(gain.high < 0 for gain in gains):
            return "loses"
        return "pays" if all(gain.low > 0 for gain in gains) else "not shown"

    @property
    def sentence(self) -> str:
        """The verdict for people, with the figures behind it."""
        return f"{self.title}: {self.evidence}"

    @property
    def title(self) -> str:
        """The verdict alone."""
        return _TITLES[self.verdict]

    @property
    def evidence(self) -> str:
        """The figures behind the verdict."""
        routed, rival = self.ways["routed"], self.ways[self.rival]
        assert rival.gain is not None
        shares = (
            f"{_share(routed.success)} of {self.n} answers right against "
            f"{_share(rival.success)} with {self._name(self.rival)}"
        )
        if self.verdict == "loses":
            return f"{shares}, which is the better choice on this data."
        if self.verdict == "pays":
            return f"{shares}; {self._cost()}."
        if self.pictures < FEWEST:
            why = f"{self.pictures} pictures are too few to tell; measure {FEWEST} or more"
        else:
            low, high = 100 * rival.gain.low, 100 * rival.gain.high
            why = f"what it adds may be anything from {low:+.1f} to {high:+.1f} points"
        return f"{shares}; {why}."

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "sentence": self.sentence,
            "n": self.n,
            "pictures": self.pictures,
            "timed": self.timed,
            "frequent": self.frequent,
            "ways": {role: _plain(way) for role, way in self.ways.items()},
        }

    def rows(self) -> list[tuple[str, ...]]:
        """For people: role, share right, what routing adds, seconds, and the ratio of times."""
        named = {"frequent": f"frequent: {self.frequent}"}
        return [(named.get(role, role), *_cells(way)) for role, way in self.ways.items()]

    def _name(self, role: Role) -> str:
        return {
            "routed": "routed",
            "oracle": "the right adapter",
            "frequent": f"{self.frequent} always, the most frequent adapter",
            "multitask": "the multitask adapter always",
            "base": "the base alone",
        }[role]

    def _cost(self) -> str:
        """The cost of routing, compared with knowing the adapter."""
        oracle = self.ways["oracle"]
        assert oracle.gain is not None
        points = round(100 * oracle.gain.value, 1)
        what = (
            f"is {points} points better than" if points > 0 else f"gives up {abs(points)} points to"
        )
        compared = f"it {what} knowing the adapter"
        if (ratio := oracle.time_ratio) is None:
            return compared
        more = 100 * (ratio.value - 1)
        return f"{compared} and takes {abs(more):.1f}% {'more' if more >= 0 else 'less'} time"


def measure_worth(
    hits: Mapping[Role, Sequence[bool]],
    pictures: Sequence[Hashable],
    seconds: Mapping[Role, Sequence[float]],
    frequent: str,
) -> Worth:
    """Compares the ways to answer the same requests.

    Args:
        hits: whether each request was answered right, by role; ``routed``, ``oracle``,
            ``frequent`` and ``base`` are needed.
        pictures: the picture of each request.
        seconds: by role, for the same requests (some or all of them), one at a time; may be empty.
        frequent: name of the most frequent adapter.
    """
    shares = {role: np.asarray(hits[role], float) for role in ALTERNATIVES if role in hits}
    times = {role: np.asarray(seconds[role], float) for role in shares if role in seconds}
    ways = {}
    for role, right in shares.items():
        is_routed = role == "routed"
        ways[role] = Alternative(
            success=mean_interval(right, pictures, 0, 1),
            gain=None if is_routed else mean_interval(shares["routed"] - right, pictures, -1, 1),
            seconds=median_interval(times[role]) if times else None,
            time_ratio=(
                None if is_routed or not times else median_interval(times["routed"] / times[role])
            ),
        )
    timed = len(next(iter(times.values()))) if times else 0
    return Worth(len(shares["routed"]), len(set(pictures)), timed, frequent, ways)


def mean_interval(
    values: Sequence[float] | Values, groups: Sequence[Hashable], least: float, most: float
) -> Interval:
    """The mean of values (n,) with its interval; the bootstrap draws whole groups (n,).

    If all groups agree, no resample can differ from them. The interval then allows for the largest
    share of other groups that could have been missed (Clopper and Pearson, Biometrika 1934), each
    with the smallest or largest possible value.
    """
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    index = np.array([numbers[group] for group in groups])
    counts = np.bincount(index).astype(np.float64)
    sums: Values = np.bincount(index, values).astype(np.float64)
    mean = float(np.mean(values))
    if np.ptp(sums / counts) == 0:
        missed = float(binomtest(0, len(counts)).proportion_ci(method="exact").high)
        return Interval(mean, mean - (mean - least) * missed, mean + (most - mean) * missed)

    def ratio(drawn: Values, sizes: Values, axis: int) -> Any:
        return drawn.sum(axis) / sizes.sum(axis)

    return Interval(mean, *_bootstrap((sums, counts), ratio))


def median_interval(values: Values) -> Interval:
    """The median of values (n,) with its interval."""
    middle = float(np.median(values))
    if len(values) < 2:
        return Interval(middle, middle, middle)
    return Interval(middle, *_bootstrap((values,), np.median))


def _bootstrap(data: tuple[Values, ...], statistic: Any) -> tuple[float, float]:
    interval = bootstrap(
        data,
        statistic,
        n_resamples=_RESAMPLES,
        batch=max(1, _BATCH_VALUES // len(data[0])),  # bounds the memory
        paired=True,
        vectorized=True,
        confidence_level=0.95,
        method="percentile",
        rng=_SEED,
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _share(interval: Interval) -> str:
    return f"{interval.value:.1%} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _cells(way: Alternative) -> tuple[str, str, str, str]:
    gain = "-"
    if way.gain:
        value, low, high = (100 * x for x in (way.gain.value, way.gain.low, way.gain.high))
        gain = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
    seconds = f"{way.seconds.value:.3f}" if way.seconds else "-"
    ratio = way.time_ratio
    over = f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio else "-"
    return _share(way.success), gain, seconds, over


def _plain(way: Alternative) -> dict[str, Any]:
    return {
        name: None if part is None else {"value": part.value, "interval": [part.low, part.high]}
        for name, part in vars(way).items()
    }
