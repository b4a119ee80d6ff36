"""``auto`` in a real vLLM: LoRAs on all layers, little KV cache, no answer on abstention."""

import asyncio
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from pointsman.engine.engine import Engine
from pointsman.labels import OUT_OF_SCOPE
from support.tiny import ADAPTERS
from support.vllm_projects import plain_project
from support.vllm_server import NEEDS_VLLM, VllmServer, serve
from support.vllm_traffic import Client, Question, expect, expected_routes, traffic, user

pytestmark = [NEEDS_VLLM, pytest.mark.filterwarnings("ignore::UserWarning")]

CACHE = ("--block-size", "32", "--num-gpu-blocks-override", "48", "--max-model-len", "1024")
"""Room for three prompts and little more: their answers preempt each other"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_project(tmp_path_factory.mktemp("plain") / "model", 'fallback = "error"\n')


@pytest.fixture(scope="module")
def vllm(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    log = tmp_path_factory.mktemp("vllm") / "log"
    with serve(project.parent / "base", log, *CACHE, config=project) as server:
        yield server


def test_traffic_that_is_preempted(
    project: Path, vllm: VllmServer, questions: list[Question]
) -> None:
    with Engine.from_config(project) as engine:
        assert engine.plan.name == "two-pass"
        routed = [q for q in questions if engine.route(q.image, q.text).label != OUT_OF_SCOPE]
        routes = expected_routes(engine, routed)

    async def run() -> Any:
        async with Client(vllm.url) as client:
            expected = await expect(client, routed, routes, ADAPTERS)
            return await traffic(client, routed, expected, requests=64, clients=8)

    assert asyncio.run(run()).wrong == []
    with urllib.request.urlopen(f"{vllm.url}/metrics") as response:
        lines = response.read().decode().splitlines()
    [preempted] = [line for line in lines if line.startswith("vllm:num_preemptions_total")]
    assert float(preempted.split()[-1]) > 0


@pytest.mark.parametrize("stream", [False, True])
def test_no_answer_if_the_router_abstains(
    stream: bool, vllm: VllmServer, questions: list[Question]
) -> None:
    outside = next(question for question in questions if question.adapter is None)
    endless = {"ignore_eos": True}

    async def run(turns: Any) -> None:
        async with Client(vllm.url) as client:
            with pytest.raises(openai.UnprocessableEntityError) as error:
                await client.ask("auto", turns, stream=stream, max_tokens=400, extra_body=endless)
            body: Any = error.value.response.json()
            assert "the router abstained" in body["error"]["message"]
            assert body["pointsman"]["refused"]
            assert error.value.response.headers["x-pointsman-abstained"] == "true"

    asyncio.run(run(outside.messages))
    # Routed by a request of its own, because of the answer:
    answered = [*outside.messages, {"role": "assistant", "content": "ok"}, user("and now?")]
    asyncio.run(run(answered))
