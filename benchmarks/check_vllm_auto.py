"""Random traffic in a real vLLM on a CPU: is each request of ``auto`` routed and answered rightly?

Routes are compared with those of the stand-alone engine, answers with those of the named adapter
in the same server. Some requests name an adapter or the base, some are streams, some hang up. Then
each screen is asked once through ``auto``. It needs the environment that ``make vllm`` makes.

    python benchmarks/check_vllm_auto.py [--requests 2400]
"""

import argparse
import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import SCREENS, WITHOUT_SCREENS, report

from pointsman.data.dataset import read_samples_of
from pointsman.engine.answer import Answer, make_answer
from pointsman.engine.engine import Engine
from pointsman.evaluation.result import is_hit
from pointsman.labels import ROUTED
from pointsman.project import load_project
from pointsman.sample import RoutingSample, load_prompt
from support.vllm_projects import CONFIG, POCKET
from support.vllm_server import serve
from support.vllm_traffic import Client, Question, expect, expected_routes, question_of, traffic

CLIENTS = 32
VLLM = "0.32.0"


def smaller(question: Question) -> Question:
    width, height = question.image.size
    return replace(question, image=question.image.resize((width // 5, height // 5)))


def parsed(text: str, sample: RoutingSample) -> Answer:
    return make_answer(
        text,
        sample.adapter,
        load_prompt(sample),
        None,
        finish_reason="stop",
        prompt_tokens=0,
        completion_tokens=0,
    )


async def screens(client: Client, samples: list[RoutingSample]) -> dict[str, int]:
    """Each screen once through ``auto``: how many are routed right, and answered right."""
    routed = answered = in_scope = 0
    for sample in samples:
        answer = await client.ask(ROUTED, question_of(sample).messages)
        assert answer.decision is not None
        routed += answer.decision["adapter"] == sample.adapter
        if sample.in_scope:
            in_scope += 1
            answered += is_hit(parsed(answer.text, sample), sample)
    return {
        "screens": len(samples),
        "routed_or_abstained_right": routed,
        "in_scope": in_scope,
        "answered_right": answered,
    }


async def run(url: str, samples: list[RoutingSample], requests: int) -> dict[str, Any]:
    # On a CPU, pixels take most of the time; routing and batching are the same with few of them.
    questions = [smaller(question_of(sample)) for sample in samples[::4]]
    with Engine.pocket() as engine:
        routes = expected_routes(engine, questions)
        adapters = engine.adapters
    async with Client(url) as client:
        print("asking the named models", flush=True)
        expected = await expect(client, questions, routes, adapters)
        print("random traffic", flush=True)
        started = time.monotonic()
        outcome = await traffic(client, questions, expected, requests=requests, clients=CLIENTS)
        seconds = time.monotonic() - started
        for line in outcome.wrong[:20]:
            print(line, flush=True)
        return {
            "requests": requests,
            "clients": CLIENTS,
            "kinds": dict(sorted(outcome.counts.items())),
            "wrong": len(outcome.wrong),
            "seconds": round(seconds),
            "held_screens": await screens(client, samples),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=2400)
    requests = parser.parse_args().requests
    if not SCREENS.is_file():
        raise SystemExit(WITHOUT_SCREENS)
    config = POCKET / CONFIG
    samples = read_samples_of(SCREENS, load_project(config).labels)
    with (
        tempfile.TemporaryDirectory() as place,
        serve(POCKET / "base", Path(place) / "log", "--max-num-seqs", "16", config=config) as vllm,
    ):
        result = asyncio.run(run(vllm.url, samples, requests))
    report("vllm_auto", {"vllm": VLLM, "plan": "in-pass"} | result)
    assert not result["wrong"]


if __name__ == "__main__":
    main()
