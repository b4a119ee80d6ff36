"""Metrics: what predictions on labelled samples say about a router."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

import torch
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from pointsman.engine.answer import Answer, parse_actions, typed_text
from pointsman.errors import ConfigError, MismatchError, SampleError
from pointsman.evaluation.curves import Reliability, RiskCoverage, reliability, risk_coverage
from pointsman.evaluation.worth import Role, Worth, measure_worth
from pointsman.labels import LabelMap
from pointsman.routing.route import Route
from pointsman.sample import RoutingSample, is_inside

ROLES: tuple[Role, ...] = ("routed", "oracle", "base", "wrong")
"""Roles that always answer; ``wrong`` needs more than one adapter."""
Table = tuple[str, Sequence[str], Sequence[Sequence[object]]]
"""Title, columns, rows."""
NO_ADAPTER = "(out of scope)"
NO_VALUE = "(none)"
"""Group of the samples that lack a field."""


@dataclass(frozen=True)
class Prediction:
    """What came of one sample."""

    sample: RoutingSample
    route: Route
    answers: Mapping[Role, Answer] = field(default_factory=dict)
    """Empty if nothing was asked for."""

    @property
    def label(self) -> int:
        """The most probable label, abstained or not."""
        probabilities = list(self.route.probabilities.values())
        return probabilities.index(max(probabilities))

    @property
    def adapter(self) -> str:
        """The most probable adapter, abstained or not."""
        return list(self.route.probabilities)[self.label]

    @property
    def correct(self) -> bool:
        """In scope: the most probable label is right. Out of scope: the router abstained."""
        return self.label == self.sample.label if self.sample.in_scope else self.route.abstained

    def hit(self, role: Role) -> bool:
        return is_hit(self.answers[role], self.sample)


@dataclass(frozen=True)
class InScope:
    """Samples of some adapter. All but ``abstained`` takes the most probable label."""

    n: int
    accuracy: float
    macro_f1: float
    """Mean over the labels that the samples have."""
    ece: float
    aurc: float
    """Area under the risk-coverage curve: how well confidence tells right from wrong"""
    abstained: float
    """Share of samples."""


@dataclass(frozen=True)
class OutOfScope:
    """Samples of no adapter."""

    n: int
    auroc: float | None
    """Of the router's score, low for such a sample; None if there are none in scope."""
    rejected: float
    """Share on which the router abstained."""


@dataclass(frozen=True)
class Task:
    """Share of answers that are hits, by role."""

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
    """Share that is ``Prediction.correct``."""
    task: Task | None
    """None if nothing was answered."""

    def answer_cells(self, of_all: Task | None) -> list[str]:
        """How many were answered and a share for each of ``ROLES``; nothing if none were at all."""
        if of_all is None:
            return []
        if self.task is None:
            return ["0", *["-"] * len(ROLES)]
        return [str(self.task.n), *self.task.cells]


@dataclass(frozen=True)
class Seconds:
    """Wall-clock time, loading of images included."""

    route: float
    task: float | None


@dataclass(frozen=True)
class Evaluation:
    """Everything measured; a part that the samples do not allow is None."""

    labels: LabelMap
    in_scope: InScope | None
    by: dict[str, dict[str, Group]]
    """Field, then value."""
    out_of_scope: OutOfScope | None
    task: Task | None
    worth: Worth | None
    """None unless it was asked for"""
    confusion: list[list[int]]
    """Counts. A row for each true label, and one for out of scope if there are such samples; a
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
        """The same for people: a table for each part that there is."""
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
    """Whether an answer clicks inside the bbox or on its edge, and types what the sample's does."""
    if sample.bbox is None or not is_inside(answer.point, sample.bbox):
        return False
    return answer.typed == typed_text(parse_actions(sample.answer or ""))


def measure(
    labels: LabelMap,
    predictions: Sequence[Prediction],
    *,
    by: Sequence[str] = (),
    seconds: Seconds | None = None,
    latency: Mapping[Role, Sequence[float]] | None = None,
) -> Evaluation:
    """Metrics of predictions, whatever made them (a loaded model, or stored features).

    Args:
        labels: of the router that made the routes.
        by: fields to break the accuracy down by: ``adapter``, ``label`` or an extra key of the
            samples.
        latency: seconds of single requests, the same ones by each role.

    Raises:
        ConfigError: a field that no sample has.
        SampleError: no predictions, or a sample without a label.
        LabelError: a sample's label that is out of range.
        MismatchError: samples or routes of another label map.
    """
    samples = [prediction.sample for prediction in predictions]
    check_samples(samples, labels, by)
    for prediction in predictions:
        if (names := tuple(prediction.route.probabilities)) != labels.names:
            raise MismatchError(
                f"a route is among {', '.join(names)} but the label map is {labels}; "
                "measure routes of a router of these labels"
            )
    return Evaluation(
        labels=labels,
        in_scope=_in_scope([p for p in predictions if p.sample.in_scope]),
        by={name: group_by(predictions, name, labels) for name in by},
        out_of_scope=_out_of_scope(predictions),
        task=_task([p for p in predictions if p.answers]),
        worth=_worth(predictions, labels, latency or {}),
        confusion=_confusion(predictions, labels),
        seconds=seconds,
        predictions=tuple(predictions),
    )


def check_samples(samples: Sequence[RoutingSample], labels: LabelMap, by: Sequence[str]) -> None:
    """Raises what ``measure`` raises, before any work is done."""
    if not samples:
        raise SampleError("no samples to evaluate; give at least one")
    for number, sample in enumerate(samples, 1):
        if sample.label is None:
            raise SampleError(f"sample {number} has no label; label it, -1 for out of scope")
        expected = labels.name(sample.label) if sample.in_scope else None
        if sample.adapter != expected:
            raise MismatchError(
                f"sample {number}: label {sample.label} means {expected!r} in {labels} but its "
                f"adapter is {sample.adapter!r}; use data and router of the same label order"
            )
    known = dict.fromkeys(["adapter", "label", *(key for s in samples for key in s.extra)])
    for name in by:
        if name not in known:
            raise ConfigError(f"no sample has the field {name!r}; there are {', '.join(known)}")


def frequent_adapter(samples: Sequence[RoutingSample], labels: LabelMap) -> str:
    """The adapter of most samples; of several, the first in label order."""
    counts = Counter(sample.adapter for sample in samples)
    return max(labels, key=lambda name: counts[name])


def curve(predictions: Sequence[Prediction]) -> RiskCoverage:
    """Risk against coverage; out of scope every adapter is wrong."""
    wrong = [not p.sample.in_scope or not p.correct for p in predictions]
    return risk_coverage([p.route.score for p in predictions], wrong)


def bins(predictions: Sequence[Prediction]) -> Reliability:
    """How often the most probable label of samples in scope was right, by confidence."""
    inside = [p for p in predictions if p.sample.in_scope]
    confidence = torch.tensor([p.route.confidence for p in inside])
    return reliability(confidence, torch.tensor([p.correct for p in inside]))


def group_by(predictions: Sequence[Prediction], name: str, labels: LabelMap) -> dict[str, Group]:
    """Predictions by the value of a field."""
    members: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        members.setdefault(_value(prediction.sample, name), []).append(prediction)
    order = [*labels, NO_ADAPTER] if name == "adapter" else sorted(members, key=_rank)
    return {value: _group(members[value]) for value in order if value in members}


def _in_scope(predictions: Sequence[Prediction]) -> InScope | None:
    if not predictions:
        return None
    truth, predicted = [p.sample.label for p in predictions], [p.label for p in predictions]
    present = list(dict.fromkeys(truth))
    f1 = f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
    return InScope(
        n=len(predictions),
        accuracy=fmean(p.correct for p in predictions),
        macro_f1=float(f1),
        ece=bins(predictions).ece,
        aurc=curve(predictions).area,
        abstained=fmean(p.route.abstained for p in predictions),
    )


def _out_of_scope(predictions: Sequence[Prediction]) -> OutOfScope | None:
    outside = [p for p in predictions if not p.sample.in_scope]
    if not outside:
        return None
    auroc = None
    if len(outside) < len(predictions):
        truth = [not p.sample.in_scope for p in predictions]
        auroc = float(roc_auc_score(truth, [-p.route.score for p in predictions]))
    return OutOfScope(len(outside), auroc, fmean(p.route.abstained for p in outside))


def _task(predictions: Sequence[Prediction]) -> Task | None:
    if not predictions:
        return None

    def success(role: Role) -> float:
        return fmean(prediction.hit(role) for prediction in predictions)

    wrong = success("wrong") if all("wrong" in p.answers for p in predictions) else None
    return Task(len(predictions), success("routed"), success("oracle"), success("base"), wrong)


def _worth(
    predictions: Sequence[Prediction], labels: LabelMap, latency: Mapping[Role, Sequence[float]]
) -> Worth | None:
    """None unless the most frequent adapter was asked too."""
    answered = [p for p in predictions if "frequent" in p.answers]
    if not answered:
        return None
    hits = {role: [p.hit(role) for p in answered] for role in answered[0].answers}
    frequent = frequent_adapter([p.sample for p in predictions], labels)
    return measure_worth(hits, [p.sample.picture for p in answered], latency, frequent)


def _group(predictions: Sequence[Prediction]) -> Group:
    accuracy = fmean(prediction.correct for prediction in predictions)
    return Group(len(predictions), accuracy, _task([p for p in predictions if p.answers]))


def _value(sample: RoutingSample, name: str) -> str:
    if name == "adapter":
        return sample.adapter or NO_ADAPTER
    value = sample.label if name == "label" else sample.extra.get(name)
    if value is None:
        return NO_VALUE
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _rank(value: str) -> tuple[bool, float, str]:
    """Numbers by size, then words, then the group without a value."""
    try:
        return False, float(value), value
    except ValueError:
        return True, float(value == NO_VALUE), value


def _confusion(predictions: Sequence[Prediction], labels: LabelMap) -> list[list[int]]:
    last = len(labels)  # the row of out of scope, and the column of abstained
    truth = [p.sample.label if p.sample.in_scope else last for p in predictions]
    routed = [last if p.route.abstained else p.route.label for p in predictions]
    matrix: list[list[int]] = confusion_matrix(truth, routed, labels=range(last + 1)).tolist()
    return matrix if last in truth else matrix[:last]


def _plain(part: Any) -> dict[str, Any] | None:
    return None if part is None else asdict(part)


def percent(share: float | None) -> str:
    """A share in percent, a dash where there is none."""
    return "-" if share is None else f"{share:.1%}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
