"""The embedded pocket model: a tiny Qwen3-VL with three adapters and a router."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path


@contextmanager
def pocket_folder() -> Iterator[Path]:
    """The pocket model's files as a folder."""
    with as_file(files("pointsman.pocket") / "model") as folder:
        yield folder
