import subprocess
import sys
from pathlib import Path

import pytest

from pointsman import progress as module
from pointsman.progress import log_progress, no_progress


class Clock:
    """A time that tests set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_the_first_and_the_last_and_one_each_ten_seconds(clock: Clock) -> None:
    lines: list[str] = []
    report = log_progress("features", lines.append)
    for done in range(1, 41):
        clock.now += 1
        report(done, 40)
    assert lines == [
        "features 1/40 (2%), 39 s left",
        "features 11/40 (28%), 29 s left",
        "features 21/40 (52%), 19 s left",
        "features 31/40 (78%), 9 s left",
        "features 40/40 (100%), 40 s",
    ]


def test_work_of_unknown_length_ends_with_its_last_line(clock: Clock) -> None:
    lines: list[str] = []
    with log_progress("generating", lines.append) as report:
        for done in (1, 2, 3):
            clock.now += 2
            report(done, step="a.jsonl")
        report(0, 8, "images")
        clock.now += 30
        report(2, 8, "images")
        report(3, 8, "images")
    assert lines == [
        "generating: a.jsonl 1, 0 s",
        "generating: images 2/8 (25%), 90 s left",
        "generating: images 3/8 (38%), 50 s left",
    ]


def test_work_that_fails_says_how_far_it_came(clock: Clock) -> None:
    lines: list[str] = []

    def fails() -> None:
        with log_progress("work", lines.append) as report:
            report(1, 9)
            report(4, 9)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert lines == ["work 1/9 (11%), 0 s left", "work 4/9 (44%), 0 s left"]


def test_nothing_done_is_no_line() -> None:
    lines: list[str] = []
    with log_progress("work", lines.append):
        no_progress(1, 2, "a step")
    assert lines == []


def test_a_pipe_gets_lines_at_once(tmp_path: Path) -> None:
    code = """
from pointsman.progress import log_progress
report = log_progress("work")
report(1, 2)
input()
report(2, 2)
"""
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "work 1/2 (50%), 0 s left\n"
        assert process.communicate("\n")[1] == "work 2/2 (100%), 0 s\n"
