"""The command line, run in this process: what ``pointsman …`` does, without its start-up time."""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest import mock

from pointsman.cli.app import main


class Result(NamedTuple):
    code: int
    out: str
    err: str


def run(*arguments: object, program: Callable[[], None] = main) -> Result:
    """What ``program``, by default ``pointsman``, prints for these arguments, and its status."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["pointsman", *map(str, arguments)]
    with mock.patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            program()
        except SystemExit as stop:
            code = stop.code
    return Result(
        code if isinstance(code, int) else int(bool(code)), out.getvalue(), err.getvalue()
    )


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
