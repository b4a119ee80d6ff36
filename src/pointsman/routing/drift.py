"""Drift: whether requests have changed by more than chance, against training or among themselves.

Each test allows one false alarm in a hundred. Shares are compared by Fisher's exact test, which
holds for few requests too, and distributions by that of Kolmogorov and Smirnov. Both take requests
to be independent; those of one session are not, so a finding is a reason to look, and no proof.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from scipy.stats import fisher_exact, ks_2samp
from torch import Tensor

from pointsman.routing.decision import Decision
from pointsman.routing.route import Route

LEVEL = 0.01
FEWEST = 30
"""With fewer requests on a side nothing is tested."""
SPREADS = ("confidence", "score")
"""Values of a decision whose distributions are compared. The score is made of features."""
_KEPT = 200
_DIGITS = 3
"""Beyond them, the dtype and the size of a batch change a value"""


class Share(NamedTuple):
    """How many of a number of requests."""

    hits: int
    n: int

    def __str__(self) -> str:
        return f"{self.hits / self.n:.1%} of {self.n}"


class Reference(NamedTuple):
    """What a router did on validation in scope, as far as it is sealed."""

    abstained: Share | None
    spreads: Mapping[str, Sequence[float]]
    """Values of the samples that were routed, by the names in ``SPREADS``"""

    @classmethod
    def of(cls, training: Mapping[str, Any]) -> "Reference":
        """From the sealed record of a router's training; an extended router has no validation."""
        found = training.get("validated")
        if found is None or "extended" in training:
            return cls(None, {})
        share = Share(found["in_scope"] - found["kept"], found["in_scope"])
        return cls(share, training.get("spreads", {}))


def spread_of(values: Tensor) -> list[float]:
    """At most 200 values (n,) that are spread as all of them are, to be sealed."""
    ordered = values.double().sort().values
    count = min(_KEPT, len(ordered))
    at = ((torch.arange(count) + 0.5) * len(ordered) / max(1, count)).long()
    return [round(value, _DIGITS) for value in ordered[at].tolist()]


def spreads_of(routes: Sequence[Route]) -> dict[str, list[float]]:
    """The values of the routed ones, by the names in ``SPREADS``."""
    routed = [route for route in routes if not route.abstained]
    return {name: [float(getattr(route, name)) for route in routed] for name in SPREADS}


def chance_of(one: Share, other: Share) -> float:
    """The probability of shares that differ as much as these, if nothing has changed."""
    table = [[share.hits, share.n - share.hits] for share in (one, other)]
    return float(fisher_exact(table).pvalue)


def chance_of_spreads(one: Sequence[float], other: Sequence[float]) -> float:
    """The same for two samples of values."""
    rounded = ([round(value, _DIGITS) for value in values] for values in (one, other))
    return float(ks_2samp(*rounded).pvalue)


def moved(one: Share, other: Share) -> bool:
    """Whether two shares differ by more than chance."""
    return chance_of(one, other) < LEVEL


def within_log(decisions: Sequence[Decision]) -> list[str]:
    """Warnings, a line each, if the newer half of a log is unlike the older half.

    Only the decisions of the newest router count, and only those that no session held.
    """
    same = [d for d in decisions if d.router_digest == decisions[-1].router_digest]
    half = len(same) // 2
    if half < FEWEST:
        return [
            f"{len(same)} decisions of one router are too few to tell drift within the log; "
            f"{2 * FEWEST} are needed"
        ]
    halves = same[:half], same[half:]
    lines = []
    old, new = (Share(sum(d.route.abstained for d in part), len(part)) for part in halves)
    if moved(old, new):
        lines.append(
            f"warning: the router abstained on {new} newer requests, and on {old} older ones"
        )
    for name in SPREADS:
        before, after = ([float(getattr(d.route, name)) for d in part] for part in halves)
        if chance_of_spreads(before, after) < LEVEL:
            lines.append(
                f"warning: the router's {name} has moved: on average {mean(after):.3f} for the "
                f"newer half of the log, {mean(before):.3f} for the older one"
            )
    return lines or [f"no drift within the log of {len(same)} decisions"]


def against_validation(abstained: Share, training: dict[str, Any], whose: str) -> list[str]:
    """A warning if a router abstains more, or less, on the log than in scope on validation.

    Args:
        training: the sealed record of the router's training.
        whose: the router, in words.
    """
    known = Reference.of(training).abstained
    if known is None:
        return [f"{whose} has no sealed validation of its labels to compare with"]
    if min(abstained.n, known.n) < FEWEST:
        return [
            f"{abstained.n} requests and {known.n} validation samples in scope are too few to "
            f"compare the abstentions of {whose}; {FEWEST} of each are needed"
        ]
    line = f"{whose} abstains on {abstained} logged requests, and on {known} validation samples"
    if not moved(abstained, known):
        return [f"{line} in scope: no more than chance"]
    why = "requests for none of the adapters, or unlike those of training"
    if abstained.hits / abstained.n < known.hits / known.n:
        why = "requests are easier than those of validation"
    return [f"warning: {line} in scope: {why}"]


def spreads_against_validation(
    routes: Sequence[Route], training: dict[str, Any], whose: str
) -> list[str]:
    """A warning for each value of a router's decisions that is spread otherwise than on validation.

    Args:
        routes: the router's own decisions; those that abstain are left out.
    """
    spreads = Reference.of(training).spreads
    if not spreads:
        return [f"{whose} does not hold how its confidence was spread on validation"]
    lines = []
    for name, now in spreads_of(routes).items():
        known = spreads[name]
        if min(len(now), len(known)) < FEWEST:
            return [f"{len(now)} routed requests are too few to compare with validation"]
        line = f"{whose} has {name} {mean(now):.3f} on average, and {mean(known):.3f} on validation"
        if chance_of_spreads(now, known) < LEVEL:
            lines.append(f"warning: {line}: requests are unlike those of training")
    return lines or [f"confidence and score of {whose} are spread as on validation"]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
