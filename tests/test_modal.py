"""The Modal wrappers: the functions that Modal would run, run here by Modal's own ``local``."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import pointsman
from pointsman.errors import LabelError, MismatchError
from pointsman.project import Project
from pointsman.routing.feature_store import Features, read_features
from pointsman.routing.router import Router
from support.sources import png
from support.tiny import ADAPTERS, REPOSITORY

pytest.importorskip("modal", reason="the modal extra is not installed")
APPS = REPOSITORY / "modal"
# Modal warns that a function run locally does not see its volume; the tests give other folders.
pytestmark = pytest.mark.filterwarnings("ignore:The .* function is executing locally:UserWarning")


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `modal run` does, which puts an app's folder on the path."""
    monkeypatch.syspath_prepend(str(APPS))


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, APPS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_preprocess(tiny_dataset: Path, tiny_base_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "features"
    line = load("router_preprocess").preprocess.local(
        str(tiny_dataset), str(out), str(tiny_base_folder), "1,3", 0
    )
    assert "0=calendar" in line
    assert read_features(out).recipe.layers == (1, 3)


def test_train(tiny_features: Features, tmp_path: Path) -> None:
    train = load("router_train").train
    train.local(str(tiny_features.path), str(tmp_path / "router"), "", 0)
    assert Router.load(tmp_path / "router").labels == tiny_features.labels
    with pytest.raises(MismatchError, match="--adapter-names"):
        train.local(str(tiny_features.path), str(tmp_path / "other"), "claim-window,calendar", 0)


def project_file(folder: Path, project: Project, router: Path) -> str:
    lines = [f'base = "{project.base}"', f'router = "{router}"', "[adapters]"]
    lines += [f'{name} = "{path}"' for name, path in project.adapters.items()]
    (folder / "pointsman.toml").write_text("\n".join(lines))
    return str(folder / "pointsman.toml")


def test_preprocess_tells_how_far_it_is(
    tiny_dataset: Path, tiny_base_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = load("router_preprocess")
    app.preprocess.local(str(tiny_dataset), str(tmp_path / "f"), str(tiny_base_folder), "1", 0)
    assert "features 36/36" in capsys.readouterr().err


def test_metadata_is_what_the_original_saved(tiny_features: Features) -> None:
    found = load("router_preprocess").metadata(str(tiny_features.path))
    assert found["num_classes"] == 3
    assert found["class_names"] == list(ADAPTERS)


def test_adapters_train(tiny_dataset: Path, tiny_base_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "calendar"
    train = load("adapters_train").train
    line = train.local("calendar", str(tiny_dataset), str(out), str(tiny_base_folder), 2, 1.0)
    assert "trained on 6 samples" in line
    assert (out / "adapter_model.safetensors").is_file()
    with pytest.raises(LabelError, match="unheard-of"):
        train.local("unheard-of", str(tiny_dataset), str(out), str(tiny_base_folder), 2, 1.0)


def test_seal_evaluate_and_generate(
    tiny_project: Project, tiny_dataset: Path, tiny_router: Path, tmp_path: Path
) -> None:
    router = tmp_path / "router"
    shutil.copytree(tiny_router, router)
    config = project_file(tmp_path, tiny_project, router)
    seal = load("router_seal").seal
    assert seal.local(str(router), config, "") == "\n".join(f"{n}: sealed" for n in ADAPTERS)
    assert "calendar: unchanged" in seal.local(str(router), config, "")
    out = tmp_path / "evaluation"
    line = load("evaluate").evaluate.local(str(tiny_dataset), config, str(out), False)
    assert "accuracy in scope" in line
    assert (out / "report.html").is_file()
    answer = load("generate").generate.local(png(1), "Pick day 3", config)
    assert set(answer) >= {"text", "adapter", "route"}


def test_the_original_functions_are_where_they_were() -> None:
    app = load("router_train")
    for name in app.LIBRARY:
        assert getattr(app, name) is getattr(pointsman, name)
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = app.nothing


def test_adapter_names_are_a_list_on_the_command_line() -> None:
    common, app = load("common"), load("router_train")
    run = app.run.info.raw_f
    found: dict[str, object] = {}
    app.train = SimpleNamespace(remote=lambda *given: found.update(enumerate(given)))
    run("--preprocessed-dir", "/data/f", "--adapter-names", *ADAPTERS, "--seed", "3")
    assert list(found.values()) == ["/data/f", "/data/routers/f", ",".join(ADAPTERS), 3]
    assert common.names(",".join(ADAPTERS)) == common.names(" ".join(ADAPTERS)) == list(ADAPTERS)
    with pytest.raises(SystemExit):
        run("--adapter-names", *ADAPTERS)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load("common").GPU == "H100"
    monkeypatch.setenv("POINTSMAN_GPU", "A100-80GB")
    assert load("common").ON_GPU["gpu"] == "A100-80GB"
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(APPS))
    load("common")  # as it was, for other tests


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("router_train.py", ("--preprocessed-dir", "--adapter-names", "--out-dir")),
        ("router_preprocess.py", ("--dataset-dir", "--base", "--layers", "--max-pixels")),
        ("adapters_train.py", ("--name", "--dataset-dir", "--layers-from")),
        ("router_seal.py", ("--router", "--config", "--again")),
        ("evaluate.py", ("--dataset-dir", "--config", "--worth")),
        ("generate.py", ("--text", "--image", "--config")),
    ],
)
def test_the_command_is_the_one_that_users_know(script: str, options: tuple[str, ...]) -> None:
    """Needs no account: Modal imports the file and shows the entry point's own help."""
    command = [sys.executable, "-m", "modal", "run", f"modal/{script}::run", "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for option in options:
        assert option in done.stdout
