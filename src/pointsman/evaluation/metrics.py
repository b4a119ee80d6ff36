"""Metrics of a router, from its predictions on labelled samples."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from pointsman.errors import ConfigError, MismatchError, SampleError
from pointsman.evaluation.curves import Reliability, RiskCoverage, reliability, risk_coverage
from pointsman.evaluation.result import (
    Evaluation,
    Group,
    InScope,
    OutOfScope,
    Prediction,
    Seconds,
    Task,
)
from pointsman.evaluation.worth import Role, Worth, measure_worth
from pointsman.labels import LabelMap
from pointsman.sample import RoutingSample

NO_ADAPTER = "(out of scope)"
NO_VALUE = "(none)"
"""The group of samples that lack a field."""


def measure(
    labels: LabelMap,
    predictions: Sequence[Prediction],
    *,
    by: Sequence[str] = (),
    seconds: Seconds | None = None,
    latency: Mapping[Role, Sequence[float]] | None = None,
) -> Evaluation:
    """Metrics of predictions from any source (a loaded model, or stored features).

    Args:
        labels: the label map of the router that made the routes.
        by: fields to break the accuracy down by: ``adapter``, ``label`` or an extra key of the
            samples.
        latency: seconds of single requests by role, the same requests for each role.

    Raises:
        ConfigError: no sample has a field.
        SampleError: there are no predictions, or a sample has no label.
        LabelError: a sample's label is out of range.
        MismatchError: samples or routes have another label map.
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
    """Raises the errors of ``measure`` before any work is done."""
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
    """The adapter with the most samples; among equals, the first in label order."""
    counts = Counter(sample.adapter for sample in samples)
    return max(labels, key=lambda name: counts[name])


def curve(predictions: Sequence[Prediction]) -> RiskCoverage:
    """Risk over coverage; for samples out of scope every adapter is wrong."""
    wrong = [not p.sample.in_scope or not p.correct for p in predictions]
    return risk_coverage([p.route.score for p in predictions], wrong)


def bins(predictions: Sequence[Prediction]) -> Reliability:
    """How often the most probable label was right for in-scope samples, by confidence."""
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
    """The worth of routing; None unless the most frequent adapter answered too."""
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
    """Sorts numbers by size, then words, then the group without a value."""
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
