"""Processes of their own, to be killed: forked from a server that has the libraries imported.

Where a test starts many, or waits for one, importing torch anew would be most of its time. What
must be a fresh interpreter (what is imported, how it ends) is started with ``subprocess`` instead.
"""

import multiprocessing
import os
import sys
from pathlib import Path

import torch

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "pointsman.cli.app",
        "pointsman.data.dataset",
        "pointsman.models.base",
        "pointsman.routing.feature_store",
        "pointsman.adapters.train",
    ]
)
COMMAND = "from pointsman.cli.app import main; main()"
Process = multiprocessing.process.BaseProcess


def start(*arguments: object, code: str = COMMAND, shown: Path | None = None) -> Process:
    """Starts ``code``, by default ``pointsman``, with these arguments.

    Its output goes to the files ``SHOWN.out`` and ``SHOWN.err``, or nowhere.
    """
    process = _FORKS.Process(target=_run, args=(code, [*map(str, arguments)], shown))
    process.start()
    return process


def ended(process: Process, timeout: float = 120) -> int | None:
    """Waits for the end; exit status, negative for the signal that ended it."""
    process.join(timeout)
    return process.exitcode


def _run(code: str, arguments: list[str], shown: Path | None) -> None:
    for stream, ending in ((1, ".out"), (2, ".err")):
        path = os.devnull if shown is None else shown.with_suffix(ending)
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.argv = ["pointsman", *arguments]
    torch.set_num_threads(1)
    exec(code, {"__name__": "__main__"})
