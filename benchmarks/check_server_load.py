"""``pointsman serve`` under load: steady, too much, and clients that hang up.

Each request has another screen, as agents' requests have, and its answer is as long as the adapter
makes it. Requests arrive at random times, at a rate that does not depend on how fast answers come.
The client runs on the same machine. Its speed varies, so that capacity, answers per second while as
many clients wait as the server has slots, is measured before each part of the load.

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
from itertools import cycle
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from common import new_screens, report

from support.server import CALENDAR, Server, screen, serve, user

SLOTS, WAITING = 16, 16
ROUNDS, SCREENS = 6, 64
MESSAGES = [user(CALENDAR, screen())]


def bodies() -> list[bytes]:
    """Requests with a screen each; the server is told to keep none."""
    return [
        json.dumps({"model": "auto", "messages": [user(instruction, png)]}).encode()
        for png, instruction in new_screens(SCREENS)
    ]


BODIES = cycle(bodies())


@dataclass
class Tally:
    statuses: Counter[str] = field(default_factory=Counter)
    answered: list[float] = field(default_factory=list)
    """Seconds"""
    refused: list[float] = field(default_factory=list)

    def __add__(self, other: Self) -> "Tally":
        return Tally(
            self.statuses + other.statuses,
            self.answered + other.answered,
            self.refused + other.refused,
        )

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


class Client:
    """HTTP in a few lines: a full client would take much of two cores from the server."""

    def __init__(self, server: Server) -> None:
        place = urlsplit(server.url)
        self._place = place.hostname, place.port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for _, writer in self._idle:
            writer.close()

    async def ask(self, head: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of a response; connections are used again."""
        while self._idle and self._idle[-1][0].at_eof():  # the server ends those that wait
            self._idle.pop()[1].close()
        connection = self._idle.pop() if self._idle else await asyncio.open_connection(*self._place)
        reader, writer = connection
        writer.write(request(head, body))
        found = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = int(found.partition(b"content-length:")[2].partition(b"\r\n")[0])
        content = await reader.readexactly(size)
        self._idle.append(connection)
        return int(found[9:12]), content


def request(head: str, body: bytes) -> bytes:
    lines = [f"{head} HTTP/1.1", "host: localhost", "content-type: application/json"]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


async def one(client: Client, tally: Tally) -> None:
    began = time.perf_counter()
    try:
        status, _ = await client.ask("POST /v1/chat/completions", next(BODIES))
    except (OSError, EOFError, ValueError) as fault:
        tally.statuses[type(fault).__name__] += 1
        return
    tally.statuses[str(status)] += 1
    where = tally.answered if status == 200 else tally.refused
    where.append(time.perf_counter() - began)


async def capacity(server: Server, seconds: float) -> float:
    """Answers per second while as many clients wait as the server has slots."""
    tally, until = Tally(), time.monotonic() + seconds

    async def again(client: Client) -> None:
        while time.monotonic() < until:
            await one(client, tally)

    began = time.perf_counter()
    async with Client(server) as client:
        await asyncio.gather(*(again(client) for _ in range(SLOTS)))
    return len(tally.answered) / (time.perf_counter() - began)


async def arriving(
    server: Server, rate: float, seconds: float, seed: int = 0
) -> tuple[Tally, float]:
    """Requests that arrive at random times, ``rate`` a second in the mean; how long it took."""
    tally, rng, tasks = Tally(), random.Random(seed), set()
    began = due = time.perf_counter()
    async with Client(server) as client:
        while (due := due + rng.expovariate(rate)) < began + seconds:
            await asyncio.sleep(due - time.perf_counter())
            task = asyncio.create_task(one(client, tally))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
    return tally, time.perf_counter() - began


def loaded(server: Server, share: float, seconds: float, rounds: int) -> dict[str, Any]:
    """Requests at a share of the capacity, for so many seconds in each round."""
    tally, ratios, capacities, took = Tally(), [], [], 0.0
    for number in range(rounds):
        capacities.append(asyncio.run(capacity(server, 15)))
        found, lasted = asyncio.run(arriving(server, share * capacities[-1], seconds, number))
        ratios.append(len(found.answered) / lasted / capacities[-1])
        tally, took = tally + found, took + lasted
        print(f"{capacities[-1]:.1f} answers a second; {found.shown(lasted)}", flush=True)
    return {
        "rounds": rounds,
        "seconds_of_each": seconds,
        "capacity_per_second": [round(capacity, 2) for capacity in capacities],
        **tally.shown(took),
        "goodput": round(statistics.median(ratios), 3),
        "goodput_of_rounds": [round(ratio, 3) for ratio in ratios],
    }


async def hang_up(server: Server, number: int) -> dict[str, Any]:
    """Clients go away at random moments of a long answer, others stay: who is harmed?"""
    rng, tally = random.Random(0), Tally()
    left = iter(range(number))
    body = {"model": "auto", "messages": MESSAGES, "stream": True, "max_tokens": 64}
    content = json.dumps({**body, "ignore_eos": True}).encode()

    async def leaving() -> None:
        place = urlsplit(server.url)
        whole = request("POST /v1/chat/completions", content)
        for _ in left:
            _, writer = await asyncio.open_connection(place.hostname, place.port)
            writer.write(whole[: len(whole) if rng.random() < 0.8 else len(whole) // 2])
            await writer.drain()
            await asyncio.sleep(rng.random())
            writer.close()

    async def staying(client: Client) -> None:
        while not leavers.done():
            await one(client, tally)

    async with Client(server) as client:
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


async def busy(client: Client) -> int:
    """Requests that the engine has."""
    text = (await client.ask("GET /metrics"))[1].decode()
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    lines = [line for line in text.splitlines() if line.startswith(names)]
    return round(sum(float(line.rpartition(" ")[2]) for line in lines))


def all_of(place: Path, seconds: float, hang_ups: int) -> dict[str, Any]:
    table = {"slots": SLOTS, "max_waiting": WAITING, "max_new_tokens": 64, "image_cache_mb": 0}
    with serve(place / "log", table=table) as server:
        asyncio.run(capacity(server, 10))  # warms up
        steady = loaded(server, 0.8, 60, max(1, round(seconds / 60)))
        over = loaded(server, 5, 20, ROUNDS)
        left = asyncio.run(hang_up(server, hang_ups))
    return {"at_80_percent": steady, "at_5_times": over, "hang_ups": left}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="of the steady load")
    parser.add_argument("--hang-ups", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = all_of(Path(name), options.seconds, options.hang_ups)
    report("server_load", {"slots": SLOTS, "max_waiting": WAITING, **found})


if __name__ == "__main__":
    main()
