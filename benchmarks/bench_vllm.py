"""What routing costs in a real vLLM on a CPU: ``auto`` against the named adapter, one server.

Time to first token, one request at a time, and requests per second of eight clients; both in
alternation, for adapters of plan in-pass (the pocket) and of plan two-pass (random LoRAs on all
layers). Every request has an image of its own, since vLLM keeps images and prompts that it has
read. It needs the environment that ``make vllm`` makes.

    python benchmarks/bench_vllm.py [--pairs 40]
"""

import argparse
import asyncio
import random
import tempfile
import time
import warnings
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

from common import SCREENS, WITHOUT_SCREENS, report
from PIL import Image

from pointsman.data.dataset import read_samples_of
from pointsman.labels import ROUTED
from pointsman.project import load_project
from support.vllm_projects import CONFIG, POCKET, plain_project
from support.vllm_server import serve
from support.vllm_traffic import Client, Question, question_of

CLIENTS, BLOCK, BLOCKS = 8, 16, 5
TOKENS = 16


def fresh(questions: list[Question]) -> Iterator[Question]:
    """Questions in turn, each with an image that no other request has."""
    generator = random.Random(0)
    for question in cycle(questions):
        image: Image.Image = question.image.copy()
        for at in range(8):
            image.putpixel((at, 0), tuple(generator.randrange(256) for _ in range(3)))
        yield Question(image, question.text, question.adapter)


async def first_token(client: Client, model: str, question: Question) -> float:
    started = time.perf_counter()
    await client.ask(model, question.messages, stream=True, stop_after=2)
    return time.perf_counter() - started


async def rate(client: Client, model: str | None, questions: Iterator[Question]) -> float:
    """Requests per second; ``model`` None: the adapter that each question is for."""
    waiting = [next(questions) for _ in range(BLOCK)]
    remaining = iter(waiting)

    async def caller() -> None:
        for question in remaining:
            name = model or str(question.adapter)
            await client.ask(name, question.messages, max_tokens=TOKENS)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CLIENTS)))
    return BLOCK / (time.perf_counter() - started)


async def measure(url: str, questions: Iterator[Question], pairs: int) -> dict[str, Any]:
    async with Client(url) as client:
        auto, named = [], []
        for number in range(pairs + 2):
            for kind in ((auto, named), (named, auto))[number % 2]:
                question = next(questions)
                model = ROUTED if kind is auto else str(question.adapter)
                kind.append(await first_token(client, model, question))
        auto, named = auto[2:], named[2:]  # the first ones warm up
        rates: dict[str | None, list[float]] = {ROUTED: [], None: []}
        for _ in range(BLOCKS):
            for model, found in rates.items():
                found.append(await rate(client, model, questions))
    routed, alone = median(rates[ROUTED]), median(rates[None])
    return {
        "first_token_ms": {"auto": round(1e3 * median(auto)), "named": round(1e3 * median(named))},
        "first_token_auto_over_named": round(median(auto) / median(named), 3),
        "requests_per_second": {"auto": round(routed, 2), "named": round(alone, 2)},
        "time_per_request_auto_over_named": round(alone / routed, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=40)
    pairs = parser.parse_args().pairs
    if not SCREENS.is_file():
        raise SystemExit(WITHOUT_SCREENS)
    warnings.simplefilter("ignore")
    samples = read_samples_of(SCREENS, load_project(POCKET / CONFIG).labels)
    questions = fresh([question_of(sample) for sample in samples if sample.in_scope])
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        projects = {"in-pass": POCKET / CONFIG, "two-pass": plain_project(place / "plain")}
        plans = {}
        for plan, config in projects.items():
            with serve(config.parent / "base", place / plan, config=config) as vllm:
                plans[plan] = asyncio.run(measure(vllm.url, questions, pairs))
    report("vllm", {"vllm": "0.32.0", "pairs": pairs, "clients": CLIENTS, "plans": plans})


if __name__ == "__main__":
    main()
