"""What the command line shows: progress, tables, JSON, and errors as one line."""

import errno
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import IO, Any, TypeVar

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from pointsman.errors import PointsmanError
from pointsman.progress import Progress, log_progress, no_progress

# `out.file` is standard output, or a null file where that is closed.
# Paths and users' texts are shown as they are: "[/b]" is no markup and ":100:" no emoji.
out = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
# Progress, notes and errors: standard output stays clean for --json and pipes.
err = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
INTERRUPTED = 130
_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EPIPE)
T = TypeVar("T")


def be_quiet(is_quiet: bool) -> None:
    """Hides notes and progress, or shows them again. Results and errors are always shown."""
    _Shown.notes = not is_quiet


class _Shown:
    notes = True


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """A progress bar, or plain lines where standard error is no terminal."""
    shown: AbstractContextManager[Progress]
    shown = _bar(what) if err.is_terminal else log_progress(what, _plain)
    if not _Shown.notes:
        yield no_progress
        return
    with shown as report:
        yield report


def note(message: str) -> None:
    """A line on standard error, unless ``--quiet`` is given."""
    if _Shown.notes:
        err.print(message, style="dim")


def error(message: object) -> None:
    err.print(f"error: {message}", style="red")


def say(message: str) -> None:
    out.print(message)


def show_json(value: Any) -> None:
    out.file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def show_line(value: Any) -> None:
    """JSON as one line, flushed at once for a reader at the other end of a pipe."""
    out.file.write(json.dumps(value, ensure_ascii=False) + "\n")
    out.file.flush()


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    shown = Table(title=title or None, title_justify="left", header_style="bold", box=SIMPLE)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(str(value) for value in row))
    out.print(shown)


def quiet_libraries() -> None:
    """Keeps other libraries' bars and notices out of our output."""
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def run(command: Callable[[], T], debug: bool) -> int:
    """Runs a command. An error of Pointsman becomes one line and exit status 1.

    So does an error of the operating system, such as a name that is too long or a full disk.
    """
    try:
        _run_and_flush(command)
    except (PointsmanError, OSError) as refusal:
        if debug:
            raise
        return _refuse(refusal)
    except (KeyboardInterrupt, SystemExit) as stop:
        # Typer turns the one into the other.
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        err.print("interrupted; run the same command again to resume")
        return INTERRUPTED
    return 0


def _run_and_flush(command: Callable[[], T]) -> None:
    try:
        command()
    finally:
        out.file.flush()


def _refuse(refusal: Exception) -> int:
    error(_explained(refusal) if isinstance(refusal, OSError) else refusal)
    if isinstance(refusal, OSError):
        _drop(out.file)
    return 1


def _explained(refusal: OSError) -> str:
    """One line for an error of the operating system."""
    reason = (refusal.strerror or str(refusal) or type(refusal).__name__).splitlines()[0]
    if refusal.filename is not None:
        return f"{os.fsdecode(refusal.filename)}: cannot be used ({reason}); give another path"
    if refusal.errno in _OUTPUT:
        return f"the output cannot be written ({reason}); free some space, or write elsewhere"
    return reason  # of the network, for example


def _drop(stream: IO[str]) -> None:
    """Discards what a stream could not write. Otherwise Python reports it again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _plain(line: str) -> None:
    err.print(line)


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def report(done: int, total: int | None = None, step: str = "") -> None:
            name = f"{what}: {step}" if step else what
            bar.update(task, description=name, completed=done, total=total)

        yield report
