"""The demo: shipped screenshots of real web widgets, routed and answered by the pocket model."""

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, ClassVar

from matplotlib.figure import Figure
from PIL import Image

from pointsman.conversation import make_prompt
from pointsman.engine.answer import Answer
from pointsman.engine.engine import Engine
from pointsman.evaluation.overlay import draw_overlay
from pointsman.evaluation.pages import render
from pointsman.evaluation.result import is_hit
from pointsman.files import write_bytes, write_text
from pointsman.images import load_image
from pointsman.pocket import pocket_folder
from pointsman.progress import Progress
from pointsman.project import FILE_NAME, load_project
from pointsman.routing.route import Route
from pointsman.sample import RoutingSample, read_samples


@dataclass(frozen=True)
class DemoRow:
    """A screenshot, its answer and their table row."""

    sample: RoutingSample
    answer: Answer
    picture: str
    """File name of the overlay, in the demo's folder"""

    @property
    def right_route(self) -> bool:
        return self.answer.adapter == self.sample.adapter

    @property
    def hit(self) -> bool | None:
        """Whether click and typed text are right; None if there is no box to hit."""
        return None if self.sample.bbox is None else is_hit(self.answer, self.sample)

    @property
    def route(self) -> Route:
        assert self.answer.route is not None
        return self.answer.route

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells, one per column of ``DemoResult.COLUMNS``."""
        return (
            self.sample.instruction,
            str(self.route.label),
            self.answer.adapter or "(abstained)",
            f"{self.route.confidence:.3f}",
            _actions(self.answer),
            {True: "yes", False: "no", None: "-"}[self.hit],
        )


@dataclass(frozen=True)
class DemoResult:
    """The results for the shipped screenshots."""

    entries: list[DemoRow]

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "instruction",
        "label",
        "adapter",
        "prob.",
        "actions",
        "right?",
    )

    def rows(self) -> list[tuple[str, ...]]:
        return [entry.cells for entry in self.entries]

    def summary(self) -> str:
        hits = [entry.hit for entry in self.entries if entry.hit is not None]
        routed = sum(entry.right_route for entry in self.entries)
        return (
            f"{routed} of {len(self.entries)} routed right, "
            f"{sum(hits)} of {len(hits)} answered right"
        )

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {
                "instruction": entry.sample.instruction,
                "image": entry.picture,
                "expected": entry.sample.adapter,
                "label": entry.route.label,
                "adapter": entry.answer.adapter,
                "probabilities": entry.route.probabilities,
                "actions": entry.answer.actions,
                "point": entry.answer.point,
                "typed": entry.answer.typed,
                "hit": entry.hit,
            }
            for entry in self.entries
        ]


def run_demo(out: str | Path, progress: Progress | None = None) -> DemoResult:
    """Answers the shipped screenshots and writes overlays and ``index.html`` to ``out``.

    Args:
        progress: called with (screenshots answered, total screenshots).

    Raises:
        ArtefactError: ``out`` cannot be written.
    """
    out = Path(out)
    entries = []
    with demo_samples() as samples, Engine.pocket() as engine:
        for number, sample in enumerate(samples, 1):
            picture = load_image(Path(sample.images[0]))
            [answer] = engine.generate_batch([make_prompt(picture, sample.instruction)])
            entry = DemoRow(sample, answer, f"{number:02d}.png")
            _write_overlay(out / entry.picture, picture, entry)
            entries.append(entry)
            if progress:
                progress(number, len(samples))
    result = DemoResult(entries)
    write_bytes(out / "overview.png", _overview(out, entries))
    page = render("demo.html.j2", summary=result.summary(), entries=entries)
    write_text(out / "index.html", page)
    return result


@contextmanager
def demo_samples() -> Iterator[list[RoutingSample]]:
    """The shipped screenshots with their right answers."""
    with pocket_folder() as pocket, as_file(files("pointsman.pocket") / "screens") as folder:
        labels = load_project(pocket / FILE_NAME).labels
        yield read_samples(folder / "samples.jsonl", labels)


def _write_overlay(path: Path, image: Image.Image, entry: DemoRow) -> None:
    buffer = io.BytesIO()
    answer = entry.answer
    draw_overlay(image, answer.point, entry.sample.bbox, answer.typed).save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def _overview(out: Path, entries: Sequence[DemoRow]) -> bytes:
    """One picture of the first screenshots of each adapter and one out of scope."""
    by_adapter: dict[str | None, list[DemoRow]] = {}
    for entry in entries:
        by_adapter.setdefault(entry.sample.adapter, []).append(entry)
    shown = [entry for rows in by_adapter.values() for entry in rows[:2]][:6]
    figure = Figure(figsize=(13, 7.2), layout="constrained")
    for axes, entry in zip(figure.subplots(2, 3).flat, shown, strict=False):
        with Image.open(out / entry.picture) as picture:
            axes.imshow(picture)
        decision = entry.route
        answered_by = entry.answer.adapter or "abstained"
        instruction = textwrap.shorten(entry.sample.instruction, 48)
        axes.set_title(f"{instruction}\n→ {answered_by} ({decision.confidence:.2f})", fontsize=11)
        axes.set_xticks([])
        axes.set_yticks([])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


def _actions(answer: Answer) -> str:
    if not answer.actions:
        return textwrap.shorten(answer.text, 40)
    return ", ".join(map(_action, answer.actions))


def _action(action: Mapping[str, Any]) -> str:
    values = [str(value) for key, value in action.items() if key != "action"]
    return " ".join([str(action.get("action")), *values])
