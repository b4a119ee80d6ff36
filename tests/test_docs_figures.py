"""The figures in the documents are those of the committed results."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = Path("benchmarks/docs_figures.py")


def check(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The script, the results and the documents that it fills, to be changed."""
    for name in (str(SCRIPT), *runpy.run_path(str(ROOT / SCRIPT))["PARTS"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "benchmarks" / "results", tmp_path / "benchmarks" / "results")
    assert check(tmp_path, "--check").returncode == 0
    return tmp_path


@pytest.mark.parametrize(
    ("document", "first", "instead"),
    [
        ("docs/performance.md", "| 64 adapters |", "| 64 adapters | 0.01 | 0.01 | 0.01 |\n"),
        ("src/pointsman/pocket/README.md", "| fresh drawn, task rank |", ""),
        ("docs/benchmarks.md", "| · out-of-scope rejection before", ""),
        (
            "docs/guide/grow.md",
            "| `train --extend` |",
            "| `train --extend` | 1 | 2 | 3 | 4 | 5 |\n",
        ),
    ],
    ids=["another figure", "a row less", "a claim less", "another cost of growing"],
)
def test_what_the_results_have_not_is_named_and_put_right(
    copy: Path, document: str, first: str, instead: str
) -> None:
    path = copy / document
    right = path.read_text("utf-8")
    row = next(line for line in right.splitlines() if line.startswith(first))
    path.write_text(right.replace(row + "\n", instead, 1), "utf-8")

    found = check(copy, "--check")

    assert found.returncode == 1
    number = right.splitlines().index(row) + 1
    assert f"{document}:{number}: + {row}\n" in found.stdout
    assert not instead or f"{document}:{number}: - {instead}" in found.stdout
    assert check(copy).returncode == 0
    assert path.read_text("utf-8") == right


def test_a_row_that_is_gone_is_an_error() -> None:
    document = runpy.run_path(str(ROOT / SCRIPT))["Document"]("docs/performance.md")
    with pytest.raises(LookupError, match=r"docs/performance\.md: no row 'that nobody wrote'"):
        document.row("that nobody wrote", "1")


def test_a_sentence_keeps_its_line_breaks(copy: Path) -> None:
    path = copy / "README.md"
    right = path.read_text("utf-8")
    path.write_text(right.replace("first token after 46.0 ms", "first token after 1.0 ms"), "utf-8")
    assert path.read_text("utf-8") != right

    assert check(copy).returncode == 0
    assert path.read_text("utf-8") == right


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 600
