"""``pointsman serve`` under load: steady, too much, and clients that hang up.

Requests arrive at random times, at a rate that does not depend on how fast answers come. The client
runs on the same machine.

    python benchmarks/check_server_load.py --seconds 600 --hang-ups 1000
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from common import report

from support.server import CALENDAR, Server, screen, serve, user

SLOTS, WAITING = 16, 16
TOKENS = 4
MESSAGES = [user(CALENDAR, screen())]
BODY = json.dumps({"model": "auto", "messages": MESSAGES, "max_tokens": TOKENS}).encode()
HEADERS = {"content-type": "application/json"}


@dataclass
class Tally:
    statuses: Counter[str] = field(default_factory=Counter)
    answered: list[float] = field(default_factory=list)
    """Seconds"""
    refused: list[float] = field(default_factory=list)

    def shown(self, seconds: float) -> dict[str, Any]:
        return {
            "statuses": dict(sorted(self.statuses.items())),
            "answers_per_second": round(len(self.answered) / seconds, 2),
            "answered_ms": _spread(self.answered),
            "refused_ms": _spread(self.refused),
        }


def _spread(seconds: list[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    found = sorted(seconds)
    p99 = found[int(0.99 * len(found))]
    return {"median": round(1e3 * statistics.median(found), 1), "p99": round(1e3 * p99, 1)}


async def one(client: httpx2.AsyncClient, tally: Tally) -> None:
    began = time.perf_counter()
    try:
        found = await client.post("/v1/chat/completions", content=BODY, headers=HEADERS)
    except httpx2.HTTPError as fault:
        tally.statuses[type(fault).__name__] += 1
        return
    tally.statuses[str(found.status_code)] += 1
    where = tally.answered if found.status_code == 200 else tally.refused
    where.append(time.perf_counter() - began)


def client_of(server: Server) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=2000, max_keepalive_connections=200)
    return httpx2.AsyncClient(base_url=server.url, timeout=600, limits=limits)


async def capacity(server: Server, seconds: float) -> float:
    """Answers per second while as many clients wait as the server has slots."""
    tally, until = Tally(), time.monotonic() + seconds

    async def again(client: httpx2.AsyncClient) -> None:
        while time.monotonic() < until:
            await one(client, tally)

    began = time.perf_counter()
    async with client_of(server) as client:
        await asyncio.gather(*(again(client) for _ in range(SLOTS)))
    return len(tally.answered) / (time.perf_counter() - began)


async def arriving(server: Server, rate: float, seconds: float) -> dict[str, Any]:
    """Requests that arrive at random times, ``rate`` a second in the mean."""
    tally, rng, tasks = Tally(), random.Random(0), set()
    began = due = time.perf_counter()
    async with client_of(server) as client:
        while (due := due + rng.expovariate(rate)) < began + seconds:
            await asyncio.sleep(due - time.perf_counter())
            task = asyncio.create_task(one(client, tally))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
    return {"requests_per_second": round(rate, 2), **tally.shown(time.perf_counter() - began)}


async def hang_up(server: Server, number: int) -> dict[str, Any]:
    """Clients go away at random moments of a long answer, others stay: who is harmed?"""
    rng, tally = random.Random(0), Tally()
    left = iter(range(number))
    body = {"model": "auto", "messages": MESSAGES, "stream": True, "max_tokens": 64}
    content = json.dumps({**body, "ignore_eos": True}).encode()

    async def leaving() -> None:
        url = httpx2.URL(server.url)
        for _ in left:
            _, writer = await asyncio.open_connection(url.host, url.port)
            head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: "
            writer.write(f"{head}{len(content)}\r\ncontent-type: application/json\r\n\r\n".encode())
            writer.write(content[: len(content) if rng.random() < 0.8 else len(content) // 2])
            await writer.drain()
            await asyncio.sleep(rng.random())
            writer.close()

    async def staying(client: httpx2.AsyncClient) -> None:
        while not leavers.done():
            await one(client, tally)

    async with client_of(server) as client:
        leavers = asyncio.gather(*(leaving() for _ in range(8)))
        await asyncio.gather(leavers, *(staying(client) for _ in range(2)))
        began = time.perf_counter()
        while await busy(client) and time.perf_counter() - began < 60:
            await asyncio.sleep(0.05)
        freed = time.perf_counter() - began
        # Every slot must be had again.
        after = Tally()
        await asyncio.gather(*(one(client, after) for _ in range(SLOTS + WAITING)))
    return {
        "hang_ups": number,
        "answers_of_others": dict(tally.statuses),
        "seconds_until_nothing_runs": round(freed, 2),
        "answers_afterwards": dict(after.statuses),
    }


async def busy(client: httpx2.AsyncClient) -> int:
    """Requests that the engine has."""
    text = (await client.get("/metrics")).text
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    lines = [line for line in text.splitlines() if line.startswith(names)]
    return round(sum(float(line.rpartition(" ")[2]) for line in lines))


def loaded(place: Path, seconds: float, hang_ups: int) -> dict[str, Any]:
    table = {"slots": SLOTS, "max_waiting": WAITING, "max_new_tokens": 64}
    with serve(place / "log", table=table) as server:
        asyncio.run(capacity(server, 10))  # warms up
        most = asyncio.run(capacity(server, 60))
        print(f"{most:.1f} answers a second", flush=True)
        steady = asyncio.run(arriving(server, 0.8 * most, seconds))
        print(f"steady: {steady}", flush=True)
        over = asyncio.run(arriving(server, 5 * most, min(60, seconds)))
        print(f"too much: {over}", flush=True)
        left = asyncio.run(hang_up(server, hang_ups))
    return {
        "capacity_per_second": round(most, 2),
        "at_80_percent": {"seconds": seconds, **steady},
        "at_5_times": over | {"goodput": round(over["answers_per_second"] / most, 3)},
        "hang_ups": left,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="of the steady load")
    parser.add_argument("--hang-ups", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = loaded(Path(name), options.seconds, options.hang_ups)
    report("server_load", {"slots": SLOTS, "max_waiting": WAITING, **found})


if __name__ == "__main__":
    main()
