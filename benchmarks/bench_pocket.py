"""The pocket on fresh screens and on real ones, and what they become when they are changed.

Routing and clicks by task and stratum, instructions in phrasings that no generator makes, canvases
of other sizes, dark mode, JPEG; a blank image and another screen as controls; seconds and bytes.
The real screenshots lie beside the repository; where they are absent their parts are left out.

    python benchmarks/bench_pocket.py [--samples 2000]
"""

import argparse
import io
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

from common import ROOT, SCREENS, WITHOUT_SCREENS, report
from PIL import Image, ImageOps

from lab.screens import write_screens
from lab.screens.calendar_look import ordinal
from lab.screens.counting import RANKS
from lab.screens.questions import Question
from lab.screens.scene import Scene, draw_scene
from lab.screens.screen import make_screen
from lab.screens.values import typed_value
from lab.screens.widget import Target, Widget
from lab.screens.write import record_of
from pointsman.cli.console import progress, quiet_libraries
from pointsman.data.dataset import read_samples_of
from pointsman.engine.engine import Engine
from pointsman.evaluation.evaluate import Evaluation, evaluate
from pointsman.evaluation.result import Prediction, is_hit
from pointsman.files import write_text
from pointsman.pocket import pocket_folder
from pointsman.sample import Box, RoutingSample, load_prompt, to_jsonl

SEED = 90_000
"""Of screens and instructions that nothing was trained on."""
PHRASINGS = Path(__file__).parent / "heldout_instructions.json"
_OWNERS = {
    "day": "calendar",
    "next-month": "calendar",
    "previous-month": "calendar",
    "field": "claim-window",
    "type": "claim-window",
    "button": "claim-window",
    "row": "provider-select",
}
_PER_PHRASING = 3
_RARE = 100
"""Samples of each task of which the fresh ones hold fewer: of 25, one that is wrong is 4%"""
_EVERYONE = 240
"""Samples of a set that everyone answers"""
_CHANGED = 80
"""Samples of a source that are changed"""
Change = Callable[[Image.Image], tuple[Image.Image, tuple[float, float], tuple[float, float]]]
"""An image's successor, the scale of its content (x, y), and where its corner has gone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000, help="fresh synthetic samples")
    parser.add_argument("--out", default="pocket", help="name of the results file")
    arguments = parser.parse_args()
    quiet_libraries()
    with pocket_folder() as model:
        result: dict[str, Any] = {"bytes": sizes_of(model), "seconds": seconds(model)}
    with tempfile.TemporaryDirectory() as folder, Engine.pocket() as engine:
        for name, samples in whole_sets(engine, Path(folder), arguments.samples):
            fields = [f for f in ("stratum", "task") if any(f in s.extra for s in samples)]
            with progress(f"{name}: routing") as shown:
                routing = evaluate(engine, samples, by=fields, task=False, progress=shown)
            # Four answers to each take long: everyone answers some, the right adapter all.
            with progress(f"{name}: everyone") as shown:
                everyone = evaluate(engine, samples[:_EVERYONE], by=fields, progress=shown)
            result[name] = {
                "routing": summary(routing),
                "everyone": everyone.to_json()["task"],
                "right adapter": known_adapter(engine, samples, fields),
            }
            print(name, json.dumps(result[name]["everyone"]), file=sys.stderr, flush=True)
        result["rare tasks"] = {
            "right adapter": known_adapter(engine, rare_tasks(engine, Path(folder)), ["task"])
        }
        for name, samples in changed_sets(engine, Path(folder)):
            result[name] = known_adapter(engine, samples, ["stratum"])
            print(name, json.dumps(result[name]["all"]), file=sys.stderr, flush=True)
    report(arguments.out, result)


Set = tuple[str, Sequence[RoutingSample]]


def whole_sets(engine: Engine, folder: Path, number: int) -> Iterator[Set]:
    """The sets that are routed, and that everyone answers."""
    labels = engine.router.labels
    if SCREENS.is_file():
        yield "real screens", read_samples_of(SCREENS, labels)
    else:
        print(f"left out: {WITHOUT_SCREENS}", file=sys.stderr)
    write_phrasings(folder / "phrasings")
    unseen = read_samples_of(folder / "phrasings" / "samples.jsonl", labels)
    yield "unseen phrasings", unseen
    write_screens(folder / "fresh", number, seed=SEED, per_image=2)
    yield "fresh", read_samples_of(folder / "fresh" / "samples.jsonl", labels)


def rare_tasks(engine: Engine, folder: Path) -> list[RoutingSample]:
    """Other fresh screens, for the tasks that are rare among the fresh ones."""
    labels = engine.router.labels
    fresh = read_samples_of(folder / "fresh" / "samples.jsonl", labels)
    found = Counter(sample.extra["task"] for sample in fresh if sample.in_scope)
    write_screens(folder / "more", 60 * _RARE, seed=SEED + 1, out_of_scope=0, per_image=2)
    more = read_samples_of(folder / "more" / "samples.jsonl", labels)
    return [
        sample
        for task, number in found.items()
        if number < _RARE
        for sample in [other for other in more if other.extra["task"] == task][:_RARE]
    ]


def changed_sets(engine: Engine, folder: Path) -> Iterator[Set]:
    """The sets that the right adapter answers: changed screens, and controls."""
    sources = {"fresh": folder / "fresh" / "samples.jsonl", "real": SCREENS}
    for source, path in sources.items():
        if not path.is_file():
            continue
        inside = [s for s in read_samples_of(path, engine.router.labels) if s.in_scope]
        inside = random.Random(SEED).sample(inside, min(len(inside), _CHANGED))
        for name, change in changes().items():
            place = folder / f"{source}, {name}"
            changed = [altered(s, change, place / f"{i}.png") for i, s in enumerate(inside)]
            yield place.name, changed
        if source == "real":
            yield "control: another screen", swapped(inside)


def known_adapter(
    engine: Engine, samples: Sequence[RoutingSample], fields: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Answers of the right adapter, and routing, by the values of fields; "all" is everything."""
    found: dict[str, list[tuple[bool, bool]]] = {}
    inside = [sample for sample in samples if sample.in_scope]
    for start in range(0, len(inside), 8):
        batch = inside[start : start + 8]
        prompts = [load_prompt(sample) for sample in batch]
        routes = engine.route_batch(prompts)
        answers = engine.generate_batch(prompts, adapter=[s.adapter or "base" for s in batch])
        for sample, route, answer in zip(batch, routes, answers, strict=True):
            pair = is_hit(answer, sample), Prediction(sample, route).correct
            for key in ("all", *(f"{field}: {sample.extra[field]}" for field in fields)):
                found.setdefault(key, []).append(pair)
    return {
        key: {
            "n": len(pairs),
            "oracle": fmean(hit for hit, _ in pairs),
            "accuracy": fmean(right for _, right in pairs),
        }
        for key, pairs in found.items()
    }


def changes() -> dict[str, Change]:
    changes: dict[str, Change] = {
        "inverted": lambda image: (ImageOps.invert(image), (1, 1), (0, 0)),
        "JPEG 60": lambda image: (jpeg(image, 60), (1, 1), (0, 0)),
    }
    for factor in (0.75, 1.25, 1.5):
        changes[f"scaled {factor}"] = partial(scaled, factor=factor)
    changes["padded to 1280x800"] = partial(padded, size=(1280, 800))
    changes["control: blank image"] = lambda image: (
        Image.new("RGB", image.size, "white"),
        (1, 1),
        (0, 0),
    )
    return changes


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def scaled(
    image: Image.Image, factor: float
) -> tuple[Image.Image, tuple[float, float], tuple[float, float]]:
    size = round(image.width * factor), round(image.height * factor)
    scale = size[0] / image.width, size[1] / image.height
    return image.resize(size, Image.Resampling.BICUBIC), scale, (0, 0)


def padded(
    image: Image.Image, size: tuple[int, int]
) -> tuple[Image.Image, tuple[float, float], tuple[float, float]]:
    """In the middle of a larger canvas that goes on in the screen's own colour."""
    canvas = Image.new("RGB", size, image.getpixel((1, 1)))
    corner = (size[0] - image.width) // 2, (size[1] - image.height) // 2
    canvas.paste(image, corner)
    return canvas, (1, 1), corner


def altered(sample: RoutingSample, change: Change, path: Path) -> RoutingSample:
    with Image.open(sample.images[0]) as image:
        changed, (across, down), (right, low) = change(image.convert("RGB"))
    path.parent.mkdir(exist_ok=True)
    changed.save(path)
    assert sample.bbox is not None
    x0, y0, x1, y1 = sample.bbox
    box: Box = (x0 * across + right, y0 * down + low, x1 * across + right, y1 * down + low)
    return replace(sample, images=(str(path),), bbox=box)


def swapped(samples: Sequence[RoutingSample]) -> list[RoutingSample]:
    """Each instruction on the screen of another sample of its adapter."""
    chance = random.Random(SEED)
    given = []
    for sample in samples:
        others = [
            other
            for other in samples
            if other.adapter == sample.adapter
            and other.images != sample.images
            # Of one size: else the place asked for may lie outside.
            and other.extra["size"] == sample.extra["size"]
        ]
        given.append(replace(sample, images=chance.choice(others).images))
    return given


def write_phrasings(folder: Path) -> None:
    """Screens that are asked about in phrasings which the generator does not make."""
    records = []
    for task, texts in json.loads(PHRASINGS.read_text("utf-8")).items():
        for number, text in enumerate(texts):
            for turn in range(_PER_PHRASING):
                rng = random.Random(f"{SEED}/{task}/{number}/{turn}")
                scene, question = ask(rng, task, text)
                stratum = "image-decides" if task == "rank" else "plain"
                screen = make_screen(scene, question, stratum)
                name = f"images/{task}-{number}-{turn}.png"
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                screen.image.save(folder / name)
                records.append(record_of(screen, name))
    write_text(folder / "samples.jsonl", to_jsonl(records))


def ask(rng: random.Random, task: str, text: str) -> tuple[Scene, Question]:
    adapter = _OWNERS.get(task) or rng.choice(list(dict.fromkeys(_OWNERS.values())))
    stratum = "image-decides" if task == "rank" else "plain"
    while True:
        scene = draw_scene(rng, adapter, stratum)
        widget = scene.widgets[0]
        target, values = target_of(rng, task, widget)
        if target is not None:
            typed = values.get("value")
            return scene, Question(text.format_map(values), target, widget, task, typed)


def target_of(
    rng: random.Random, task: str, widget: Widget
) -> tuple[Target | None, dict[str, str]]:
    """A target for the task, and what the slots of its phrasings stand for."""
    if task == "rank":
        rank = rng.randint(1, 4)
        values = {"ordinal": ordinal(rank), "number": str(rank), "rank": RANKS[rank - 1]}
        return widget.options[rank - 1], values
    kind = "field" if task == "type" else task
    needed = {"field": "field", "button": "button", "row": "name"}.get(kind)
    targets = [t for t in widget.targets if t.kind == kind and (not needed or needed in t.values)]
    if not targets:
        return None, {}
    target = rng.choice(targets)
    values = dict(target.values)
    if task == "type":
        values["value"] = typed_value(rng, values["field"])
    return target, values


def summary(evaluation: Evaluation) -> dict[str, Any]:
    everything = evaluation.to_json()
    by = {
        field: {value: {k: group[k] for k in ("n", "accuracy")} for value, group in groups.items()}
        for field, groups in everything["by"].items()
    }
    return {"in_scope": everything["in_scope"], "out_of_scope": everything["out_of_scope"]} | by


def sizes_of(model: Path) -> dict[str, int]:
    """What the shipped folder weighs, by part."""
    sizes = {
        name: sum(file.stat().st_size for file in (model / name).rglob("*") if file.is_file())
        for name in ("base", "adapters", "router")
    }
    return sizes | {"total": sum(sizes.values())}


def seconds(model: Path) -> dict[str, float]:
    """Medians of five processes: to load the engine (imports apart), to answer one screen."""
    script = (
        "import sys, time\n"
        "from PIL import Image\n"
        "import torch, transformers, pointsman.engine.engine as engine\n"
        "start = time.perf_counter()\n"
        "loaded = engine.Engine.pocket()\n"
        "ready = time.perf_counter()\n"
        "image = Image.open(sys.argv[1]).convert('RGB').resize((640, 448))\n"
        "answer = loaded.generate(image, sys.argv[2])\n"
        "done = time.perf_counter()\n"
        "print(ready - start, done - ready)\n"
    )
    image = next((model.parent / "screens").rglob("*.png"))
    runs = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script, str(image), "Take the second option"],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout.split()
        for _ in range(5)
    ]
    load, answer = (median(float(run[place]) for run in runs) for place in range(2))
    return {"load": round(load, 2), "first answer, 640x448": round(answer, 2)}


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{(time.perf_counter() - started) / 60:.0f} minutes", file=sys.stderr)
