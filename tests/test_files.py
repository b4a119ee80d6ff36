import errno
import fcntl
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pointsman import files
from pointsman.errors import ArtefactError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    value = {"name": "Bücher ☃", "list": [1, 2.5, None], "inner": {"x": True}}
    files.write_json(tmp_path / "new" / "deep" / "a.json", value)
    assert files.read_json(tmp_path / "new/deep/a.json") == value
    tensors = {"a": torch.arange(6).reshape(2, 3).t(), "b": torch.rand(3).bfloat16()}
    files.write_tensors(tmp_path / "a.safetensors", tensors, {"request": "x"})
    found, metadata = files.read_tensors_and_metadata(tmp_path / "a.safetensors")
    assert metadata == {"request": "x"}
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_an_interruption_leaves_the_old_file_and_nothing_else(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.json"
    files.write_text(path, "old")
    content: Any = b"new" * 1000

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    if step == "write":
        content = None  # write() raises before a byte is there
    elif step == "fsync":
        monkeypatch.setattr(os, "fsync", stop)
    else:
        monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises((KeyboardInterrupt, TypeError)):
        files.write_bytes(path, content)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_mount_that_cannot_flush_is_written_to(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    files.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_folder_is_held_by_one_run(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    refusal = f"^{folder}: another run is writing to it; wait until it ends, or choose another"
    with files.sole_run(folder):
        with pytest.raises(ArtefactError, match=refusal), files.sole_run(folder):
            pass
        with pytest.raises(ArtefactError, match=refusal), files.sole_run(folder):
            pass
    assert list(tmp_path.iterdir()) == []  # nothing was written, nothing is left
    with files.sole_run(folder):
        files.write_text(folder / "kept", "")
    assert [path.name for path in folder.iterdir()] == ["kept"]


HOLD = """
import os, sys, time
from pathlib import Path
from pointsman.files import sole_run
with sole_run(Path(sys.argv[1])):
    if sys.argv[2] == "worker" and not os.fork():
        Path(sys.argv[1], "worker").touch()
        time.sleep(60)
        os._exit(0)
    Path(sys.argv[1], "held").touch()
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["alone", "worker"])
def test_the_lock_of_a_killed_run_holds_nothing(kind: str, tmp_path: Path) -> None:
    """Not even while a worker that it forked is still there."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path, kind], process_group=0)
    try:
        wanted = {"held"} if kind == "alone" else {"held", "worker"}
        deadline = time.monotonic() + 60
        while not wanted <= {path.name for path in tmp_path.iterdir()}:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(ArtefactError, match="another run"), files.sole_run(tmp_path):
            pass
        process.kill()
        process.wait()
        with files.sole_run(tmp_path):
            assert (tmp_path / files.LOCK).exists()
        assert not (tmp_path / files.LOCK).exists()
    finally:
        os.killpg(process.pid, signal.SIGKILL) if kind == "worker" else None


def test_a_mount_without_locks_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with files.sole_run(tmp_path):
        files.write_text(tmp_path / "a", "")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_name_that_is_too_long_is_one_of_our_errors(tmp_path: Path) -> None:
    for act in (
        lambda path: files.write_text(path, ""),
        lambda path: files.refuse_other(path, "features"),
        lambda path: files.sole_run(path).__enter__(),
    ):
        with pytest.raises(ArtefactError, match=r"cannot be written \(File name too long\)"):
            act(tmp_path / ("n" * 300))


def test_a_full_disk_says_so_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.json"
    files.write_text(path, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtefactError, match=r"config\.json: .*No space left.*free some space"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in ("file/a.json", "file/deep/a.json", "folder", "x" * 300):
        with pytest.raises(ArtefactError, match=r"cannot be written .*choose a place"):
            files.write_text(tmp_path / path, "x")
    for path in (Path(), Path("/")):
        with pytest.raises(ArtefactError, match="is a folder; give the name of a file"):
            files.write_text(path, "x")
    assert {file.name for file in tmp_path.rglob("*")} == {"file", "folder"}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"not json", b"[" * 100_000], ids=lambda c: c[:8]
)
def test_what_is_no_json_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"a\.json: not a readable JSON file"):
        files.read_json(path)


def test_an_object_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[1]")
    with pytest.raises(ArtefactError, match=r"a\.json: holds a JSON list, not an object"):
        files.read_object(path)
    with pytest.raises(ArtefactError, match=r"b\.json: no such file"):
        files.read_object(tmp_path / "b.json")


def test_every_truncation_of_a_tensor_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    files.write_tensors(path, {"a": torch.rand(5, 7)})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ArtefactError, match=r"a\.safetensors: not a safetensors file, or a tr"):
            files.read_tensors(path)
    path.write_bytes(whole)
    assert files.read_tensors(path)["a"].shape == (5, 7)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    class Canary:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "canary"),)

    path = tmp_path / "a.safetensors"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps(Canary(), protocol))
        with pytest.raises(ArtefactError, match="a pickle under this name is never loaded"):
            files.read_tensors(path)
    assert not (tmp_path / "canary").exists()
    pickle.loads(path.read_bytes())  # the canary does sing
    assert (tmp_path / "canary").exists()


def test_digest_of_json_is_of_the_value_not_its_form() -> None:
    rng = random.Random(0)
    for _ in range(100):
        value = {
            str(rng.random()): rng.choice([1, "x", None, [1, {"b": 1, "a": 2}]]) for _ in "123"
        }
        other = dict(rng.sample(list(value.items()), len(value)))
        reread = json.loads(json.dumps(other, indent=rng.choice([None, 3])))
        assert files.digest_json(value) == files.digest_json(reread)
    assert files.digest_json([1, 2]) != files.digest_json([2, 1])
    assert files.digest_json({"a": 1}) != files.digest_json({"a": "1"})
    assert files.digest_json(["a", "b"]) != files.digest_json(["a,b"])


def test_digests_of_files_and_bytes_agree(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc" * 100_000)
    assert files.digest_file(path) == files.digest_bytes(b"abc" * 100_000)
    assert files.digest_bytes(b"") == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    with pytest.raises(ArtefactError, match=r"b: cannot be read \(No such file"):
        files.digest_file(tmp_path / "b")


@pytest.mark.parametrize(
    ("mark", "kind"),
    [
        ("dataset.json", "a dataset"),
        ("metadata.json", "features"),
        ("adapter_config.json", "an adapter"),
        ("router.safetensors", "a router"),
        ("model.safetensors", "a base"),
    ],
)
def test_one_kind_of_folder_is_not_taken_for_another(mark: str, kind: str, tmp_path: Path) -> None:
    files.refuse_other(tmp_path / "new", "a router")
    files.refuse_other(tmp_path, "a router")
    (tmp_path / mark).touch()
    files.refuse_other(tmp_path, kind)
    with pytest.raises(ArtefactError, match=f"holds {kind}, not a thing; choose another --out"):
        files.refuse_other(tmp_path, "a thing")
