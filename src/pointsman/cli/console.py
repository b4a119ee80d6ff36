"""What the command line shows: progress, tables, JSON, and errors as one line."""

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from pointsman.errors import PointsmanError

# Paths and users' texts are shown as they are: "[/b]" is no markup and ":100:" no emoji.
out = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
# Progress, notes and errors: standard output stays clean for --json and pipes.
err = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
INTERRUPTED = 130
T = TypeVar("T")


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar; yields ``report(done, total)``."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with _bar(*columns) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def counting(what: str) -> Iterator[Callable[[str, int], None]]:
    """A counter for work whose end is not known; yields ``report(step, done)``."""
    columns = (
        TextColumn(f"{what}: {{task.description}}", markup=False),
        TextColumn("{task.completed}"),
    )
    with _bar(*columns) as bar:
        task = bar.add_task("", total=None)
        yield lambda step, done: bar.update(task, description=step, completed=done)


def note(message: str) -> None:
    err.print(message, style="dim")


def say(message: str) -> None:
    out.print(message)


def show_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


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
    """Runs a command; what Pointsman refuses becomes one line and exit status 1."""
    try:
        command()
    except PointsmanError as error:
        if debug:
            raise
        err.print(f"error: {error}", style="red")
        return 1
    except (KeyboardInterrupt, SystemExit) as stop:
        # Typer turns the one into the other.
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        err.print("interrupted; run the same command again to go on")
        return INTERRUPTED
    return 0


def _bar(*columns: ProgressColumn) -> Progress:
    # Where nobody watches, a bar would still leave an empty line.
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
