"""Does in several processes what one could do, in the same order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from pointsman.errors import PointsmanError

Result = TypeVar("Result")
# Enough pictures that handing them over costs nothing, few enough to stop soon.
_LONGEST_CHUNK = 32


def in_order(
    work: Callable[[int], Result], tasks: Sequence[int], workers: int
) -> Generator[Result, None, None]:
    """What `work` makes of each task; with fewer than two workers in this process.

    The processes end with the generator: close it (`contextlib.closing`) when leaving early.
    """
    if workers < 2:
        yield from map(work, tasks)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _follow_parent)
    # Some chunks for each worker, so that none waits long for the last one.
    chunk = max(1, min(_LONGEST_CHUNK, len(tasks) // (workers * 4)))
    try:
        with _interrupts_held():
            results = pool.map(work, tasks, chunksize=chunk)  # starts the processes
        yield from results
    except BrokenProcessPool:
        raise PointsmanError(
            "a process that draws screens ended; its error is printed above, if it had one"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C comes after the block. Processes started in it inherit that they are not reached.

    Without this those that still import would each print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    heard: list[int] = []
    handler = None
    if threading.current_thread() is threading.main_thread():
        # The mask is this thread's alone; if another takes the signal, Python interrupts this one.
        handler = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        if heard:
            signal.raise_signal(signal.SIGINT)


def _follow_parent() -> None:
    """Leaves Ctrl-C to the parent, which lets chunks be finished, and ends if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
