"""Paths of adapters and routers: nothing outside the root is ever opened."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pointsman.engine.engine import Engine
from pointsman.errors import LabelError, PointsmanError
from pointsman.server.models import Models
from support.audit import audited
from support.hostile import PATHS
from support.tiny import REPOSITORY

ADAPTERS = REPOSITORY / "src/pointsman/pocket/model/adapters"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root beside a real adapter that is outside, with links of many kinds to it."""
    place = tmp_path_factory.mktemp("paths")
    outside, root = place / "outside", place / "root"
    shutil.copytree(ADAPTERS / "calendar", outside)
    shutil.copytree(ADAPTERS / "calendar", root / "calendar")
    for name, target in {
        "link": outside,
        "chain": root / "link",
        "loop": root / "loop",
        "up": place,
        "root-link": Path("/"),
        "proc-link": Path("/proc/self/cwd"),
        "dangling": place / "nothing",
    }.items():
        (root / name).symlink_to(target)
    for name in ("folder-link", "file-link", "deep", "pipe", "device"):
        (root / name).mkdir()
    (root / "folder-link/outside").symlink_to(outside)
    for file in outside.iterdir():
        (root / "file-link" / file.name).symlink_to(file)
        (root / "pipe" / file.name).write_bytes(file.read_bytes())
        (root / "device" / file.name).write_bytes(file.read_bytes())
        (root / "deep" / file.name).write_bytes(file.read_bytes())
    (root / "deep/more").mkdir()
    (root / "deep/more/secret").symlink_to("/etc/passwd")
    os.mkfifo(root / "pipe/more")
    (root / "device/more").symlink_to("/dev/zero")
    return root


@pytest.fixture(scope="module")
def models(root: Path) -> Iterator[Models]:
    with Engine.pocket() as engine:
        yield Models(engine, "digest", root)


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_no_file_is_opened(models: Models, root: Path, path: str) -> None:
    """Neither outside, nor inside: none of these leads to an adapter."""
    with audited() as events, pytest.raises(LabelError, match="no such folder") as error:
        models.load("guest", path, in_place=True, expected=None)
    assert [event for event in events if "site-packages" not in str(event[1])] == []
    assert str(root) not in str(error.value)


def test_what_is_inside_is_opened(models: Models, root: Path) -> None:
    """The events are really heard, and more than one spelling leads there."""
    for path in ("calendar", "./calendar", "calendar/", "calendar/../calendar"):
        with audited() as events:
            models.load("guest", path, in_place=True, expected=None)
        opened = [str(what) for event, what in events if event == "open"]
        assert any(what.endswith("adapter_model.safetensors") for what in opened), opened
        assert all(what.startswith(str(root)) for what in opened if "site-packages" not in what)


def test_links_inside_the_root_are_followed(models: Models, root: Path) -> None:
    """As in the Hub's cache, whose files are links."""
    (root / "snapshot").mkdir(exist_ok=True)
    for file in (root / "calendar").iterdir():
        (root / "snapshot" / file.name).symlink_to(file)
    assert models.load("snapshot", "snapshot", in_place=False, expected=None)


def test_without_a_root_nothing_is_loaded(models: Models) -> None:
    with pytest.raises(PointsmanError, match="adapter_root"):
        Models(models.engine, "digest", None).inside("calendar")
