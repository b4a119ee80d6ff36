"""The lint against a vLLM without options: both must come to the same verdict on each adapter."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pointsman.adapters.check.vllm import RANKS, VERSION
from pointsman.models.features import probe_prompts
from support.peft_reference import copied_model, log_probabilities
from support.vllm_adapters import FIXTURES, REAL, make_fixture, make_real
from support.vllm_server import BASE, ENVIRONMENT, NEEDS_VLLM, VLLM
from support.vllm_verdicts import Served, served

# The second: PEFT's own remarks while the fixtures are made.
pytestmark = [NEEDS_VLLM, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served("default", tmp_path_factory.mktemp("vllm")) as found:
        yield found


def test_the_version_and_its_ranks() -> None:
    code = (
        "import importlib.metadata, json, typing; from vllm.config.lora import MaxLoRARanks;"
        "print(json.dumps([importlib.metadata.version('vllm'), typing.get_args(MaxLoRARanks)]))"
    )
    done = subprocess.run(
        [VLLM / "bin/python", "-c", code],
        env={"PYTHONPATH": str(ENVIRONMENT)},
        capture_output=True,
        text=True,
        check=True,
    )
    version, ranks = json.loads(done.stdout.splitlines()[-1])
    assert version.partition("+")[0] == VERSION
    assert tuple(ranks) == RANKS


def test_the_base_itself_answers_as_here(vllm: Served) -> None:
    prompt = next(probe_prompts())
    found = vllm.server.log_probabilities(BASE, str(prompt.turns[0].parts[-1]), prompt.images[0])
    expected = log_probabilities(vllm.base, prompt)
    assert set(found) == set(torch.topk(expected, 20).indices.tolist())
    for token, value in found.items():
        assert float(expected[token]) == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize("name", FIXTURES)
def test_adapters_with_one_fault_or_none(name: str, vllm: Served, tmp_path: Path) -> None:
    folder = make_fixture(name, copied_model(vllm.base), tmp_path / "adapter")
    assert (vllm.verdict(folder), vllm.lint(folder)) == (FIXTURES[name][0],) * 2


@pytest.mark.parametrize("name", REAL)
def test_what_trainers_write(name: str, vllm: Served, tmp_path: Path) -> None:
    folder = make_real(name, copied_model(vllm.base), tmp_path / "adapter")
    assert vllm.verdict(folder) == vllm.lint(folder)
