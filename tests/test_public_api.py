"""The public names: found, documented, and seen by type checkers as they are at run time."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import pointsman
from pointsman import errors

NEED_A_PROJECT = ("ADAPTER_LABELS", "STANDARD_ADAPTER_ORDER")
NAMES = sorted({*pointsman.__all__, *NEED_A_PROJECT})

SCRIPT = """
from pathlib import Path

import pointsman
from pointsman import Engine, LabelMap, PointsmanError, Router, load_project


def answered(image: Path, text: str) -> str:
    with Engine.pocket() as engine:
        answer: pointsman.Answer = engine.generate(image, text)
        route: pointsman.Route = engine.route(image, text)
    return f"{route.adapter}: {answer.text}"


def names_of(folder: Path) -> list[str]:
    try:
        labels: LabelMap = Router.load(folder).labels
    except PointsmanError as error:
        return [str(error)]
    return list(labels)


def trained(features: Path, out: Path) -> pointsman.Router:
    return pointsman.train_router(features, out)


def projected(path: Path) -> dict[str, int]:
    project: pointsman.Project = load_project(path)
    names = {name: label for label, name in enumerate(project.labels)}
    assert pointsman.STANDARD_ADAPTER_ORDER == list(names)
    return names | pointsman.ADAPTER_LABELS
"""
"""What a user may write; every other public name is only named."""


def declared() -> dict[str, str]:
    """Name to module, as the block for type checkers has it; those of a project are annotated."""
    [block] = [
        node
        for node in ast.parse(Path(pointsman.__file__).read_text("utf-8")).body
        if isinstance(node, ast.If)
    ]
    found = {}
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname: str(node.module) for alias in node.names if alias.asname}
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = "pointsman.project"
    return found


def test_type_checkers_see_the_same_names() -> None:
    at_run_time = {name: f"pointsman.{module}" for name, module in pointsman._HOME.items()}
    assert declared() == at_run_time


def test_names_are_written_once_and_in_order() -> None:
    names = [name for names in pointsman._NAMES.values() for name in names]
    assert len(names) == len(set(names))
    assert list(pointsman._NAMES) == sorted(pointsman._NAMES)


def test_dir_and_star_show_them() -> None:
    assert set(NAMES) <= set(dir(pointsman))
    space: dict[str, Any] = {}
    exec("from pointsman import *", space)
    assert set(pointsman.__all__) <= set(space)


@pytest.mark.parametrize("name", pointsman.__all__)
def test_each_is_imported_from_its_home_and_documented(name: str) -> None:
    value = getattr(pointsman, name)
    assert value is getattr(import_module(f"pointsman.{pointsman._HOME[name]}"), name)
    text = inspect.getdoc(value)
    assert text
    assert not text.startswith(f"{name}("), "that is what dataclass() wrote"


def test_every_error_is_public() -> None:
    raised = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.PointsmanError)
    }
    assert raised <= set(pointsman.__all__)
    assert raised == set(re.findall(r"\b[A-Z]\w*(?:Error|Dependency)\b", str(errors.__doc__)))


def mypy(folder: Path, source: str) -> tuple[int, str]:
    """What ``mypy --strict`` says of a script outside the repository, as a user would run it."""
    (folder / "script.py").write_text(source, "utf-8")
    cache = Path(__file__).parents[1] / ".mypy_cache" / "public-api"
    options = ("--strict", "--config-file=", f"--cache-dir={cache}", "script.py")
    # mypy looks for installed packages where the interpreter does, PYTHONPATH included.
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def revealing(names: Iterable[str]) -> str:
    return "".join(f"reveal_type(pointsman.{name})\n" for name in names)


def test_a_users_script_passes_the_strictest_check(tmp_path: Path) -> None:
    code, said = mypy(tmp_path, SCRIPT + revealing(NAMES))
    assert code == 0, said
    types = re.findall(r'Revealed type is "(.*)"', said)
    assert len(types) == len(NAMES)
    unknown = [name for name, kind in zip(NAMES, types, strict=True) if kind == "Any"]
    assert not unknown, said


def test_a_users_mistakes_are_found(tmp_path: Path) -> None:
    wrong = 'import pointsman\n\npointsman.Enginee\nfound: int = pointsman.LabelMap(("a",))\n'
    code, said = mypy(tmp_path, wrong)
    assert code == 1
    assert 'script.py:3: error: Module has no attribute "Enginee"' in said
    assert "script.py:4: error: Incompatible types in assignment" in said


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "pointsman", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"pointsman {pointsman.__version__}\n", "")
