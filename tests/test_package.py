"""The wheel that users install: built, installed into an empty folder, and run from there."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.tiny import REPOSITORY


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


def test_the_wheel_holds_the_pocket_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "pointsman/pocket/model/base/model.safetensors" in names
    assert "pointsman/pocket/model/router/config.json" in names
    assert "pointsman/pocket/model/adapters/calendar/adapter_model.safetensors" in names
    assert "pointsman/pocket/model/pointsman.toml" in names
    assert "pointsman/pocket/screens/samples.jsonl" in names
    assert "pointsman/py.typed" in names
    assert not [name for name in names if "test" in name]


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
