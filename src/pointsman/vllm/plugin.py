"""The entry point that vLLM calls in each of its processes."""

import os
import sys
from importlib import import_module
from importlib.metadata import entry_points
from types import TracebackType

from pointsman.errors import PointsmanError
from pointsman.vllm.compatibility import check_vllm_version
from pointsman.vllm.settings import CONFIG, load_settings

NAME = "pointsman"
"""Of the entry points"""


GROUPS = (
    "vllm.general_plugins",
    "vllm.platform_plugins",
    "vllm.io_processor_plugins",
    "vllm.stat_logger_plugins",
)


def register() -> None:
    """Prepares a process of vLLM. Does nothing unless a project file is named.

    Raises:
        PointsmanError: the project has a fault, or this vLLM is not one that is supported.
    """
    if not os.environ.get(CONFIG):
        return
    _show_errors_as_lines()
    # Where it is not set, vLLM takes its V2 runner if it can, and the router runs in the V1 runner.
    os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")
    check_vllm_version()
    # By name: it imports vLLM's internals, which have been looked at only now.
    import_module("pointsman.vllm.wraps").install(load_settings())
    _allow_endpoints()


def _show_errors_as_lines() -> None:
    """An error of ours that ends the process is one line, as in our own commands."""
    stock = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, PointsmanError):
            sys.stderr.write(f"error: {error}\n")
        else:
            stock(kind, error, trace)

    sys.excepthook = show


def _allow_endpoints() -> None:
    """vLLM loads endpoint plugins only if they are named, and then no others but those named."""
    if os.environ.get("VLLM_PLUGINS") is None:
        names = {one.name for group in GROUPS for one in entry_points(group=group)}
        os.environ["VLLM_PLUGINS"] = ",".join(sorted({*names, NAME}))
