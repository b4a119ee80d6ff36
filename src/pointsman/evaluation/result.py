"""The result of an evaluation: predictions, metrics, and tables of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pointsman.engine.answer import Answer, parse_actions, typed_text
from pointsman.evaluation.worth import Role, Worth
from pointsman.labels import LabelMap
from pointsman.routing.route import Route
from pointsman.sample import RoutingSample, is_inside

ROLES: tuple[Role, ...] = ("routed", "oracle", "base", "wrong")
"""Roles that always answer; ``wrong`` needs more than one adapter."""
Table = tuple[str, Sequence[str], Sequence[Sequence[object]]]
"""Title, columns, rows."""


@dataclass(frozen=True)
class Prediction:
    """The result for one sample."""

    sample: RoutingSample
    route: Route
    answers: Mapping[Role, Answer] = field(default_factory=dict)
    """Answers by role; empty if none were requested."""

    @property
    def label(self) -> int:
        """The most probable label, even if the router abstained."""
        probabilities = list(self.route.probabilities.values())
        return probabilities.index(max(probabilities))

    @property
    def adapter(self) -> str:
        """The most probable adapter, even if the router abstained."""
        return list(self.route.probabilities)[self.label]

    @property
    def correct(self) -> bool:
        """In scope: the most probable label is right. Out of scope: the router abstained."""
        return self.label == self.sample.label if self.sample.in_scope else self.route.abstained

    def hit(self, role: Role) -> bool:
        return is_hit(self.answers[role], self.sample)


@dataclass(frozen=True)
class InScope:
    """In-scope samples. All figures except ``abstained`` use the most probable label."""

    n: int
    accuracy: float
    macro_f1: float
    """Mean over the labels that occur in the samples."""
    ece: float
    aurc: float
    """Area under the risk-coverage curve: how well confidence tells right from wrong"""
    abstained: float
    """Share of samples."""


@dataclass(frozen=True)
class OutOfScope:
    """Out-of-scope samples."""

    n: int
    auroc: float | None
    """AUROC of the router's score, which is low out of scope; None if no sample is in scope."""
    rejected: float
    """Share on which the router abstained."""


@dataclass(frozen=True)
class Task:
    """Share of answers that hit, by role."""

    n: int
    routed: float
    oracle: float
    base: float
    wrong: float | None
    """None with a single adapter."""

    @property
    def cells(self) -> list[str]:
        """A share for each of ``ROLES``."""
        return [percent(getattr(self, role)) for role in ROLES]


@dataclass(frozen=True)
class Group:
    """Samples with one value of a field."""

    n: int
    accuracy: float
    """Share of samples with ``Prediction.correct``."""
    task: Task | None
    """None if nothing was answered."""

    def answer_cells(self, of_all: Task | None) -> list[str]:
        """The number answered and a share for each of ``ROLES``; empty if nothing was answered."""
        if of_all is None:
            return []
        if self.task is None:
            return ["0", *["-"] * len(ROLES)]
        return [str(self.task.n), *self.task.cells]


@dataclass(frozen=True)
class Seconds:
    """Wall-clock time, including the loading of images."""

    route: float
    task: float | None


@dataclass(frozen=True)
class Evaluation:
    """All metrics; a part that the samples do not allow is None."""

    labels: LabelMap
    in_scope: InScope | None
    by: dict[str, dict[str, Group]]
    """By field, then by value."""
    out_of_scope: OutOfScope | None
    task: Task | None
    worth: Worth | None
    """None unless it was asked for"""
    confusion: list[list[int]]
    """Counts: a row for each true label, and one for out of scope if there are such samples; a
    column for each label routed to, and one for abstained."""
    seconds: Seconds | None
    predictions: tuple[Prediction, ...]
    """In the order of the samples."""

    def to_json(self) -> dict[str, Any]:
        """Everything but the predictions, as JSON values."""
        return {
            "labels": list(self.labels),
            "in_scope": _plain(self.in_scope),
            "by": {
                name: {value: asdict(group) for value, group in groups.items()}
                for name, groups in self.by.items()
            },
            "out_of_scope": _plain(self.out_of_scope),
            "task": _plain(self.task),
            "worth": self.worth.to_json() if self.worth else None,
            "confusion": self.confusion,
            "seconds": _plain(self.seconds),
        }

    def tables(self) -> list[Table]:
        """The same for people: a table for each part that is not None."""
        tables: list[Table] = []
        columns: tuple[str, ...]
        if part := self.in_scope:
            columns = ("samples", "accuracy", "macro-F1", "ECE", "AURC", "abstained")
            figures = (part.macro_f1, part.ece, part.aurc)
            scores = (percent(part.accuracy), *map(_decimal, figures))
            tables.append(("in scope", columns, [(part.n, *scores, percent(part.abstained))]))
        if outside := self.out_of_scope:
            scored = (outside.n, _decimal(outside.auroc), percent(outside.rejected))
            tables.append(("out of scope", ("samples", "AUROC", "rejected"), [scored]))
        if task := self.task:
            columns = ("samples", "routed", "oracle", "base", "wrong adapter")
            tables.append(("answers right", columns, [(task.n, *task.cells)]))
        if worth := self.worth:
            columns = ("answered by", "right", "routing adds", "seconds", "routed over it, time")
            tables.append((f"worth on {worth.n} requests", columns, worth.rows()))
        for name, groups in self.by.items():
            answers = ("answered", *ROLES) if self.task else ()
            heads = (name, "samples", "accuracy", *answers)
            rows = [
                (value, group.n, percent(group.accuracy), *group.answer_cells(self.task))
                for value, group in groups.items()
            ]
            tables.append((f"by {name}", heads, rows))
        return tables


def is_hit(answer: Answer, sample: RoutingSample) -> bool:
    """Whether an answer clicks in the bbox, edges included, and types what the sample's does."""
    if sample.bbox is None or not is_inside(answer.point, sample.bbox):
        return False
    return answer.typed == typed_text(parse_actions(sample.answer or ""))


def _plain(part: Any) -> dict[str, Any] | None:
    return None if part is None else asdict(part)


def percent(share: float | None) -> str:
    """A share in percent, a dash where there is none."""
    return "-" if share is None else f"{share:.1%}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
