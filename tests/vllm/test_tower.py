"""The same with LoRAs in the vision tower, a higher rank, and a head that is not the embeddings."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.peft_reference import copied_model
from support.vllm_adapters import REAL, WITH_OPTIONS, make_fixture, make_real
from support.vllm_server import NEEDS_VLLM
from support.vllm_verdicts import Served, served

# The second: PEFT's own remarks while the fixtures are made.
pytestmark = [NEEDS_VLLM, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served("tower", tmp_path_factory.mktemp("vllm")) as found:
        yield found


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_adapters_with_one_fault_or_none(name: str, vllm: Served, tmp_path: Path) -> None:
    folder = make_fixture(name, copied_model(vllm.base), tmp_path / "adapter")
    assert (vllm.verdict(folder), vllm.lint(folder)) == (WITH_OPTIONS[name],) * 2


@pytest.mark.parametrize("name", REAL)
def test_what_trainers_write(name: str, vllm: Served, tmp_path: Path) -> None:
    folder = make_real(name, copied_model(vllm.base), tmp_path / "adapter")
    assert vllm.verdict(folder) == vllm.lint(folder)
