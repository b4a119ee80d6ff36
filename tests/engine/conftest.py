"""Engines on the tiny base and its three plain adapters, and PEFT alone beside them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pointsman.adapters.peft import load_base_with_loras
from pointsman.engine.engine import Engine
from pointsman.models.base import Base
from support.engines import make_engine


@pytest.fixture(scope="module")
def make(
    tiny_base_folder: Path, tiny_adapters: dict[str, str], tiny_router: Path
) -> Callable[..., Engine]:
    """Makes an engine with these options."""
    return lambda **options: make_engine(tiny_base_folder, tiny_adapters, tiny_router, **options)


@pytest.fixture(scope="module")
def engine(make: Callable[..., Engine]) -> Iterator[Engine]:
    with make(slots=3) as engine:
        yield engine


@pytest.fixture(scope="module")
def reference(tiny_base_folder: Path, tiny_adapters: dict[str, str]) -> Base:
    return load_base_with_loras(str(tiny_base_folder), tiny_adapters)
