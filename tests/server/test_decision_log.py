"""The decision log: complete lines, bounded files, and no fault that reaches a request."""

import hashlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pointsman.conversation import Prompt, Turn, make_prompt, user_turn
from pointsman.errors import ArtefactError, ConfigError
from pointsman.images import load_image
from pointsman.routing.route import Route
from pointsman.server.decision_log import DecisionLog, picture_of, read_log
from support.disks import file_size_limit
from support.sources import png

ROUTE = Route(1, "claim-window", {"calendar": 0.1, "claim-window": 0.9}, False, 1.5)
EVIL = 'a"}\n{"id": "forged"}\r\n\u2028\u0085\x00\x1b[2J\ud800 <image>'
WRITER = """
import sys
from pathlib import Path
from pointsman.conversation import make_prompt
from pointsman.routing.route import Route
from pointsman.server.decision_log import DecisionLog

log = DecisionLog(Path(sys.argv[1]), max_bytes=200_000, keep=1000, router_digest="d")
route = Route(0, "calendar", {"calendar": 1.0}, False, 0.5)
number = 0
while True:
    log.write(request_id=f"{sys.argv[2]}{number}", model="auto", session=None,
              prompt=make_prompt(None, "x" * 3000), route=route, plan="in-pass", image_bytes=None)
    number += 1
"""


def opened(folder: Path, **options: Any) -> DecisionLog:
    return DecisionLog(folder, **({"router_digest": "d" * 64} | options))


def write(log: DecisionLog, name: str, text: str = "Pick day 3", *images: bytes) -> None:
    shown = tuple(load_image(image) for image in images)
    prompt = Prompt((user_turn(text, len(shown)),), shown)
    log.write(
        request_id=name,
        model="auto",
        session="s",
        prompt=prompt,
        route=ROUTE,
        plan="in-pass",
        image_bytes=images or None,
    )


def ids(folder: Path) -> list[str]:
    return [decision.id for decision in read_log(folder)]


def test_a_record_says_what_was_asked_and_decided(tmp_path: Path) -> None:
    content = png(5)
    write(opened(tmp_path / "log"), "r1", "Pick day 3", content)
    [decision] = read_log(tmp_path / "log")
    assert decision.turns == (user_turn("Pick day 3"),)
    assert decision.images == (hashlib.sha256(content).hexdigest(),)
    assert (decision.id, decision.session, decision.model) == ("r1", "s", "auto")
    assert (decision.route, decision.plan, decision.router_digest) == (ROUTE, "in-pass", "d" * 64)
    assert decision.choice == "claim-window"
    assert decision.time.endswith("+00:00")
    assert not (tmp_path / "log/pictures").exists()
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0


def test_assistant_turns_and_their_images_are_left_out(tmp_path: Path) -> None:
    contents = [png(1), png(2)]
    turns = (Turn("assistant", (None, "secret")), Turn("user", ("Again", None)))
    prompt = Prompt(turns, tuple(map(load_image, contents)))
    log = opened(tmp_path, pictures=True)
    given = {"model": "auto", "session": None, "route": ROUTE, "plan": "two-pass"}
    log.write(request_id="a", prompt=prompt, image_bytes=contents, **given)  # type: ignore[arg-type]
    [decision] = read_log(tmp_path)
    assert decision.turns == turns[1:]
    assert decision.images == (hashlib.sha256(contents[1]).hexdigest(),)
    assert "secret" not in (tmp_path / "decisions.jsonl").read_text()
    assert len(list((tmp_path / "pictures").iterdir())) == 1


def test_pictures_are_stored_once_as_they_came(tmp_path: Path) -> None:
    kinds = {"png": png(3), "jpg": png(3, kind="jpeg"), "tif": png(3, kind="tiff")}
    log = opened(tmp_path, pictures=True)
    for _ in range(2):
        for kind, content in kinds.items():
            write(log, kind, "x", content)
    for kind, content in kinds.items():
        found = picture_of(tmp_path, hashlib.sha256(content).hexdigest())
        assert found is not None
        assert (found.suffix, found.read_bytes()) == (f".{kind}", content)
    assert len(list((tmp_path / "pictures").iterdir())) == 3


def test_without_the_files_pictures_become_pngs(tmp_path: Path) -> None:
    image = load_image(png(9))
    log = opened(tmp_path, pictures=True)
    log.write(
        request_id="a",
        model="auto",
        session=None,
        prompt=make_prompt(image, "x"),
        route=ROUTE,
        plan="peft",
        image_bytes=None,
    )
    [decision] = read_log(tmp_path)
    found = picture_of(tmp_path, decision.images[0])
    assert found is not None
    with Image.open(io.BytesIO(found.read_bytes())) as stored:
        assert stored.format == "PNG"
        assert stored.tobytes() == image.tobytes()


def test_text_cannot_forge_a_record(tmp_path: Path) -> None:
    log = opened(tmp_path)
    write(log, EVIL, EVIL)
    write(log, "after")
    content = (tmp_path / "decisions.jsonl").read_bytes()
    assert content.isascii()
    assert content.count(b"\n") == 2 == len(content.splitlines())
    first, second = read_log(tmp_path)
    read = EVIL.replace("\ud800", "?")  # half a character cannot be written elsewhere
    assert (first.id, first.turns[0].text, second.id) == (read, read, "after")


def test_files_rotate_and_the_oldest_goes_with_its_pictures(tmp_path: Path) -> None:
    log = opened(tmp_path, max_bytes=1500, keep=2, pictures=True)
    shared, own = png(0), {f"r{n}": png(n) for n in range(1, 20)}
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/mine.png").write_bytes(b"mine")
    for name, content in own.items():
        write(log, name, "x", content, shared)
    names = sorted(path.name for path in tmp_path.glob("*.jsonl"))
    assert names[0] == "decisions-000004.jsonl" or len(names) == 3
    assert all(path.stat().st_size <= 1500 for path in tmp_path.glob("*.jsonl"))
    kept = ids(tmp_path)
    assert kept == list(own)[-len(kept) :]
    assert 3 <= len(kept) < 19
    for name, content in own.items():
        found = picture_of(tmp_path, hashlib.sha256(content).hexdigest())
        assert (found is not None) == (name in kept)
    assert picture_of(tmp_path, hashlib.sha256(shared).hexdigest())
    assert (tmp_path / "pictures/mine.png").read_bytes() == b"mine"


def test_none_but_the_newest_may_be_kept(tmp_path: Path) -> None:
    log = opened(tmp_path, max_bytes=1, keep=0, pictures=True)
    for number in range(3):
        write(log, f"r{number}", "x", png(number))
    assert ids(tmp_path) == ["r2"]
    assert [p.name for p in tmp_path.glob("*.jsonl")] == ["decisions.jsonl"]
    assert len(list((tmp_path / "pictures").iterdir())) == 1


def test_torn_and_foreign_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    log = opened(tmp_path)
    write(log, "whole")
    path = tmp_path / "decisions.jsonl"
    line = path.read_bytes()
    with path.open("ab") as file:
        file.write(line[: len(line) // 2])  # killed here
    write(log, "next")
    record = json.loads(line)
    foreign: tuple[Any, ...] = (
        [1],
        record | {"label": "0"},
        record | {"label": 2},
        record | {"probabilities": {}},
        record | {"images": ["../../etc/passwd"]},
        record | {"turns": [{"role": "boss", "parts": ["x"]}]},
        record | {"turns": [{"role": "user", "parts": [3]}]},
        {key: value for key, value in record.items() if key != "held"},
    )
    with path.open("ab") as file:
        file.write(b"\n\xff\xfe\n" + b"[" * 100_000 + b"\n")
        file.write("".join(json.dumps(value) + "\n" for value in foreign).encode())
    write(log, "last")
    found = read_log(tmp_path)
    assert [decision.id for decision in found] == ["whole", "next", "last"]
    assert found.skipped == 3 + len(foreign)


def test_a_process_may_be_killed_while_it_rotates(tmp_path: Path) -> None:
    log = opened(tmp_path)
    write(log, "before")
    (tmp_path / "decisions.jsonl").rename(tmp_path / "decisions-000007.jsonl")  # and here
    assert ids(tmp_path) == ["before"]
    write(log, "after")
    assert ids(tmp_path) == ["before", "after"]


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"holds no decisions\.jsonl"):
        read_log(tmp_path)
    with pytest.raises(ArtefactError, match=r"holds no decisions\.jsonl"):
        read_log(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(ArtefactError, match="choose a folder"):
        opened(tmp_path / "file")
    for wrong in ({"max_bytes": 0}, {"keep": -1}):
        with pytest.raises(ConfigError, match="give at least"):
            opened(tmp_path, **wrong)


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    log = opened(tmp_path, max_bytes=4000, keep=1000)

    def several(thread: int) -> None:
        for number in range(40):
            write(log, f"{thread}-{number}")

    threads = [threading.Thread(target=several, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_log(tmp_path)
    names = [decision.id for decision in found]
    assert found.skipped == 0
    assert len(names) == len({*names}) == 240
    for thread_number in range(6):  # in the order in which they were written
        mine = [name for name in names if name.startswith(f"{thread_number}-")]
        assert mine == [f"{thread_number}-{n}" for n in range(40)]


def begun(folder: Path) -> set[str]:
    """The ids in a log that others write to and rotate; none before its first line."""
    return set(ids(folder)) if (folder / ".lock").is_file() else set()


def test_killed_writers_lose_at_most_their_last_line(tmp_path: Path) -> None:
    """Two processes rotate one log, are killed while they write, and a third goes on."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, name]) for name in "ab"]
    try:
        deadline = time.monotonic() + 60
        while not {"a100", "b100"} <= begun(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
    write(opened(tmp_path, max_bytes=200_000, keep=1000), "after")
    found = read_log(tmp_path)
    names = [decision.id for decision in found]
    assert found.skipped <= 2
    assert names[-1] == "after"
    for name in "ab":
        mine = [n for n in names if n[0] == name and n[1:].isdigit()]
        assert len(mine) > 100
        assert mine == [f"{name}{n}" for n in range(len(mine))]


def test_a_full_disk_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = opened(tmp_path, pictures=True)
    write(log, "before")
    with caplog.at_level(logging.WARNING), file_size_limit(700):
        for number in range(3):
            write(log, f"lost{number}", "long " * 200)
        write(log, "lost3", "x", png(1, (900, 700), "bmp"))
    [warning] = caplog.records
    assert str(tmp_path) in warning.message
    assert "File too large" in warning.message
    assert (tmp_path / "decisions.jsonl").read_bytes().endswith(b"\n")
    with caplog.at_level(logging.WARNING):
        write(log, "after")
    assert "4 records are missing" in caplog.records[-1].message
    found = read_log(tmp_path)
    assert [decision.id for decision in found] == ["before", "after"]
    assert found.skipped == 0
    assert not list((tmp_path / "pictures").iterdir())


def test_a_deleted_folder_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = opened(tmp_path / "log")
    for path in (tmp_path / "log").iterdir():
        path.unlink()
    (tmp_path / "log").rmdir()
    write(log, "lost")
    write(log, "lost")
    assert len(caplog.records) == 1
    (tmp_path / "log").mkdir()
    write(log, "after")
    assert ids(tmp_path / "log") == ["after"]


def test_writing_is_quick(tmp_path: Path) -> None:
    log = opened(tmp_path)
    write(log, "first")
    started = time.perf_counter()
    for number in range(200):
        write(log, f"r{number}")
    assert (time.perf_counter() - started) / 200 < 0.005
    assert len(os.listdir(tmp_path)) == 2  # noqa: PTH208
