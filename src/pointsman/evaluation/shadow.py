"""Shadow: a candidate router decides what a log's router decided, and the two are compared."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from scipy.stats import binomtest

from pointsman.conversation import Prompt, routed_part
from pointsman.errors import ConfigError, PointsmanError, SampleError
from pointsman.evaluation.corrections import match, read_corrections
from pointsman.evaluation.worth import Interval
from pointsman.images import load_image
from pointsman.progress import Progress, no_progress
from pointsman.routing.decision import Decision
from pointsman.routing.drift import (
    Share,
    against_validation,
    spreads_against_validation,
    within_log,
)
from pointsman.routing.request_router import RequestRouter
from pointsman.routing.route import Route
from pointsman.server.decision_log import Decisions, picture_of

ABSTAINED = "(abstained)"
"""In place of an adapter"""
Pictures = Mapping[str, Path]
"""Files by digest"""


@dataclass(frozen=True)
class Pair:
    """What was decided, and what the candidate decides."""

    decision: Decision
    route: Route

    @property
    def old(self) -> str | None:
        """The adapter that was chosen; None: the router abstained."""
        return self.decision.choice

    @property
    def new(self) -> str | None:
        """The same of the candidate."""
        return None if self.route.abstained else self.route.adapter

    @property
    def agrees(self) -> bool:
        return self.old == self.new


@dataclass(frozen=True)
class Skipped:
    """Decisions of the log that are not compared."""

    lines: int = 0
    """Torn lines, and lines that are no decision"""
    held: int = 0
    """A session held the adapter, so that the decision is not the router's own"""
    without_picture: int = 0
    unusable: int = 0
    """The candidate cannot read them: a broken picture, or none where it needs one"""

    def reasons(self) -> list[str]:
        """How many and why, a line for each reason."""
        words = {
            "lines": "lines of the log are no decision (torn, or not ours)",
            "held": "decisions are the sessions', which held an adapter, and not compared",
            "without_picture": "decisions are not compared: the log did not keep their pictures",
            "unusable": "decisions cannot be read by the candidate",
        }
        return [f"{n} {words[name]}" for name, n in vars(self).items() if n]


class Gain(NamedTuple):
    """By a router's own probabilities, what the new choices are worth over the old ones."""

    n: int
    """Disagreements between adapters that this router knows"""
    mean: float | None
    """Mean of p(new choice) - p(old choice); None if there are none"""


@dataclass(frozen=True)
class Accuracy:
    """Right decisions among those that were corrected."""

    n: int
    old: Interval
    new: Interval
    only_old: int
    """Right before, wrong now"""
    only_new: int


@dataclass(frozen=True)
class Shadow:
    """The comparison."""

    pairs: tuple[Pair, ...]
    """In the order of the log"""
    skipped: Skipped
    truth: Mapping[int, str | None]
    """The right adapter, or None for none of them, by the place among the pairs"""
    drift: tuple[str, ...]
    pictures: Pictures

    @property
    def disagreements(self) -> list[Pair]:
        return [pair for pair in self.pairs if not pair.agrees]

    @cached_property
    def agreement(self) -> Interval:
        return wilson(len(self.pairs) - len(self.disagreements), len(self.pairs))

    @property
    def moves(self) -> list[tuple[str, str, int]]:
        """Old and new choice with the number of decisions, the commonest first."""
        counts = Counter((pair.old or ABSTAINED, pair.new or ABSTAINED) for pair in self.pairs)
        return [(old, new, n) for (old, new), n in counts.most_common()]

    @property
    def abstained(self) -> tuple[Share, Share]:
        """Of the old router and of the candidate."""
        old, new = (
            sum(choice is None for choice in choices)
            for choices in zip(*((pair.old, pair.new) for pair in self.pairs), strict=True)
        )
        return Share(old, len(self.pairs)), Share(new, len(self.pairs))

    @property
    def confidence(self) -> tuple[float, float]:
        """Means of the old router and of the candidate."""
        old = fmean(pair.decision.route.confidence for pair in self.pairs)
        return old, fmean(pair.route.confidence for pair in self.pairs)

    @property
    def gains(self) -> tuple[Gain, Gain]:
        """By the old router and by the candidate."""
        return self._gain(lambda pair: pair.decision.route), self._gain(lambda pair: pair.route)

    def _gain(self, judge: Callable[[Pair], Route]) -> Gain:
        gains = [
            shares[pair.new] - shares[pair.old]
            for pair in self.disagreements
            if pair.old in (shares := judge(pair).probabilities) and pair.new in shares
        ]
        return Gain(len(gains), fmean(gains) if gains else None)

    @cached_property
    def accuracy(self) -> Accuracy | None:
        """None without corrections."""
        if not self.truth:
            return None
        judged = [
            (self.pairs[at].old == right, self.pairs[at].new == right)
            for at, right in self.truth.items()
        ]
        counts = Counter(judged)
        old, new = (wilson(sum(hits), len(judged)) for hits in zip(*judged, strict=True))
        return Accuracy(len(judged), old, new, counts[True, False], counts[False, True])

    def to_json(self) -> dict[str, Any]:
        """Everything but the pairs."""
        accuracy = self.accuracy
        gains = [gain._asdict() for gain in self.gains]
        return {
            "compared": len(self.pairs),
            "skipped": vars(self.skipped),
            "agreement": vars(self.agreement),
            "abstained": {**_both([share.hits / share.n for share in self.abstained])},
            "confidence": _both(self.confidence),
            "moves": [dict(zip(("old", "new", "n"), move, strict=True)) for move in self.moves],
            "estimated_gain": _both(gains),
            "accuracy": accuracy
            and {**vars(accuracy), "old": vars(accuracy.old), "new": vars(accuracy.new)},
            "drift": list(self.drift),
        }


def shadow(
    candidate: RequestRouter,
    log: Decisions,
    *,
    old_training: Callable[[str], dict[str, Any] | None] = lambda digest: None,
    batch_size: int = 8,
    progress: Progress = no_progress,
) -> Shadow:
    """Routes the requests of a log with a candidate, and compares the decisions.

    Args:
        old_training: gives the record of training of the router of a digest, if it is known.
        progress: called with the decisions that are done.

    Raises:
        ConfigError: the batch size is below 1.
        SampleError: nothing can be compared, or a correction is wrong.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size {batch_size}: give at least 1")
    decisions = list(log)
    corrections = read_corrections(log.folder)
    own = [decision for decision in decisions if not decision.route.held]
    pictures = _pictures(log.folder, own)
    usable = [d for d in own if not candidate.reads_images or _is_complete(candidate, d, pictures)]
    pairs: list[Pair] = []
    for start in range(0, len(usable), batch_size):
        pairs += _routed(candidate, usable[start : start + batch_size], pictures)
        progress(min(start + batch_size, len(usable)), len(usable))
    skipped = Skipped(
        lines=log.skipped,
        held=len(decisions) - len(own),
        without_picture=len(own) - len(usable),
        unusable=len(usable) - len(pairs),
    )
    if not pairs:
        why = "; ".join(skipped.reasons()) or "it is empty"
        raise SampleError(f"{log.folder}: no decision to compare ({why}); log with pictures")
    at = {id(pair.decision): number for number, pair in enumerate(pairs)}
    matched = match(decisions, corrections).pairs
    truth = {at[id(d)]: right for d, right in matched if id(d) in at}
    found = Shadow(tuple(pairs), skipped, truth, (), pictures)
    return replace(found, drift=tuple(_drift(found, own, candidate, old_training)))


def wilson(hits: int, n: int) -> Interval:
    """A share with its 95% interval (Wilson, JASA 1927)."""
    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return Interval(hits / n, float(interval.low), float(interval.high))


def _pictures(folder: Path, decisions: Sequence[Decision]) -> Pictures:
    digests = {digest for decision in decisions for digest in decision.images}
    return {digest: path for digest in digests if (path := picture_of(folder, digest))}


def _seen(candidate: RequestRouter, decision: Decision) -> tuple[Any, tuple[str, ...]]:
    """The turns that the candidate reads, and the digests of their images."""
    history = candidate.router.recipe.history
    return routed_part(decision.turns, decision.images, history)


def _is_complete(candidate: RequestRouter, decision: Decision, pictures: Pictures) -> bool:
    return all(digest in pictures for digest in _seen(candidate, decision)[1])


def _prompt(candidate: RequestRouter, decision: Decision, pictures: Pictures) -> Prompt:
    turns, digests = _seen(candidate, decision)
    if candidate.reads_images:
        return Prompt(turns, tuple(load_image(pictures[digest]) for digest in digests))
    return Prompt(tuple(replace(turn, parts=(turn.text,)) for turn in turns), ())


def _routed(
    candidate: RequestRouter, batch: Sequence[Decision], pictures: Pictures
) -> Iterator[Pair]:
    """The pairs of a batch, without the decisions that the candidate cannot read."""
    try:
        prompts = [_prompt(candidate, decision, pictures) for decision in batch]
        routes = candidate.route_batch(prompts)
    except SampleError:
        if len(batch) > 1:
            for decision in batch:
                yield from _routed(candidate, [decision], pictures)
        return
    yield from map(Pair, batch, routes)


def _drift(
    found: Shadow,
    own: Sequence[Decision],
    candidate: RequestRouter,
    old_training: Callable[[str], dict[str, Any] | None],
) -> Iterator[str]:
    yield from within_log(own)
    yield from against_validation(found.abstained[1], candidate.router.training, "the candidate")
    newest = [d for d in own if d.router_digest == own[-1].router_digest]
    try:
        training = old_training(own[-1].router_digest)
    except PointsmanError:
        training = None
    if training is not None:
        share = Share(sum(d.route.abstained for d in newest), len(newest))
        yield from against_validation(share, training, "the router in use")
        routes = [decision.route for decision in newest]
        yield from spreads_against_validation(routes, training, "the router in use")


def _both(values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(("old", "new"), values, strict=True))
