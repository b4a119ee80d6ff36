"""The command line, run in this process: what ``pointsman …`` does, without its start-up time."""

import io
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest import mock

from pointsman.cli.app import main

PROGRESS = re.compile(r".+ \d+(/\d+ \(\d+%\))?, \d+ s( left)?\n")
"""A line of ``log_progress``"""


class Result(NamedTuple):
    code: int
    out: str
    err: str
    """Notes and errors: standard error without the lines of progress"""
    progress: list[str]


def run(*arguments: object, program: Callable[[], None] = main) -> Result:
    """What ``program``, by default ``pointsman``, prints for these arguments, and its status."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["pointsman", *map(str, arguments)]
    with mock.patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            program()
        except SystemExit as stop:
            code = stop.code
    lines = err.getvalue().splitlines(keepends=True)
    notes = "".join(line for line in lines if not PROGRESS.fullmatch(line))
    progress = [line.strip() for line in lines if PROGRESS.fullmatch(line)]
    status = code if isinstance(code, int) else int(bool(code))
    return Result(status, out.getvalue(), notes, progress)


def succeeds(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.code == 0, result.err
    return result


def refused(*arguments: object) -> str:
    """The one line that a command is refused with."""
    result = run(*arguments)
    assert result.code == 1, result
    assert result.out == ""
    assert result.err.endswith("\n")
    assert result.err.count("\n") == 1, result.err
    assert result.err.startswith("error: ")
    return result.err.removeprefix("error: ").removesuffix("\n")
