"""Mistakes: the wrong predictions of an evaluation, the worst first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pointsman.evaluation.result import Prediction

Kind = Literal[
    "routed wrong", "out of scope, routed", "routed right, answered wrong", "abstained in scope"
]
"""The worst first"""


@dataclass(frozen=True)
class Mistake:
    """A prediction that went wrong, and how."""

    kind: Kind
    prediction: Prediction

    @property
    def description(self) -> str:
        """Which adapter answered, and which should have."""
        right = self.prediction.sample.adapter
        went = self.prediction.route.adapter or "the base"
        if self.kind == "routed right, answered wrong":
            return f"{went} answered, as it should"
        return f"{went} answered, {right or 'no adapter'} should have"


def worst(predictions: Sequence[Prediction]) -> list[Mistake]:
    """All mistakes: routing mistakes first, since they are silent; then by confidence."""
    found = [Mistake(kind, p) for p in predictions if (kind := _kind(p))]
    return sorted(found, key=lambda m: (_rank(m), -m.prediction.route.confidence))


def _kind(prediction: Prediction) -> Kind | None:
    sample, route = prediction.sample, prediction.route
    if not sample.in_scope:
        return None if route.abstained else "out of scope, routed"
    if route.abstained:
        return "abstained in scope"
    if route.label != sample.label:
        return "routed wrong"
    is_missed = "routed" in prediction.answers and not prediction.hit("routed")
    return "routed right, answered wrong" if is_missed else None


def _rank(mistake: Mistake) -> int:
    """A request answered by the wrong adapter is equally bad in and out of scope."""
    return max(0, get_args(Kind).index(mistake.kind) - 1)
