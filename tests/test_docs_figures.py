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


def test_a_figure_that_the_results_have_not_is_named_and_put_right(tmp_path: Path) -> None:
    documents = list(runpy.run_path(str(ROOT / SCRIPT))["PARTS"])
    for name in (str(SCRIPT), *documents):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "benchmarks" / "results", tmp_path / "benchmarks" / "results")
    assert check(tmp_path, "--check").returncode == 0
    performance = tmp_path / "docs" / "performance.md"
    right = performance.read_text("utf-8")
    row = next(line for line in right.splitlines() if line.startswith("| 64 adapters |"))
    performance.write_text(right.replace(row, "| 64 adapters | 0.01 | 0.01 | 0.01 |"), "utf-8")

    found = check(tmp_path, "--check")

    assert found.returncode == 1
    number = right.splitlines().index(row) + 1
    assert f"docs/performance.md:{number}: " in found.stdout
    assert "0.01" in found.stdout
    assert check(tmp_path).returncode == 0
    assert performance.read_text("utf-8") == right


def test_a_row_that_is_gone_is_an_error() -> None:
    document = runpy.run_path(str(ROOT / SCRIPT))["Document"]("docs/performance.md")
    with pytest.raises(LookupError, match=r"docs/performance\.md: no row 'that nobody wrote'"):
        document.row("that nobody wrote", "1")
