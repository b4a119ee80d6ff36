"""Places that cannot be written, full disks, interruptions: one line, nothing lost."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pointsman.routing import feature_store as features_module
from support.commands import PROGRESS, refused, run, succeeds
from support.disks import file_size_limit
from support.inputs import write_samples
from support.processes import ended, start
from support.sources import tree


def test_places_that_cannot_be_written(
    dataset: Path, features: Path, router: Path, config: Path, tiny_base_folder: Path
) -> None:
    file = dataset.parent / "file"
    file.write_text("mine")
    source = write_samples(dataset.parent / "a.jsonl")
    base = ("--base", tiny_base_folder, "--layers", "1")
    evaluate = ("evaluate", "--data", dataset, "--config", config, "--no-task")
    for out in (file, file / "deep"):
        for command in (
            ("data", "generate", f"--source=calendar={source}"),
            ("preprocess", dataset, *base),
            ("train", features),
            evaluate,
        ):
            assert "cannot be written" in refused(*command, "--out", out)
    assert "cannot be written" in refused("export", router, "--out", dataset)
    assert "give the name of a file" in refused("export", router, "--out", "/")
    assert file.read_text() == "mine"


def test_a_write_that_is_cut_off_leaves_nothing_behind(
    dataset: Path, features: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    again = ("preprocess", dataset, "--base", tiny_base_folder, "--layers", "1,2,3")
    out = tmp_path / "out"
    with file_size_limit(5000):
        line = refused(*again, "--out", out)
    assert f"{out / 'train-00000.safetensors'}: cannot be written (File too large)" in line
    assert not out.exists()
    succeeds(*again, "--out", out)
    assert tree(out) == tree(features)
    with file_size_limit(200):
        line = refused("train", features, "--out", tmp_path / "router", "--layers", "3")
    assert "cannot be written (File too large)" in line
    assert not (tmp_path / "router" / "config.json").exists()
    assert not list(tmp_path.rglob("*.partial"))


def test_an_adapter_that_cannot_be_written(
    dataset: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    train = ("adapters", "train", "calendar", dataset, "--base", tiny_base_folder)
    with file_size_limit(5000):
        line = refused(*train, "--out", tmp_path / "out")
    assert "File too large" in line
    assert "free some space" in line
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    shutil.rmtree(tmp_path / "out" / "checkpoints")
    succeeds(*train, "--out", tmp_path / "out")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 12 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_loses_nothing(
    small_disk: Path, dataset: Path, features: Path, tiny_base_folder: Path
) -> None:
    again = ("preprocess", dataset, "--base", tiny_base_folder, "--layers", "1,2,3")
    out = small_disk / "features"
    line = refused(*again, "--out", out)
    assert "No space left on device); free some space and run the same command again" in line
    kept = tree(out)
    assert kept
    assert kept.items() <= tree(features).items()
    assert "metadata.json" not in kept
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    succeeds(*again, "--out", out)
    assert tree(out) == tree(features)
    router = small_disk / "router"
    train = ("train", out, "--layers", "3")
    succeeds(*train, "--out", router)
    before = tree(router)
    with (small_disk / "ballast").open("wb") as ballast:
        while True:
            try:
                os.write(ballast.fileno(), bytes(4096))
            except OSError:
                break
    for place in (router, small_disk / "other"):
        line = refused(*train, "--out", place, "--seed", "1")
        assert "No space left on device" in line
    assert tree(router) == before
    assert not list(small_disk.glob("other/*"))


def test_an_interrupted_preprocess_goes_on(
    dataset: Path,
    tiny_base_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A shell that starts the tests in the background has them ignore SIGINT, children included.
    code = """
import signal, time
from pointsman.routing import feature_store as features
from pointsman.cli.app import main
signal.signal(signal.SIGINT, signal.default_int_handler)
features.SHARD_SAMPLES = 3
write = features.write_tensors
def slow(*arguments):
    write(*arguments)
    time.sleep(0.3)
features.write_tensors = slow
main()
"""
    out = tmp_path / "out"
    arguments = ["preprocess", str(dataset), "--base", str(tiny_base_folder), "--out", str(out)]
    process = start(*arguments, code=code, shown=tmp_path / "shown")
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.safetensors"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    assert ended(process, 30) == 130
    assert (tmp_path / "shown.out").read_text() == ""
    *lines, last = (tmp_path / "shown.err").read_text().splitlines(keepends=True)
    assert last == "interrupted; run the same command again to resume\n"
    assert lines[0].startswith("features: images ")
    assert any(line.startswith("features 3/36 (8%)") for line in lines)
    assert all(PROGRESS.fullmatch(line) for line in lines)
    kept = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert 2 <= len(kept) < 12
    assert not list(out.glob("*.partial"))
    assert "it resumes where it stopped" in refused("train", out, "--out", tmp_path / "router")
    monkeypatch.setattr(features_module, "SHARD_SAMPLES", 3)
    succeeds(*arguments)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert run("train", out, "--out", tmp_path / "router", "--layers", "3").code == 0
