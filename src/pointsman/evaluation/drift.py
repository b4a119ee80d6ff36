"""Drift: whether the requests of a log have changed by more than chance.

Each test allows one false alarm in a hundred. Shares are compared by Fisher's exact test, which
holds for few requests too, and distributions by that of Kolmogorov and Smirnov. Both take requests
to be independent; those of one session are not, so a finding is a reason to look, and no proof.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from scipy.stats import fisher_exact, ks_2samp

from pointsman.routing.decision import Decision

LEVEL = 0.01
FEWEST = 30
"""With fewer requests on a side nothing is tested."""
NOT_TESTED = (
    "not tested: the distance of features to training, and confidence against validation; a "
    "sealed router does not hold how these are spread there"
)


class Share(NamedTuple):
    """How many of a number of requests."""

    hits: int
    n: int

    def __str__(self) -> str:
        return f"{self.hits / self.n:.1%} of {self.n}"


def moved(one: Share, other: Share) -> bool:
    """Whether two shares differ by more than chance."""
    table = [[share.hits, share.n - share.hits] for share in (one, other)]
    return bool(fisher_exact(table).pvalue < LEVEL)


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
    for name in ("confidence", "score"):
        before, after = ([float(getattr(d.route, name)) for d in part] for part in halves)
        if ks_2samp(before, after).pvalue < LEVEL:
            lines.append(
                f"warning: the router's {name} has moved: on average {_mean(after):.3f} for the "
                f"newer half of the log, {_mean(before):.3f} for the older one"
            )
    return lines or [f"no drift within the log of {len(same)} decisions"]


def against_validation(abstained: Share, training: dict[str, Any], whose: str) -> list[str]:
    """A warning if a router abstains more, or less, on the log than in scope on validation.

    Args:
        training: the sealed record of the router's training.
        whose: the router, in words.
    """
    found = training.get("validated")
    if found is None or "extended" in training:
        return [f"{whose} has no sealed validation of its labels to compare with"]
    known = Share(found["in_scope"] - found["kept"], found["in_scope"])
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


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
