"""Progress: how long work tells how far it is, on a screen, in a log or as TensorBoard curves."""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from pointsman.errors import ArtefactError, MissingDependency

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""

LOG_EVERY = 10.0
"""Seconds between two lines of ``log_progress``"""


def log_progress(what: str) -> Progress:
    """Progress as plain lines on stderr: the first, the last, and one each ten seconds."""
    last = float("-inf")

    def step(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= LOG_EVERY:
            print(f"{what} {done}/{total}", file=sys.stderr, flush=True)
            last = now

    return step


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


CountProgress = Callable[[str, int], None]
"""Called with what is being done and how many samples of it are done."""
