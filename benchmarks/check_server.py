"""Random traffic of the stock client against ``pointsman serve``: what goes wrong?

Clients ask for ``auto``, adapters by name and the base, whole and streamed, and hang up, while
adapters are loaded, replaced and unloaded and the router is exchanged. Every answer must be that of
the generation and the router that it names. Then the server is overloaded, and stopped under load.

    python benchmarks/check_server.py --requests 2000
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import openai
from common import ROOT, report

from pointsman.adapters.load import open_adapter
from pointsman.engine.engine import Engine
from pointsman.evaluation.demo import demo_samples
from pointsman.protocol.shown import generation
from pointsman.routing.router import Router
from pointsman.routing.seal import router_digest
from pointsman.sample import load_prompt
from support.server import Server, serve, user

POCKET = ROOT / "src/pointsman/pocket/model"
ADAPTERS = ("calendar", "claim-window", "provider-select")
GUESTS = tuple(f"guest-{number}" for number in range(13))
"""With the router's three, 16 adapters"""
KEYS = {"POINTSMAN_API_KEY": "use", "POINTSMAN_ADMIN_KEY": "admin"}
TOKENS = 24
CLIENTS = 64


@dataclass
class Right:
    """Right answers, by the engine alone."""

    questions: list[tuple[str, bytes]]
    texts: dict[tuple[int, str], str]
    """By question and adapter or ``base``"""
    routes: dict[tuple[int, str], str]
    """Who answers, by question and the router's digest"""
    generations: dict[str, str]
    """The adapter of a generation"""


@dataclass
class Tally:
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)


def expect(root: Path) -> Right:
    with demo_samples() as samples, Engine.pocket() as engine:
        prompts = [load_prompt(sample) for sample in samples]
        questions = [(s.instruction, Path(s.images[0]).read_bytes()) for s in samples]
        texts = {}
        for name in (*ADAPTERS, "base"):
            found = engine.generate_batch(prompts, adapter=name, max_new_tokens=TOKENS)
            texts |= {(number, name): answer.text for number, answer in enumerate(found)}
        routes = {}
        for router in ("usual", "strict"):
            engine.replace_router(Router.load(root / router))
            for number, route in enumerate(engine.route_batch(prompts)):
                routes[number, router_digest(root / router)] = route.adapter or "base"
    generations = {
        generation(open_adapter(name, POCKET / "adapters" / name).digests): name
        for name in ADAPTERS
    }
    return Right(questions, texts, routes, generations)


def make_root(root: Path) -> None:
    """Adapters and routers that the server may load."""
    usual = Router.load(POCKET / "router")
    usual.save(root / "usual")
    strict = replace(usual, calibration=replace(usual.calibration, threshold=0.5))
    strict.save(root / "strict")


class Traffic:
    def __init__(self, server: Server, right: Right, seed: int) -> None:
        self._server, self._right, self._rng = server, right, random.Random(seed)
        self.tally = Tally()

    async def run(self, requests: int, clients: int) -> None:
        left = iter(range(requests))
        async with openai.AsyncOpenAI(
            base_url=f"{self._server.url}/v1", api_key="use", max_retries=0, timeout=600
        ) as client:
            done = asyncio.Event()
            change = asyncio.create_task(self._change(done))
            await asyncio.gather(*(self._client(client, left) for _ in range(clients)))
            done.set()
            await change

    async def _client(self, client: openai.AsyncOpenAI, left: Any) -> None:
        for _ in left:
            await self._ask(client)

    async def _ask(self, client: openai.AsyncOpenAI) -> None:
        rng, tally = self._rng, self.tally
        number = rng.randrange(len(self._right.questions))
        model = rng.choice(("auto", "auto", *ADAPTERS, "base", *GUESTS[:4]))
        kind = rng.choice(("whole", "stream", "stream", "hang up"))
        text, screen = self._right.questions[number]
        options: Any = {"model": model, "messages": [user(text, screen)], "max_tokens": TOKENS}
        began = time.perf_counter()
        try:
            if kind == "whole":
                found: Any = await client.chat.completions.create(**options)
                said, shown = found.choices[0].message.content, found.pointsman
            else:
                said, shown = "", None
                stream: Any = await client.chat.completions.create(stream=True, **options)
                stop = rng.randrange(1, 5) if kind == "hang up" else None
                async for event in stream:
                    shown = shown or event.pointsman
                    if not said:
                        tally.firsts.append(time.perf_counter() - began)
                    said += event.choices[0].delta.content or ""
                    if stop is not None and (stop := stop - 1) < 0:
                        await stream.close()
                        break
            self._check(number, model, said, shown, is_whole=kind != "hang up")
            tally.counts[f"{kind}: {'guest' if model in GUESTS else model}"] += 1
        except openai.NotFoundError:
            tally.counts["404 of a guest"] += 1
            if model not in GUESTS:
                tally.wrong.append(f"{model}: not found")
        except openai.APIStatusError as error:
            tally.wrong.append(f"{model}: {error}")

    def _check(self, number: int, model: str, said: str, shown: Any, *, is_whole: bool) -> None:
        right = self._right
        name = model
        if model == "auto":
            name = shown["adapter"] or "base"
            if name != right.routes[number, shown["router_digest"]]:
                self.tally.wrong.append(f"question {number} routed to {name}")
        elif model in GUESTS:
            name = right.generations[shown["generation"]]
        whole = right.texts[number, name]
        if (said.strip() != whole) if is_whole else not whole.startswith(said.strip()):
            self.tally.wrong.append(f"question {number} of {model} by {name}: {said!r}")

    async def _change(self, done: asyncio.Event) -> None:
        """Adapters and routers come and go."""
        for name in GUESTS:
            await self._admin("load_lora_adapter", lora_name=name, lora_path=self._some())
        while not done.is_set():
            name, chance = self._rng.choice(GUESTS), self._rng.random()
            if chance < 0.3:
                await self._admin("router", router_path=self._rng.choice(("usual", "strict")))
            elif chance < 0.5:
                await self._admin("unload_lora_adapter", lora_name=name)
            else:
                await self._admin(
                    "load_lora_adapter", lora_name=name, lora_path=self._some(), load_inplace=True
                )
            with suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), 0.5)

    def _some(self) -> str:
        return f"{self._rng.choice(ADAPTERS)}"

    async def _admin(self, path: str, **body: Any) -> None:
        status = await asyncio.to_thread(post, self._server, f"/v1/{path}", "admin", body)
        self.tally.counts[f"{path}: {status}"] += 1
        if status >= 500:
            self.tally.wrong.append(f"{path}: {status}")


def post(server: Server, path: str, key: str, body: Any) -> int:
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=600) as response:
            response.read()
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


async def overload(server: Server, right: Right, seconds: float) -> dict[str, Any]:
    """Many times more clients than the queue holds: who gets an answer, and how soon who none?"""
    text, screen = right.questions[0]
    statuses: Counter[int] = Counter()
    refused: list[float] = []
    until = time.monotonic() + seconds

    async def one(client: openai.AsyncOpenAI) -> None:
        while time.monotonic() < until:
            began = time.perf_counter()
            try:
                await client.chat.completions.create(
                    model="auto", messages=[user(text, screen)], max_tokens=4
                )
                statuses[200] += 1
            except openai.APIStatusError as error:
                statuses[error.status_code] += 1
                refused.append(1e3 * (time.perf_counter() - began))
                await asyncio.sleep(0.5)

    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="use", max_retries=0, timeout=600
    ) as client:
        await asyncio.gather(*(one(client) for _ in range(CLIENTS)))
    refused.sort()
    return {
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "answers_per_second": round(statuses[200] / seconds, 2),
        "refused_ms_median": round(statistics.median(refused), 1) if refused else None,
        "refused_ms_p99": round(refused[int(0.99 * len(refused))], 1) if refused else None,
    }


async def stop_under_load(server: Server, right: Right) -> dict[str, int]:
    """SIGTERM while clients wait for streams: how do these end?"""
    ends: Counter[str] = Counter()
    text, screen = right.questions[0]

    async def one(client: openai.AsyncOpenAI) -> None:
        try:
            reason = None
            stream: Any = await client.chat.completions.create(
                model="auto",
                messages=[user(text, screen)],
                max_tokens=24,
                stream=True,
                extra_body={"ignore_eos": True},
            )
            async for event in stream:
                reason = event.choices[0].finish_reason or reason
            ends["complete" if reason else "cut off"] += 1
        except openai.APIStatusError as error:
            ends[str(error.status_code)] += 1
        except openai.APIConnectionError:
            ends["not accepted"] += 1

    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="use", max_retries=0, timeout=600
    ) as client:
        tasks = [asyncio.create_task(one(client)) for _ in range(16)]
        await asyncio.sleep(1)
        os.kill(server.process.pid, signal.SIGTERM)
        await asyncio.gather(*tasks)
    ends["exit status"] = await asyncio.to_thread(server.process.wait, 60)
    return dict(ends)


def memory(server: Server) -> int:
    """Resident MB of the server."""
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    raise AssertionError("no VmRSS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=60, help="of overload")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_root(root)
        right = expect(root)
        # The root is where adapters are looked for; links out of it are refused.
        for adapter in ADAPTERS:
            (root / adapter).mkdir()
            for file in (POCKET / "adapters" / adapter).iterdir():
                (root / adapter / file.name).write_bytes(file.read_bytes())
        table: dict[str, Any] = {"adapter_root": name, "deadline": 3000}
        with serve(root / "log", table=table, environment=KEYS) as server:
            traffic = Traffic(server, right, 0)
            asyncio.run(traffic.run(options.requests // 2, CLIENTS))
            before, began = memory(server), time.perf_counter()
            asyncio.run(traffic.run(options.requests, CLIENTS))
            seconds = time.perf_counter() - began
            grown = memory(server) - before
            stopped = asyncio.run(stop_under_load(server, right))
        table |= {"max_waiting": 4, "slots": 4}
        with serve(root / "log2", table=table, environment=KEYS) as server:
            overloaded = asyncio.run(overload(server, right, options.seconds))
    tally = traffic.tally
    report(
        "server",
        {
            "requests": options.requests // 2 + options.requests,
            "clients": CLIENTS,
            "adapters": len(ADAPTERS) + len(GUESTS),
            "wrong": len(tally.wrong),
            "examples": tally.wrong[:20],
            "counts": dict(sorted(tally.counts.items())),
            "seconds": round(seconds),
            "memory_grown_mb_in_the_last_two_thirds": grown,
            "overload": overloaded,
            "sigterm": stopped,
        },
    )


if __name__ == "__main__":
    main()
