"""The documentation holds together: links, anchors, paths, commands and public names."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pointsman
from support.tiny import REPOSITORY

PAGES = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *(REPOSITORY / "docs").rglob("*.md"),
        REPOSITORY / "src/pointsman/pocket/README.md",
    ]
)
FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+?)\s*$", re.MULTILINE)
NAMED_FILE = re.compile(
    r"`((?:benchmarks|tests|runs|scripts|modal|examples|lab|docs|src)/[\w./-]+)`"
)


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text("utf-8"))


def anchors(path: Path) -> set[str]:
    """What GitHub and MkDocs make of the headings."""
    headings = (re.sub(r"[`*_]", "", heading) for heading in HEADING.findall(prose(path)))
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}


def broken_links(path: Path) -> list[str]:
    broken = []
    for target in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(path: Path) -> None:
    assert broken_links(path) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_files_that_are_named_exist(path: Path) -> None:
    names = NAMED_FILE.findall(prose(path))
    assert [name for name in names if not (REPOSITORY / name).exists()] == []


def test_a_broken_link_and_anchor_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `Two`\n\n[a](#one-two) [b](#three) [c](no.md) [d](https://x.y/z)\n")
    assert broken_links(page) == ["#three", "no.md"]


def test_every_page_is_in_the_navigation() -> None:
    navigation = (REPOSITORY / "mkdocs.yml").read_text("utf-8")
    docs = REPOSITORY / "docs"
    pages = [str(path.relative_to(docs)) for path in docs.rglob("*.md")]
    assert [page for page in pages if f": {page}\n" not in navigation] == []


def test_the_api_page_lists_every_public_name() -> None:
    page = (REPOSITORY / "docs/reference/api.md").read_text("utf-8")
    errors = {name for name in pointsman.__all__ if name.endswith(("Error", "Dependency"))}
    missing = [n for n in pointsman.__all__ if f"- {n}\n" not in page and f"`{n}`" not in page]
    assert set(missing) <= errors


def test_the_cli_page_is_what_the_commands_say() -> None:
    command = [sys.executable, str(REPOSITORY / "docs/cli_reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
