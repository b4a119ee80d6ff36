"""The Modal wrappers: the functions that Modal would run, run here by Modal's own ``local``."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pointsman.errors import MismatchError
from pointsman.routing.feature_store import Features, read_features
from pointsman.routing.router import Router
from support.tiny import REPOSITORY

pytest.importorskip("modal", reason="the modal extra is not installed")
# Modal warns that a function run locally does not see its volume; the tests give other folders.
pytestmark = pytest.mark.filterwarnings("ignore:The .* function is executing locally:UserWarning")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "modal" / f"{name}.py")
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


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("router_train.py", ("--preprocessed-dir", "--adapter-names", "--out-dir")),
        ("router_preprocess.py", ("--dataset-dir", "--base", "--layers", "--max-pixels")),
    ],
)
def test_the_command_is_the_one_that_users_know(script: str, options: tuple[str, ...]) -> None:
    """Needs no account: Modal imports the file and shows the entry point's own help."""
    command = [sys.executable, "-m", "modal", "run", f"modal/{script}::run", "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for option in options:
        assert option in done.stdout
