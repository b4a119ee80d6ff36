"""The wheel that users install: built, installed into an empty folder, and run from there."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import pointsman
from support.tiny import REPOSITORY

LINES = 28_450
"""Of Python at most: what a reader has before them; the laboratory has 10,000 more."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    # A build folder in the repository would shadow nothing but would be left behind.
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((REPOSITORY / name).read_bytes())
    (source / "src").symlink_to(REPOSITORY / "src")
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_pocket_and_no_tests(names: set[str]) -> None:
    assert "pointsman/pocket/model/base/model.safetensors" in names
    assert "pointsman/pocket/model/router/config.json" in names
    assert "pointsman/pocket/model/adapters/calendar/adapter_model.safetensors" in names
    assert "pointsman/pocket/model/pointsman.toml" in names
    assert "pointsman/pocket/screens/samples.jsonl" in names
    assert "pointsman/py.typed" in names
    assert not [name for name in names if "test" in name]


def test_the_wheel_holds_the_whole_package(names: set[str]) -> None:
    """Data files too: each kind must be named in pyproject.toml."""
    source = REPOSITORY / "src"
    files = {
        path.relative_to(source).as_posix()
        for path in (source / "pointsman").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files <= names


def test_the_wheel_holds_neither_renderer_nor_pretraining(wheel: Path, names: set[str]) -> None:
    info = f"pointsman-{pointsman.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"pointsman", info}
    assert not [name for name in names if re.search(r"(lab|screens|pretrain)/.*\.py$", name)]
    with zipfile.ZipFile(wheel) as archive:
        code = [archive.read(name) for name in names if name.endswith(".py")]
    assert sum(text.count(b"\n") for text in code) <= LINES


def test_the_version_is_that_of_the_module_and_in_the_changelog(wheel: Path) -> None:
    version = pointsman.__version__
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"pointsman-{version}.dist-info/METADATA").decode()
    assert f"\nVersion: {version}\n" in metadata
    headings = re.findall(r"^## \[(.+?)\]", (REPOSITORY / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert {version, "Unreleased"} & set(headings[:1])
    assert "version =" not in (REPOSITORY / "pyproject.toml").read_text("utf-8").split("[tool.")[0]


def test_the_wheel_works_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    image = tmp_path / "site/pointsman/pocket/screens/images"
    picture = sorted(image.iterdir())[0]
    command = [sys.executable, "-m", "pointsman", "route", str(picture), "Click the 3rd"]
    done = subprocess.run(
        [*command, "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"adapter"' in done.stdout
    assert "using the embedded pocket model" in done.stderr
