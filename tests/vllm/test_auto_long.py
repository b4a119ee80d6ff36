"""``auto`` in a real vLLM: prompts of 10,000 tokens, several images."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pointsman.conversation import Prompt, user_turn
from pointsman.engine.engine import Engine
from pointsman.evaluation.demo import demo_samples
from pointsman.sample import load_prompt
from support.vllm_projects import long_project
from support.vllm_server import NEEDS_VLLM, VllmServer, serve
from support.vllm_traffic import Answer, Client, user

pytestmark = NEEDS_VLLM
LONGEST = 12_288
OPTIONS = (
    *("--max-model-len", str(LONGEST)),
    *("--limit-mm-per-prompt", '{"image": 2, "video": 0}'),
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return long_project(tmp_path_factory.mktemp("long") / "model", LONGEST)


@pytest.fixture(scope="module")
def vllm(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    log = tmp_path_factory.mktemp("vllm") / "log"
    with serve(project.parent / "base", log, *OPTIONS, config=project) as server:
        yield server


@pytest.mark.parametrize("tokens", [800, 10_000])
def test_prompts_are_routed_as_alone(tokens: int, project: Path, vllm: VllmServer) -> None:
    with demo_samples() as samples:
        prompts = [load_prompt(sample) for sample in samples[:2]]
    images = tuple(prompt.images[0] for prompt in prompts)
    with Engine.from_config(project) as engine:
        text = prompts[1].turns[0].text
        prompt = Prompt((user_turn(text, 2),), images)
        while (found := engine.base.encode([prompt])["input_ids"].shape[1]) < tokens:
            text = "seen before " * (1 + (tokens - found) // 8) + text
            prompt = Prompt((user_turn(text, 2),), images)
        [route] = engine.route_batch([prompt])

    async def ask() -> tuple[Answer, Answer]:
        async with Client(vllm.url) as client:
            routed = await client.ask("auto", [user(text, *images)])
            adapter = routed.headers["x-pointsman-adapter"]
            return routed, await client.ask(adapter, [user(text, *images)])

    routed, named = asyncio.run(ask())
    assert routed.text == named.text
    assert routed.decision is not None
    assert routed.decision["label"] == route.label
    assert routed.decision["score"] == pytest.approx(route.score, abs=0.05)
