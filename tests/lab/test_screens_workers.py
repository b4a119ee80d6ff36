"""Processes that draw: the same bytes, the same errors, and none is left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lab.screens import write_screens
from lab.screens.__main__ import main
from lab.screens.workers import _interrupts_held, in_order
from pointsman.errors import ConfigError, PointsmanError
from support.commands import run

SIZE = (640, 448)


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_processes_write_the_same_bytes(tmp_path: Path) -> None:
    done: list[int] = []
    write_screens(tmp_path / "one", 41, seed=3, per_image=2, sizes=[SIZE], vary=True)
    (tmp_path / "two" / "images").mkdir(parents=True)
    (tmp_path / "two" / "screens.json").write_bytes((tmp_path / "one/screens.json").read_bytes())
    # A picture that exists is kept, even one that is spoilt, and its records are written still.
    (tmp_path / "two" / "images" / "000004.png").write_bytes(b"kept")
    write_screens(
        tmp_path / "two",
        41,
        seed=3,
        per_image=2,
        sizes=[SIZE],
        vary=True,
        workers=2,
        progress=done.append,
    )
    expected = contents(tmp_path / "one") | {"images/000004.png": b"kept"}
    assert contents(tmp_path / "two") == expected
    assert done == [*range(2, 41, 2), 41]


def test_the_command_takes_workers_and_vary(tmp_path: Path) -> None:
    options = ("-n", 12, "--sizes", "640x448", "--seed", 5)
    one = run("--out", tmp_path / "one", *options, "--vary", program=main)
    two = run("--out", tmp_path / "two", *options, "--vary", "--workers", 2, program=main)
    assert (one.code, two.code) == (0, 0), one.err + two.err
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert json.loads((tmp_path / "one" / "screens.json").read_text())["vary"] is True


def test_without_variations_nothing_changes(tmp_path: Path) -> None:
    write_screens(tmp_path / "plain", 30, seed=7, sizes=[SIZE])
    write_screens(tmp_path / "off", 30, seed=7, sizes=[SIZE], vary=False, workers=1)
    assert contents(tmp_path / "plain") == contents(tmp_path / "off")
    settings = json.loads((tmp_path / "plain" / "screens.json").read_text())
    assert list(settings) == ["drawing", "seed", "adapters", "out_of_scope", "per_image", "sizes"]
    with pytest.raises(ConfigError, match="other settings"):
        write_screens(tmp_path / "plain", 30, seed=7, sizes=[SIZE], vary=True)


def test_wrong_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers is -1, must be 0 or more"):
        write_screens(tmp_path, 1, workers=-1)


def fail_at_three(task: int) -> int:
    if task == 3:
        raise ConfigError("three does not fit")
    return task


def end_at_three(task: int) -> int:
    if task == 3:
        os._exit(9)
    return task


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_surface_as_they_are(workers: int) -> None:
    results = in_order(fail_at_three, range(20), workers)
    assert [next(results) for _ in range(2)] == [0, 1]
    with pytest.raises(ConfigError, match=r"^three does not fit$"):
        list(results)


def test_a_process_that_ends_is_told() -> None:
    with pytest.raises(PointsmanError, match="a process that draws screens ended"):
        list(in_order(end_at_three, range(20), 2))


def test_those_who_leave_early_need_not_wait(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def stop(done: int) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        write_screens(tmp_path, 4000, sizes=[SIZE], workers=2, progress=stop)
    assert len(list((tmp_path / "images").iterdir())) < 1000


@pytest.mark.skipif(sys.platform == "win32", reason="has no process groups")
@pytest.mark.parametrize(
    ("how", "sign"),
    [
        (signal.SIGINT, "screens.json"),  # the processes are only starting
        (signal.SIGINT, "images/*.png"),
        (signal.SIGKILL, "images/*.png"),
    ],
)
def test_no_process_is_left(tmp_path: Path, how: signal.Signals, sign: str) -> None:
    # A shell that starts the tests in the background has them ignore SIGINT, children included.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [sys.executable, "-c", f"{heard}from lab.screens.__main__ import main; main()"]
    command += ["--workers", "2", "--out", str(tmp_path), "-n", "100000"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    try:
        wait_until(lambda: any(tmp_path.glob(sign)))
        if how == signal.SIGINT:  # as the terminal does: to all of them
            os.killpg(running.pid, how)
        else:
            running.send_signal(how)
        assert running.wait(60) == (130 if how == signal.SIGINT else -how)
        wait_until(lambda: not alive(running.pid))
    finally:
        if alive(running.pid):
            os.killpg(running.pid, signal.SIGKILL)
    assert running.stderr is not None
    with running.stderr as shown:
        assert b"Traceback" not in shown.read()
    assert not (tmp_path / "samples.jsonl").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="cannot hold interrupts")
def test_an_interrupt_waits_whichever_thread_takes_it() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    done, over = [], threading.Event()
    idle = threading.Thread(target=over.wait)
    idle.start()

    def interrupt(thread: threading.Thread) -> None:
        assert thread.ident is not None
        with _interrupts_held():
            signal.pthread_kill(thread.ident, signal.SIGINT)
            time.sleep(0.1)
            done.append(thread)

    try:
        for thread in (idle, threading.main_thread()):
            with pytest.raises(KeyboardInterrupt):
                interrupt(thread)
        assert done == [idle, threading.main_thread()]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        over.set()
        signal.signal(signal.SIGINT, before)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: object, seconds: float = 90) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
