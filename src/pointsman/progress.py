"""Progress: how long work tells how far it is, on a screen, in a log or as TensorBoard curves."""

import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol, Self

from pointsman.errors import ArtefactError, MissingDependency

LOG_EVERY = 10.0
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


class log_progress:  # lower case: it is called like a function
    """Progress as plain lines such as ``features 128/4096 (3%), 41 s left``, for logs.

    The first and the last report become lines, and between them one each ``every`` seconds. The
    line of what is complete, or has no known end, shows the time taken. Where the end is not
    known, or may not be reached, it is a context manager, whose end writes the last line.

    Args:
        what: the work, with which each line begins.
        write: takes a line without its line break; by default it goes to standard error.
        every: seconds.
    """

    def __init__(
        self, what: str, write: Callable[[str], object] | None = None, every: float = LOG_EVERY
    ) -> None:
        self.what, self._write, self._every = what, write or _to_stderr, every
        self._step = ""
        self._started = time.monotonic()
        self._written = -math.inf
        self._waiting: str | None = None
        """The last report's line, while it is not written"""

    def __call__(self, done: int, total: int | None = None, step: str = "") -> None:
        now = time.monotonic()
        if step != self._step:
            self._step, self._started = step, now
        self._waiting = self._line(done, total, now - self._started)
        if now - self._written >= self._every or done == total:
            self.close()
            self._written = now

    def close(self) -> None:
        """Writes the last report, unless it is written."""
        if self._waiting is not None:
            self._write(self._waiting)
        self._waiting = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self, done: int, total: int | None, seconds: float) -> str:
        name = f"{self.what}: {self._step}" if self._step else self.what
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
