"""Progress: how long work tells how far it is, on a screen, in a log or as TensorBoard curves."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from pointsman.errors import ArtefactError, MissingDependency

LINE_EVERY = 10.0
"""Seconds between two lines of ``log_progress``"""


class Progress(Protocol):
    """What long work calls each time that some of it is done."""

    def __call__(self, done: int, total: int | None = None, step: str = "") -> None:
        """Tells how far the work is.

        Args:
            done: samples, or whatever the work counts, that are done.
            total: how many there are in all; None where that is not known.
            step: what is being done at the moment; ``done`` starts anew with each step.
        """


def no_progress(done: int, total: int | None = None, step: str = "") -> None:
    """Tells nothing."""


@contextmanager
def log_progress(
    what: str, write: Callable[[str], object] | None = None, every: float = LINE_EVERY
) -> Iterator[Progress]:
    """Progress as plain lines such as ``features 128/4096 (3%), 41 s left``, for logs.

    The first and the last report become lines, and between them one each ``every`` seconds. The
    line of what is complete, or has no known end, shows the time taken.

    Args:
        what: the work, with which each line begins.
        write: takes a line without its line break; by default it goes to standard error.
        every: seconds.
    """
    lines = _Lines(what, write or _to_stderr, every)
    try:
        yield lines.report
    finally:
        lines.end()


class _Lines:
    def __init__(self, what: str, write: Callable[[str], object], every: float) -> None:
        self.what, self.write, self.every = what, write, every
        self.step = ""
        self.started = time.monotonic()
        self.written: float | None = None
        """When the last line was written"""
        self.waiting: str | None = None
        """The last report's line, while it is not written"""

    def report(self, done: int, total: int | None = None, step: str = "") -> None:
        now = time.monotonic()
        if step != self.step:
            self.step, self.started = step, now
        self.waiting = self._line(done, total, now - self.started)
        if self.written is None or now - self.written >= self.every:
            self.end()
            self.written = now

    def end(self) -> None:
        if self.waiting is not None:
            self.write(self.waiting)
        self.waiting = None

    def _line(self, done: int, total: int | None, seconds: float) -> str:
        name = f"{self.what}: {self.step}" if self.step else self.what
        if not total:
            return f"{name} {done}, {seconds:.0f} s"
        share = f"{name} {done}/{total} ({done / total:.0%})"
        if done >= total or not done:
            return f"{share}, {seconds:.0f} s"
        return f"{share}, {seconds * (total - done) / done:.0f} s left"


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Log(Protocol):
    """What training needs of a TensorBoard ``SummaryWriter``."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...


def summary_writer(log_dir: Path) -> Any:
    """A TensorBoard ``SummaryWriter``.

    Raises:
        ArtefactError: ``log_dir`` cannot be written.
        MissingDependency: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingDependency(
            "--log-dir needs TensorBoard: pip install 'pointsman[tensorboard]'"
        ) from None
    try:
        return SummaryWriter(log_dir)
    except OSError as error:
        raise ArtefactError(
            f"{log_dir}: cannot be written ({error.strerror}); choose another --log-dir"
        ) from None


def logging_to(log_dir: Path | None) -> AbstractContextManager[Any]:
    writer: AbstractContextManager[Any]
    writer = nullcontext() if log_dir is None else summary_writer(log_dir)
    return writer
