"""Evaluation: routes samples, has them answered, and writes the results.

Answers are greedy, so an adapter answers a sample once, regardless of how many roles it has there.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from pointsman.conversation import Prompt
from pointsman.engine.answer import Answer
from pointsman.engine.engine import Engine
from pointsman.errors import ConfigError
from pointsman.evaluation.latency import time_requests
from pointsman.evaluation.metrics import check_samples, frequent_adapter, measure
from pointsman.evaluation.plots import confusion_png
from pointsman.evaluation.report import report_html
from pointsman.evaluation.result import ROLES, Evaluation, Prediction, Seconds
from pointsman.evaluation.worth import Role
from pointsman.files import write_bytes, write_json, write_text
from pointsman.images import image_size, load_image
from pointsman.labels import BASE, LabelMap
from pointsman.progress import Progress
from pointsman.routing.request_router import RequestRouter
from pointsman.routing.route import Route
from pointsman.routing.router import Router
from pointsman.sample import RoutingSample, load_prompt, to_jsonl

__all__ = ["Evaluation", "Prediction", "evaluate", "measure", "save"]
TIMED = 24
"""Maximum number of timed requests, spread evenly over the samples"""
Job = tuple[int, str | None]
"""A sample's row and the adapter that is to answer it; None: the base."""
RouteBatch = Callable[[Sequence[Prompt]], list[Route]]


def evaluate(
    router: RequestRouter,
    samples: Sequence[RoutingSample],
    *,
    by: Sequence[str] = (),
    task: bool = True,
    worth: bool = False,
    multitask: str | None = None,
    batch_size: int = 8,
    max_new_tokens: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Routes every sample; those that are in scope and have a bbox are also answered.

    Args:
        router: an engine, or a ``TextRouter`` or ``ReaderRouter``, which only route; with these
            ``Evaluation.task`` is None.
        samples: labelled with the router's label map.
        by: fields to break the accuracy down by: ``adapter``, ``label`` or an extra key of the
            samples. Within a group, an out-of-scope sample is correct if the router abstained.
        task: False skips the answers, which take most of the time.
        worth: also have the most frequent adapter answer, and time some requests one by one, to
            measure whether routing pays.
        multitask: an adapter of the engine, besides the router's, to compare with in ``worth``.
        batch_size: number of requests given to the model at once.
        max_new_tokens: limit for one answer; by default the engine's own.
        progress: called with (done, total), where each route and each answer counts as one.

    Raises:
        ConfigError: no sample has a field, the batch size is below 1, or ``worth`` is set and
            nothing can be answered.
        SampleError: there are no samples, a sample has no label, or an image cannot be used.
        LabelError: a sample's label is out of range.
        MismatchError: the samples have another label map, or the router has another base.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size {batch_size}: give at least 1")
    labels = router.labels
    check_samples(samples, labels, by)
    engine = router if task and isinstance(router, Engine) else None
    asked = [] if engine is None else [row for row, s in enumerate(samples) if _is_clickable(s)]
    others: dict[Role, str | None] = {}
    if worth or multitask:
        others = _others(engine, samples, asked, multitask)
    timed = _spread(asked, TIMED) if others else []
    roles = len(ROLES) - (len(labels) == 1) + len(others)
    # All but the wrong adapter are timed, which there may not be.
    total = len(samples) + roles * len(asked) + (3 + len(others)) * len(timed)
    run = _Run(samples, batch_size, progress, total, router.reads_images)
    started = time.perf_counter()
    routes = _routes(run, router.route_batch)
    seconds = Seconds(time.perf_counter() - started, None)
    answers: dict[int, dict[Role, Answer]] = {}
    latency: dict[Role, list[float]] = {}
    if engine is not None and asked:
        answered_by = {row: _roles(samples[row], routes[row], labels) | others for row in asked}
        started = time.perf_counter()
        answers = _answers(run, engine, _jobs(answered_by), max_new_tokens)
        seconds = replace(seconds, task=time.perf_counter() - started)
        latency = _latency(run, engine, answered_by, timed, max_new_tokens)
    predictions = [
        Prediction(sample, routes[row], answers.get(row, {})) for row, sample in enumerate(samples)
    ]
    return measure(labels, predictions, by=by, seconds=seconds, latency=latency)


def save(evaluation: Evaluation, router: Router, out: str | Path) -> None:
    """Writes ``predictions.jsonl``, ``confusion.png``, ``report.html`` and ``evaluation.json``.

    ``evaluation.json`` is written last.

    Raises:
        ArtefactError: ``out`` cannot be written.
    """
    out = Path(out)
    lines = to_jsonl(_line(prediction) for prediction in evaluation.predictions)
    picture = confusion_png(evaluation.confusion, evaluation.labels.names, _title(evaluation))
    write_text(out / "predictions.jsonl", lines)
    write_bytes(out / "confusion.png", picture)
    write_text(out / "report.html", report_html(evaluation, router, picture))
    write_json(out / "evaluation.json", evaluation.to_json())


class _Run:
    """Samples by row, split into batches of images of similar size; counts completed jobs."""

    def __init__(
        self,
        samples: Sequence[RoutingSample],
        batch_size: int,
        progress: Progress | None,
        total: int,
        images: bool,
    ) -> None:
        self.samples, self.batch_size, self.images = samples, batch_size, images
        self.progress, self.total, self.done = progress, total, 0
        self.sizes = [_size(sample, images) for sample in samples]

    def batches(self, jobs: Iterable[Job]) -> Iterator[list[Job]]:
        """Jobs by adapter, then by size: a batch has one adapter and little padding."""
        order = sorted(jobs, key=lambda job: (job[1] or "", self.sizes[job[0]], job[0]))
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]

    def prompts(self, batch: Sequence[Job]) -> list[Prompt]:
        return [
            load_prompt(self.samples[row], load=load_image if self.images else None)
            for row, _ in batch
        ]

    def finished(self, number: int) -> None:
        self.done += number
        if self.progress:
            self.progress(self.done, self.total)


def _routes(run: _Run, route_batch: RouteBatch) -> dict[int, Route]:
    """Decisions by row."""
    routes: dict[int, Route] = {}
    for batch in run.batches((row, None) for row in range(len(run.samples))):
        decided = route_batch(run.prompts(batch))
        routes |= {row: decision for (row, _), decision in zip(batch, decided, strict=True)}
        run.finished(len(batch))
    return routes


def _roles(sample: RoutingSample, decision: Route, labels: LabelMap) -> dict[Role, str | None]:
    """The adapter of each role for a sample; None: the base."""
    right = labels.label(str(sample.adapter))
    answered_by: dict[Role, str | None] = {
        "routed": decision.adapter,
        "oracle": labels.names[right],
        "base": None,
    }
    if len(labels) > 1:
        answered_by["wrong"] = labels.names[(right + 1) % len(labels)]
    return answered_by


def _jobs(answered_by: Mapping[int, Mapping[Role, str | None]]) -> dict[Job, list[Role]]:
    """The adapters that must answer each sample, and the roles that each answer is for."""
    jobs: dict[Job, list[Role]] = {}
    for row, asked in answered_by.items():
        for role, adapter in asked.items():
            jobs.setdefault((row, adapter), []).append(role)
    return jobs


def _others(
    engine: Engine | None,
    samples: Sequence[RoutingSample],
    asked: Sequence[int],
    multitask: str | None,
) -> dict[Role, str | None]:
    """Further roles that answer every sample, to measure the worth of routing."""
    if engine is None or not asked:
        raise ConfigError(
            "what routing is worth shows in answers: give an engine with adapters, leave task on "
            "(no --no-task), and give samples in scope that have a bbox"
        )
    labels = engine.router.labels
    others: dict[Role, str | None] = {"frequent": frequent_adapter(samples, labels)}
    if multitask is not None:
        if multitask not in engine.adapters:
            labels.label(multitask)  # raises; the message lists the known names
        others["multitask"] = multitask
    return others


def _latency(
    run: _Run,
    engine: Engine,
    answered_by: Mapping[int, Mapping[Role, str | None]],
    rows: Sequence[int],
    max_new_tokens: int | None,
) -> dict[Role, list[float]]:
    """Seconds by role, each for the same rows; empty if there are none."""
    if not rows:
        return {}
    roles: list[Role] = [role for role in answered_by[rows[0]] if role != "wrong"]
    named = {role: [answered_by[row][role] for row in rows] for role in roles}
    prompts = run.prompts([(row, None) for row in rows])
    return time_requests(engine, prompts, named, max_new_tokens, lambda: run.finished(1))


def _answers(
    run: _Run, engine: Engine, jobs: Mapping[Job, list[Role]], max_new_tokens: int | None
) -> dict[int, dict[Role, Answer]]:
    """Answers by row and role."""
    answers: dict[int, dict[Role, Answer]] = {}
    for batch in run.batches(jobs):
        said = engine.generate_batch(
            run.prompts(batch),
            adapter=[adapter or BASE for _, adapter in batch],
            max_new_tokens=max_new_tokens,
        )
        for job, answer in zip(batch, said, strict=True):
            answers.setdefault(job[0], {}).update(dict.fromkeys(jobs[job], answer))
        run.finished(sum(len(jobs[job]) for job in batch))
    return answers


def _spread(rows: Sequence[int], most: int) -> list[int]:
    """At most this many rows, spread evenly."""
    number = min(most, len(rows))
    return [rows[n * len(rows) // number] for n in range(number)]


def _is_clickable(sample: RoutingSample) -> bool:
    return sample.in_scope and sample.bbox is not None


def _size(sample: RoutingSample, images: bool) -> tuple[int, int]:
    """Pixels and characters; at most the headers of the images are read."""
    sizes = [image_size(Path(image)) for image in sample.images] if images else []
    return sum(width * height for width, height in sizes), len(sample.instruction)


def _line(prediction: Prediction) -> dict[str, Any]:
    sample, decision = prediction.sample, prediction.route
    line: dict[str, Any] = {
        "image": sample.images[0] if sample.images else None,
        "instruction": sample.instruction,
        "label": sample.label,
        "adapter": sample.adapter,
        "predicted_label": prediction.label,
        "predicted_adapter": prediction.adapter,
        "probabilities": decision.probabilities,
        "abstained": decision.abstained,
    }
    if prediction.answers:
        line["bbox"] = sample.bbox
        line["answers"] = {
            role: {
                "adapter": answer.adapter,
                "text": answer.text,
                "point": answer.point,
                "typed": answer.typed,
                "hit": prediction.hit(role),
            }
            for role in get_args(Role)
            if (answer := prediction.answers.get(role))
        }
    return line


def _title(evaluation: Evaluation) -> str:
    if not (part := evaluation.in_scope):
        return f"{len(evaluation.predictions)} samples, all out of scope"
    return f"{part.n} in scope: top label right {part.accuracy:.1%}, abstained {part.abstained:.1%}"
