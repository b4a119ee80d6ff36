"""What the Modal apps share: image, GPU and volumes, each with one default and one variable."""

import argparse
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import modal

DEFAULTS = {
    "POINTSMAN_GPU": "H100",  # of preprocess, adapters train, evaluate, generate
    "POINTSMAN_DATA": "pointsman",  # volume at /data: datasets, features, routers, project file
    "POINTSMAN_CHECKPOINTS": "pointsman-checkpoints",  # volume at /checkpoints: adapters
    "POINTSMAN_HUB": "pointsman-hub",  # volume at /hub: the base, fetched once
    "POINTSMAN_IMAGE": "",  # a registry image with Python 3.11+; by default Debian
}
SETTINGS = {name: os.environ.get(name, default) for name, default in DEFAULTS.items()}
GPU = SETTINGS["POINTSMAN_GPU"]
BASE = "Qwen/Qwen3-VL-8B-Instruct"
HOUR = 3600
ROOT = Path(__file__).parent.parent


def volume(setting: str) -> modal.Volume:
    return modal.Volume.from_name(SETTINGS[setting], create_if_missing=True)


VOLUMES: dict[str | Path, Any] = {
    "/data": volume("POINTSMAN_DATA"),
    "/checkpoints": volume("POINTSMAN_CHECKPOINTS"),
    "/hub": volume("POINTSMAN_HUB"),
}


def _image() -> modal.Image:
    name = SETTINGS["POINTSMAN_IMAGE"]
    start = (
        modal.Image.from_registry(name) if name else modal.Image.debian_slim(python_version="3.11")
    )
    return (
        start.pip_install("torch==2.13.0")
        .add_local_dir(
            str(ROOT), "/pointsman", copy=True, ignore=[".venv", ".git", "**/__pycache__"]
        )
        .run_commands("pip install -c /pointsman/constraints.txt /pointsman")
        # The apps are imported again where they run, and must find the same settings there.
        .env({"HF_HOME": "/hub", **SETTINGS})
        .add_local_python_source("common")
    )


IMAGE = _image()
ON_CPU: dict[str, Any] = {"image": IMAGE, "volumes": VOLUMES, "cpu": 4, "timeout": HOUR}
ON_GPU: dict[str, Any] = {"image": IMAGE, "volumes": VOLUMES, "gpu": GPU, "timeout": 6 * HOUR}


def keep() -> None:
    """Makes what a function wrote visible to the next one."""
    if not modal.is_local():
        for mounted in VOLUMES.values():
            mounted.commit()


def names(value: str) -> list[str]:
    """``a,b`` or ``a b`` as a list."""
    return value.replace(",", " ").split()


def takes_lists(run: Callable[..., None]) -> Callable[..., None]:
    """An entry point that takes ``--names a b c``, which `modal run` cannot declare.

    `modal run` passes all options on as they are, and they are parsed here by the signature of
    ``run``. For ``--help`` it reads that signature itself.
    """
    if {"-h", "--help"} & {*sys.argv}:
        return run

    def parsed(*arguments: str) -> None:
        run(**parse(run, arguments))

    parsed.__name__ = parsed.__qualname__ = run.__name__
    parsed.__doc__, parsed.__module__ = run.__doc__, run.__module__
    return parsed


def parse(run: Callable[..., None], arguments: Sequence[str]) -> dict[str, Any]:
    """Options as the arguments of ``run``; several values of one string are joined by commas."""
    parser = argparse.ArgumentParser(prog=f"modal run {run.__module__}.py::{run.__name__}")
    for name, parameter in inspect.signature(run).parameters.items():
        is_text = parameter.annotation is str
        required = parameter.default is parameter.empty
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=parameter.annotation,
            nargs="+" if is_text else None,
            required=required,
            default=None if required else parameter.default,
        )
    found = vars(parser.parse_args(arguments))
    return {k: ",".join(v) if isinstance(v, list) else v for k, v in found.items()}
