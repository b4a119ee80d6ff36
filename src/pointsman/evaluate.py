"""Evaluation: routes samples, has them answered, and writes down what came of it.

Answers are greedy, so an adapter is asked once about a sample, however many roles it plays there.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pointsman.answer import Answer
from pointsman.base import Prompt
from pointsman.engine import Engine
from pointsman.errors import ConfigError
from pointsman.features import Progress, Reader, load_prompt
from pointsman.files import write_bytes, write_json, write_text
from pointsman.images import image_size
from pointsman.labels import LabelMap
from pointsman.metrics import (
    ROLES,
    Evaluation,
    Prediction,
    Role,
    Seconds,
    check_samples,
    measure,
)
from pointsman.plots import confusion_png
from pointsman.router import Route, Router
from pointsman.sample import RoutingSample, to_jsonl
from pointsman.with_peft import route

__all__ = ["Evaluation", "Prediction", "evaluate", "measure", "save"]

Job = tuple[int, str | None]
"""A sample's row and who is to answer it; None is the base."""
RouteBatch = Callable[[Sequence[Prompt]], list[Route]]


def evaluate(
    engine: Engine | tuple[Reader, Router],
    samples: Sequence[RoutingSample],
    *,
    by: Sequence[str] = (),
    task: bool = True,
    batch_size: int = 8,
    max_new_tokens: int = 256,
    progress: Progress | None = None,
) -> Evaluation:
    """Routes every sample and has those answered that are in scope and have a bbox.

    Args:
        engine: an engine, or a base without adapters or a text encoder, and a router trained on it.
            Such a pair can only route, so ``Evaluation.task`` is then None.
        samples: labelled with the router's label map.
        by: fields to break the accuracy down by: ``adapter``, ``label`` or an extra key of the
            samples. In a group an out-of-scope sample is correct if the router abstained.
        task: False leaves the answers out; they take most of the time.
        batch_size: requests that the model is given at once.
        max_new_tokens: of one answer; the default is the engine's own.
        progress: called with (done, in all), where each route and each answer counts as one.

    Raises:
        ConfigError: a field that no sample has, or a batch size below 1.
        SampleError: no samples, one without a label, or an image that cannot be used.
        LabelError: a sample's label that is out of range.
        MismatchError: samples of another label map, or a router of another base.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size {batch_size}: give at least 1")
    labels, route_batch = _reader(engine)
    images = isinstance(engine, Engine) or engine[0].reads_images
    check_samples(samples, labels, by)
    answerer = engine if task and isinstance(engine, Engine) else None
    asked = [row for row, sample in enumerate(samples) if answerer and _is_clickable(sample)]
    roles = 4 if len(labels) > 1 else 3
    run = _Run(samples, batch_size, progress, len(samples) + roles * len(asked), images)
    started = time.perf_counter()
    routes = _routes(run, route_batch)
    between = time.perf_counter()
    answers: dict[int, dict[Role, Answer]] = {}
    if answerer:
        jobs = _jobs(asked, samples, routes, labels)
        answers = _answers(run, answerer, jobs, max_new_tokens)
    predictions = [
        Prediction(sample, routes[row], answers.get(row, {})) for row, sample in enumerate(samples)
    ]
    seconds = Seconds(between - started, time.perf_counter() - between if asked else None)
    return measure(labels, predictions, by=by, seconds=seconds)


def save(evaluation: Evaluation, out: Path) -> None:
    """Writes ``predictions.jsonl``, ``confusion.png`` and, last, ``evaluation.json`` to ``out``.

    Raises:
        ArtefactError: ``out`` cannot be written.
    """
    lines = to_jsonl(_line(prediction) for prediction in evaluation.predictions)
    picture = confusion_png(evaluation.confusion, evaluation.labels.names, _title(evaluation))
    write_text(out / "predictions.jsonl", lines)
    write_bytes(out / "confusion.png", picture)
    write_json(out / "evaluation.json", evaluation.to_json())


class _Run:
    """Samples by row, cut into batches of images of like size; counts what is done."""

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
        """Jobs by who answers, then by size: a batch shares its adapter and is padded little."""
        order = sorted(jobs, key=lambda job: (job[1] or "", self.sizes[job[0]], job[0]))
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]

    def prompts(self, batch: Sequence[Job]) -> list[Prompt]:
        return [load_prompt(self.samples[row], images=self.images) for row, _ in batch]

    def finished(self, number: int) -> None:
        self.done += number
        if self.progress:
            self.progress(self.done, self.total)


def _reader(engine: Engine | tuple[Reader, Router]) -> tuple[LabelMap, RouteBatch]:
    if isinstance(engine, Engine):
        return engine.router.labels, engine.route_batch
    reader, router = engine
    router.check_base(reader)
    return router.labels, lambda prompts: route(reader, router, prompts)


def _routes(run: _Run, route_batch: RouteBatch) -> dict[int, Route]:
    """Decisions by row."""
    routes: dict[int, Route] = {}
    for batch in run.batches((row, None) for row in range(len(run.samples))):
        decided = route_batch(run.prompts(batch))
        routes |= {row: decision for (row, _), decision in zip(batch, decided, strict=True)}
        run.finished(len(batch))
    return routes


def _jobs(
    rows: Sequence[int],
    samples: Sequence[RoutingSample],
    routes: Mapping[int, Route],
    labels: LabelMap,
) -> dict[Job, list[Role]]:
    """Who has to answer which sample, and the roles that the answer is for."""
    jobs: dict[Job, list[Role]] = {}
    for row in rows:
        right = labels.label(str(samples[row].adapter))
        who: dict[Role, str | None] = {
            "routed": routes[row].adapter,
            "oracle": labels.names[right],
            "base": None,
        }
        if len(labels) > 1:
            who["wrong"] = labels.names[(right + 1) % len(labels)]
        for role, adapter in who.items():
            jobs.setdefault((row, adapter), []).append(role)
    return jobs


def _answers(
    run: _Run, engine: Engine, jobs: Mapping[Job, list[Role]], max_new_tokens: int
) -> dict[int, dict[Role, Answer]]:
    """Answers by row and role."""
    answers: dict[int, dict[Role, Answer]] = {}
    for batch in run.batches(jobs):
        said = engine.generate_batch(
            run.prompts(batch),
            adapters=[adapter for _, adapter in batch],
            max_new_tokens=max_new_tokens,
        )
        for job, answer in zip(batch, said, strict=True):
            answers.setdefault(job[0], {}).update(dict.fromkeys(jobs[job], answer))
        run.finished(sum(len(jobs[job]) for job in batch))
    return answers


def _is_clickable(sample: RoutingSample) -> bool:
    return sample.in_scope and sample.bbox is not None


def _size(sample: RoutingSample, images: bool) -> tuple[int, int]:
    """Pixels and characters; only the headers of the images are read, or nothing of them."""
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
            for role in ROLES
            if (answer := prediction.answers.get(role))
        }
    return line


def _title(evaluation: Evaluation) -> str:
    if not (part := evaluation.in_scope):
        return f"{len(evaluation.predictions)} samples, all out of scope"
    return f"{part.n} in scope: top label right {part.accuracy:.1%}, abstained {part.abstained:.1%}"
