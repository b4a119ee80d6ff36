"""Random traffic of the stock client against ``pointsman serve``, and its right answers.

Clients ask for ``auto``, adapters by name and the base, whole and streamed, and hang up, while
adapters are loaded, replaced and unloaded and the router is exchanged. Every answer must be that of
the generation and the router that it names.
"""

import asyncio
import json
import random
import shutil
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import openai

from pointsman.adapters.load import open_adapter
from pointsman.engine.engine import Engine
from pointsman.engine.options import EngineOptions
from pointsman.evaluation.demo import demo_samples
from pointsman.protocol.shown import generation
from pointsman.routing.router import Router
from pointsman.routing.seal import router_digest
from pointsman.sample import load_prompt
from support.server import Server, serve, user
from support.tiny import REPOSITORY

POCKET = REPOSITORY / "src/pointsman/pocket/model"
ADAPTERS = ("calendar", "claim-window", "provider-select")
GUESTS = tuple(f"guest-{number}" for number in range(13))
"""Names under which adapters come and go; with the router's three, 16 adapters"""
CANARIES = tuple(f"canary-{number}" for number in range(13))
"""Folders of adapters whose answers differ: the router's, weakened by different factors"""
KEYS = {"POINTSMAN_API_KEY": "use", "POINTSMAN_ADMIN_KEY": "admin"}
TOKENS = 24
CLIENTS = 64
ROUTERS = ("usual", "strict")


@dataclass
class Right:
    """Right answers, by the engine alone."""

    questions: list[tuple[str, bytes]]
    texts: dict[tuple[int, str], str]
    """By question and adapter, canary or ``base``"""
    routes: dict[tuple[int, str], str]
    """Who answers, by question and the router's digest"""
    generations: dict[str, str]
    """The canary of a generation"""

    @property
    def spread(self) -> float:
        """How many different answers a question has, in the mean."""
        different = {(number, text) for (number, _), text in self.texts.items()}
        return round(len(different) / len(self.questions), 1)


@dataclass
class Tally:
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        return f"{len(self.wrong)} wrong {self.wrong[:2]}"


def expect(root: Path, questions: int = 15) -> Right:
    """Makes what the server may load in ``root``, and asks an engine alone.

    Args:
        questions: how many of the demo's requests are asked.
    """
    root.mkdir()
    _make_routers(root)
    for number, name in enumerate(CANARIES):
        _make_canary(root / name, ADAPTERS[number % 3], 0.95 - 0.05 * number)
    with demo_samples() as samples, Engine.pocket(options=EngineOptions(max_rank=64)) as engine:
        chosen = samples[::-1][:questions]
        prompts = [load_prompt(sample) for sample in chosen]
        asked = [(s.instruction, Path(s.images[0]).read_bytes()) for s in chosen]
        for name in CANARIES:
            engine.add_adapter(name, root / name)
        texts = {}
        for name in (*ADAPTERS, *CANARIES, "base"):
            found = engine.generate_batch(prompts, adapter=name, max_new_tokens=TOKENS)
            texts |= {(number, name): answer.text for number, answer in enumerate(found)}
        routes = {}
        for router in ROUTERS:
            engine.replace_router(Router.load(root / router))
            for number, route in enumerate(engine.route_batch(prompts)):
                routes[number, router_digest(root / router)] = route.adapter or "base"
    generations = {generation(open_adapter(name, root / name).digests): name for name in CANARIES}
    return Right(asked, texts, routes, generations)


def _make_routers(root: Path) -> None:
    usual = Router.load(POCKET / "router")
    strict = replace(usual, calibration=replace(usual.calibration, threshold=0.5))
    for name, router in zip(ROUTERS, (usual, strict), strict=True):
        router.save(root / name)


def _make_canary(folder: Path, adapter: str, factor: float) -> None:
    shutil.copytree(POCKET / "adapters" / adapter, folder)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "lora_alpha": config["lora_alpha"] * factor}))


@contextmanager
def serve_canaries(root: Path, *, module: str = "pointsman", **table: Any) -> Iterator[Server]:
    """A server that may load what ``expect`` made in ``root``."""
    options = {"adapter_root": str(root), "deadline": 3000, **table}
    log = root.with_name(f"{module}.log")
    with serve(log, table=options, environment=KEYS, module=module) as server:
        yield server


class Traffic:
    """Random requests of many clients, while adapters and routers come and go."""

    def __init__(self, server: Server, right: Right, seed: int, patience: float = 600) -> None:
        self._server, self._right, self._rng = server, right, random.Random(seed)
        self._patience = patience
        self.tally = Tally()

    async def run(self, requests: int, clients: int) -> None:
        left = iter(range(requests))
        async with openai.AsyncOpenAI(
            base_url=f"{self._server.url}/v1", api_key="use", max_retries=0, timeout=self._patience
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
        except openai.APIError as error:
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
                await self._admin("router", router_path=self._rng.choice(ROUTERS))
            elif chance < 0.5:
                await self._admin("unload_lora_adapter", lora_name=name)
            else:
                await self._admin(
                    "load_lora_adapter", lora_name=name, lora_path=self._some(), load_inplace=True
                )
            with suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), 0.5)

    def _some(self) -> str:
        return self._rng.choice(CANARIES)

    async def _admin(self, path: str, **body: Any) -> None:
        try:
            status = await asyncio.to_thread(
                post, self._server, f"/v1/{path}", "admin", body, self._patience
            )
        except TimeoutError:
            self.tally.wrong.append(f"{path}: no answer in {self._patience} s")
            return
        self.tally.counts[f"{path}: {status}"] += 1
        if status >= 500:
            self.tally.wrong.append(f"{path}: {status}")


def post(server: Server, path: str, key: str, body: Any, patience: float = 600) -> int:
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=patience) as response:
            response.read()
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def memory(server: Server) -> int:
    """Resident MB of the server."""
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    raise AssertionError("no VmRSS")
