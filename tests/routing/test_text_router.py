"""Routers that read text alone, in Python and on the command line."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pointsman.conversation import make_prompt
from pointsman.data.dataset import Dataset
from pointsman.engine.engine import Engine
from pointsman.errors import ConfigError, LabelError, MismatchError, RequestError
from pointsman.models.base import Base
from pointsman.project import load_project
from pointsman.routing.request_router import ReaderRouter, RequestRouter
from pointsman.routing.router import Router
from pointsman.routing.text_router import TextRouter
from support.commands import refused, run, succeeds
from support.encoders import make_encoder, write_texts
from support.tiny import ADAPTERS

TEXT = "pick date c7"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoder, dataset, features and router, made by the commands."""
    folder = tmp_path_factory.mktemp("text")
    make_encoder(folder / "encoder")
    sources = [f"--source={n}={paths[0]}" for n, paths in write_texts(folder / "sources").items()]
    shares = ("--val=0.25", "--test=0.25")
    succeeds("data", "generate", *sources, "--out", folder / "data", *shares)
    features = ("--out", folder / "features", "--encoder", folder / "encoder")
    made = succeeds("preprocess", folder / "data", *features, "--history", "last-user", "--json")
    result = json.loads(made.out)
    assert result["layers"] == [2, 3, 4]
    assert (result["poolings"], result["history"]) == (["mean"], "last-user")
    settings = ("--coverage", 1, "--layers", 3)
    succeeds("train", folder / "features", "--out", folder / "router", *settings)
    return folder


@pytest.fixture(scope="module")
def project(folder: Path, tiny_base_folder: Path, tiny_adapters: dict[str, str]) -> Path:
    """A project that routes by the encoder and answers with the base."""
    lines = [f'base = "{tiny_base_folder}"', 'encoder = "encoder"', 'router = "router"']
    lines += ["hysteresis = 0.5", "[adapters]"]
    lines += [f'{name} = "{path}"' for name, path in tiny_adapters.items()]
    (folder / "pointsman.toml").write_text("\n".join(lines))
    return folder / "pointsman.toml"


@pytest.fixture(scope="module")
def router_only(folder: Path) -> Path:
    """A project in front of a server: names and encoder, and no base."""
    lines = ['encoder = "encoder"', 'router = "router"', "[adapters]"]
    lines += [f'{name} = "served-as-{name}"' for name in ADAPTERS]
    (folder / "front.toml").write_text("\n".join(lines))
    return folder / "front.toml"


def test_route_needs_no_base(folder: Path, router_only: Path) -> None:
    by_router = succeeds("route", TEXT, "--router", folder / "router", "--json")
    by_project = succeeds("route", TEXT, "--config", router_only, "--json")
    assert json.loads(by_router.out) == json.loads(by_project.out)
    assert json.loads(by_router.out)["adapter"] == "calendar"


def test_a_text_router_answers_like_the_command(folder: Path, router_only: Path) -> None:
    expected = json.loads(succeeds("route", TEXT, "--router", folder / "router", "--json").out)
    for router in (TextRouter.load(str(folder / "router")), TextRouter.from_config(router_only)):
        routes = [router.route("nowhere.png", TEXT), *router.route_batch([make_prompt(None, TEXT)])]
        for decision in routes:
            assert decision.adapter == expected["adapter"]
            assert decision.probabilities == pytest.approx(expected["probabilities"])
        assert router.labels == router.router.labels
        assert not router.reads_images
        assert router.route_batch([]) == []


def test_engine_and_text_router_answer_to_one_protocol(
    folder: Path, tiny_engine: Engine, tiny_router: Path
) -> None:
    deciders: list[RequestRouter] = [TextRouter.load(folder / "router"), tiny_engine]
    for decider in deciders:
        assert decider.labels == decider.router.labels
        prompts = [make_prompt(None, text) for text in (TEXT, "claim a5")]
        alone = [decider.route(None, text) for text in (TEXT, "claim a5")]
        for one, other in zip(decider.route_batch(prompts), alone, strict=True):
            assert one.label == other.label
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)


def test_a_text_router_is_shared_by_threads(folder: Path) -> None:
    router = TextRouter.load(folder / "router")
    texts = [f"pick date c{number}" * (1 + number % 5) for number in range(40)]
    expected = [router.route(None, text).probabilities for text in texts]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: router.route(None, text).probabilities, texts))
    assert found == expected


def test_a_session_of_a_text_router_keeps_its_adapter(folder: Path) -> None:
    loaded = TextRouter.load(folder / "router", hysteresis=1.0)
    first = loaded.route(None, TEXT, session="a")
    texts = ("open claim b3", "select provider p4", "claim a5", "provider b2", "pick date c3")
    other = next(text for text in texts if loaded.route(None, text).label != first.label)
    kept = loaded.route(None, other, session="a")
    assert (kept.adapter, kept.held) == (first.adapter, True)
    assert loaded.route(None, other, session="b").adapter != first.adapter
    with pytest.raises(RequestError, match="session"):
        loaded.route(None, TEXT, session="")


def test_what_a_text_router_refuses(folder: Path, tiny_router: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reads with its base.*give it to an Engine"):
        TextRouter.load(tiny_router)
    with pytest.raises(ConfigError, match="leave the encoder out"):
        TextRouter.load(tiny_router, encoder=folder / "encoder")
    with pytest.raises(LabelError, match="unknown adapter 'nobody'"):
        TextRouter.load(folder / "router", fallback="nobody")
    with pytest.raises(ConfigError, match="hysteresis is 2"):
        TextRouter.load(folder / "router", hysteresis=2)
    with pytest.raises(MismatchError, match="differ in their weights"):
        TextRouter.load(folder / "router", encoder=make_encoder(tmp_path / "other", seed=8))


def test_a_base_and_its_router_route_without_adapters(
    tiny_base: Base, tiny_router: Path, tiny_engine: Engine, tiny_data: Dataset
) -> None:
    pair = ReaderRouter(tiny_base, Router.load(tiny_router))
    assert pair.reads_images
    for sample in tiny_data.splits["test"][::4]:
        image, text = sample.images[0], sample.instruction
        decision, expected = pair.route(image, text), tiny_engine.route(image, text)
        assert decision.label == expected.label
        assert decision.probabilities == pytest.approx(expected.probabilities, abs=1e-4)


def test_routing_loads_no_library_of_training() -> None:
    code = (
        "import sys, pointsman.engine.engine, pointsman.routing.text_router\n"
        "print(*{'sklearn', 'matplotlib', 'torchvision', 'pandas'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert found.split() == []


def test_an_image_is_left_aside_with_a_note(folder: Path) -> None:
    result = run("route", "nowhere.png", TEXT, "--router", folder / "router", "--json")
    assert result.code == 0
    assert result.err == "the router reads only text; nowhere.png is not used\n"
    assert json.loads(result.out)["adapter"] == "calendar"


def test_a_moved_encoder_is_named_anew(folder: Path, tmp_path: Path) -> None:
    router = Path(shutil.copytree(folder / "router", tmp_path / "router"))
    moved = shutil.copytree(folder / "encoder", tmp_path / "moved")
    found = succeeds("route", TEXT, "--router", router, "--encoder", moved, "--json")
    assert found.out == succeeds("route", TEXT, "--router", folder / "router", "--json").out
    other = make_encoder(tmp_path / "other", seed=8)
    line = refused("route", TEXT, "--router", router, "--encoder", other)
    assert "differ in their weights" in line


def test_evaluate_needs_no_base(folder: Path) -> None:
    options = ("--data", folder / "data", "--router", folder / "router")
    result = json.loads(succeeds("evaluate", *options, "--json").out)
    assert result["in_scope"]["n"] == 30
    assert result["in_scope"]["accuracy"] > 0.95
    assert result["task"] is None


def test_evaluate_answers_where_there_is_a_base(
    project: Path, tiny_dataset: Path, router_only: Path
) -> None:
    given = ("evaluate", "--data", tiny_dataset, "--json", "--config")
    assert json.loads(succeeds(*given, project).out)["task"]["n"] == 9
    assert json.loads(succeeds(*given, project, "--no-task").out)["task"] is None
    assert json.loads(succeeds(*given, router_only).out)["task"] is None


def test_generate_routes_by_the_encoder(project: Path) -> None:
    said = json.loads(
        succeeds("generate", TEXT, "--config", project, "--max-new-tokens=2", "--json").out
    )
    assert said["adapter"] == said["route"]["adapter"] == "calendar"
    shown = succeeds("generate", TEXT, "--config", project, "--max-new-tokens=2").out
    assert "plan two-pass: the router reads with a text encoder of its own" in " ".join(
        shown.split()
    )


def test_the_engine_takes_what_the_project_says(project: Path) -> None:
    found = load_project(project)
    assert (found.encoder, found.hysteresis) == (str(project.parent / "encoder"), 0.5)
    with Engine.from_config(project) as engine:
        assert engine.route(None, TEXT, session="a").adapter == "calendar"
        assert engine._sessions._hysteresis == 0.5


def test_adapters_are_sealed_without_a_base(
    folder: Path, tiny_adapters: dict[str, str], tmp_path: Path
) -> None:
    router = Path(shutil.copytree(folder / "router", tmp_path / "router"))
    lines = [f'encoder = "{folder / "encoder"}"', f'router = "{router}"', "[adapters]"]
    lines += [f'{name} = "{path}"' for name, path in tiny_adapters.items()]
    (tmp_path / "front.toml").write_text("\n".join(lines))
    succeeds("seal", router, "--config", tmp_path / "front.toml")
    assert Router.load(router).unsealed == []
    assert json.loads(succeeds("route", TEXT, "--router", router, "--json").out)["label"] == 0


def test_inspect_shows_the_reader(folder: Path) -> None:
    sealed = json.loads(succeeds("inspect", folder / "router", "--json").out)
    assert sealed["base_model_id"] == str(folder / "encoder")
    assert sealed["fingerprint"]["reading"]
    assert not sealed["fingerprint"]["image_processor"]
    assert sealed["recipe"]["history"] == "last-user"


def test_bad_input(
    folder: Path,
    router_only: Path,
    tiny_base_folder: Path,
    tiny_router: Path,
    tiny_adapters: dict[str, str],
    tmp_path: Path,
) -> None:
    encoder, data = folder / "encoder", folder / "data"
    out = ("--out", tmp_path / "out")
    both = ("--base", tiny_base_folder, "--encoder", encoder)
    for arguments, message in (
        (("preprocess", data, *out, *both), "a router reads with only one of them; give one"),
        (("preprocess", data, *out, "--encoder", tmp_path / "no"), "no: no such folder"),
        (("preprocess", data, *out, "--encoder", tiny_base_folder), "is no text encoder"),
        (("preprocess", data, *out, "--encoder", encoder, "--layers", "9"), "has layers 1 to 4"),
        (
            ("preprocess", data, *out, "--encoder", encoder, "--history", "all"),
            "unknown history 'all'; known are conversation, last-user",
        ),
        (
            ("preprocess", data, *out, "--encoder", encoder, "--pooling", "image-mean"),
            "reads text alone; use 'mean'",
        ),
        (("route", "a", "b", "c", "--router", folder / "router"), "one image and one text"),
        (("route", "a", "--encoder", encoder), "give the --router that was trained on it"),
        (
            ("route", "a", "--router", tiny_router, "--encoder", encoder),
            "the router reads with its base",
        ),
        (("generate", "a", "--config", router_only), 'needs base = "a Hub id or folder"'),
        (
            ("adapters", "train", "calendar", data, *out, "--config", router_only),
            'needs base = "a Hub id or folder", or give --base',
        ),
    ):
        assert message in refused(*arguments), arguments
    project = tmp_path / "pointsman.toml"
    lines = ['encoder = "x"', 'router = "y"', "[adapters]", 'a = "b"']
    for line, message in (
        ("hysteresis = 2", "hysteresis is 2; give a number from 0 to 1"),
        ("hysteresis = true", "hysteresis is True; give a number"),
        ("encoder = 3", "encoder is 3; give a string"),
    ):
        rest = [other for other in lines if other.split(" = ")[0] != line.split(" = ")[0]]
        project.write_text("\n".join([line, *rest]))
        assert message in refused("route", "a", "--config", project)
    project.write_text("\n".join(lines[1:]))
    assert 'needs base = "a Hub id or folder"' in refused("route", "a", "--config", project)
    named = [f'{name} = "{path}"' for name, path in tiny_adapters.items()]
    head = [f'base = "{tiny_base_folder}"', f'router = "{tiny_router}"', f'encoder = "{encoder}"']
    project.write_text("\n".join([*head, "[adapters]", *named]))
    assert "the router reads with its base" in refused("generate", "a", "--config", project)
