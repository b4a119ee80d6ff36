"""The embedded model as it ships: complete, sealed, small, and right on its own screenshots."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from pointsman.adapters.peft import load_base_with_loras
from pointsman.conversation import make_prompt
from pointsman.engine.engine import Engine
from pointsman.evaluation.demo import demo_samples
from pointsman.evaluation.evaluate import evaluate
from pointsman.models.qwen3_vl import fingerprint_of
from pointsman.pocket import pocket_folder
from pointsman.project import load_project
from pointsman.routing.router import Router
from pointsman.sample import is_inside, read_samples

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def pocket() -> Iterator[Engine]:
    with Engine.pocket() as engine:
        yield engine


def test_it_is_small() -> None:
    with pocket_folder() as folder:
        total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert total <= 32 * MEGABYTE


def test_its_parts_belong_together() -> None:
    with pocket_folder() as folder:
        project = load_project(folder / "pointsman.toml")
        router = Router.load(Path(str(project.router)))
        assert router.labels == project.labels
        assert router.origin.fingerprint == fingerprint_of(project.base)
        load_base_with_loras(project.base, project.adapters)


def test_its_adapters_leave_the_routers_layers_alone() -> None:
    """So that one forward can route and answer."""
    with pocket_folder() as folder:
        router = Router.load(folder / "router")
        for config in (folder / "adapters").glob("*/adapter_config.json"):
            layers = json.loads(config.read_text())["layers_to_transform"]
            assert min(layers) >= router.layer


def test_nothing_in_it_names_a_path() -> None:
    with pocket_folder() as folder:
        for path in [*folder.rglob("*.json"), *folder.rglob("*.md"), *folder.rglob("*.toml")]:
            if path.name not in ("tokenizer.json",):
                assert '"/' not in path.read_text(), path


def test_demo_screens_are_routed_and_clicked(pocket: Engine) -> None:
    with demo_samples() as samples:
        prompts = [make_prompt(Path(s.images[0]), s.instruction) for s in samples]
        answers = pocket.generate_batch(prompts)
    routed = [a.adapter == s.adapter for a, s in zip(answers, samples, strict=True)]
    assert sum(routed) >= len(routed) - 1
    clicks = [is_inside(a.point, s.bbox) for a, s in zip(answers, samples, strict=True) if s.bbox]
    assert sum(clicks) >= 0.9 * len(clicks)


def test_demo_screens_are_clicked_when_they_are_small(pocket: Engine) -> None:
    """Small screens are shown larger, so that small type can be read."""
    with demo_samples() as samples:
        inside = [sample for sample in samples if sample.bbox]
        prompts = []
        for sample in inside:
            with Image.open(sample.images[0]) as image:
                size = image.width * 3 // 4, image.height * 3 // 4
                small = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
            prompts.append(make_prompt(small, sample.instruction))
        answers = pocket.generate_batch(prompts)
    clicks = []
    for prompt, answer, sample in zip(prompts, answers, inside, strict=True):
        assert sample.bbox is not None
        scale = prompt.images[0].width / sample.extra["size"][0]
        left, top, right, bottom = (edge * scale for edge in sample.bbox)
        clicks.append(is_inside(answer.point, (left, top, right, bottom)))
    assert sum(clicks) >= 0.9 * len(clicks)


def test_only_the_right_adapter_clicks_right(pocket: Engine) -> None:
    """The base never saw an instruction: without its adapters, or with wrong ones, it is lost."""
    with demo_samples() as samples:
        result = evaluate(pocket, [sample for sample in samples if sample.in_scope])
    assert result.task is not None
    assert result.task.wrong is not None
    assert result.task.base <= 0.1
    assert result.task.wrong <= result.task.oracle - 0.3


def test_routing_on_real_screens(pocket: Engine, screens: Path) -> None:
    samples = read_samples(screens / "samples.jsonl", pocket.router.labels)
    result = evaluate(pocket, samples[::4], by=["stratum"], task=False)
    assert result.in_scope is not None
    assert result.in_scope.accuracy >= 0.95
