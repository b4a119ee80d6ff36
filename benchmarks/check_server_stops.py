"""SIGTERM while ``pointsman serve`` answers: does every accepted request end?

Sixteen clients of a fresh server ask for streams, and at a random moment it is told to stop.

    python benchmarks/check_server_stops.py --stops 200
"""

import argparse
import asyncio
import os
import random
import signal
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
from common import report

from support.server import CALENDAR, Server, screen, serve, user

CLIENTS = 16
MESSAGES = [user(CALENDAR, screen())]


async def stop_under_load(server: Server, after: float) -> Counter[str]:
    """SIGTERM while clients wait for streams: how do these end?"""
    ends: Counter[str] = Counter()

    async def ask(client: openai.AsyncOpenAI) -> None:
        begun = False
        try:
            stream: Any = await client.chat.completions.create(
                model="auto",
                messages=MESSAGES,
                max_tokens=12,
                stream=True,
                extra_body={"ignore_eos": True},
            )
            begun, reason = True, None
            async for event in stream:
                reason = event.choices[0].finish_reason or reason
            ends["complete" if reason else "cut off"] += 1
        except openai.APIStatusError as error:
            ends[f"refused with {error.status_code}"] += 1
        except openai.APIConnectionError as error:
            # A connection that was never accepted is refused; one that was must be answered.
            is_refused = isinstance(error.__cause__, httpx2.ConnectError)
            ends["cut off" if begun or not is_refused else "not accepted"] += 1

    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=600
    ) as client:
        tasks = [asyncio.create_task(ask(client)) for _ in range(CLIENTS)]
        await asyncio.sleep(after)
        os.kill(server.process.pid, signal.SIGTERM)
        await asyncio.gather(*tasks)
    status = await asyncio.to_thread(server.process.wait, 60)
    ends[f"exit status {status}"] += 1
    return ends


def stops(place: Path, number: int) -> dict[str, int]:
    """How the requests of so many servers end. One starts while another stops."""
    ends: Counter[str] = Counter()
    rng = random.Random(0)

    def stop(at: int, after: float) -> Counter[str]:
        with serve(place / str(at)) as server:
            return asyncio.run(stop_under_load(server, after))

    with ThreadPoolExecutor(2) as pool:
        delays = [rng.uniform(0.05, 2) for _ in range(number)]
        for at, found in enumerate(pool.map(stop, range(number), delays), 1):
            ends += found
            if at % 10 == 0:
                print(f"{at} stops: {dict(ends)}", flush=True)
    return dict(sorted(ends.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stops", type=int, default=200)
    number = parser.parse_args().stops
    with tempfile.TemporaryDirectory() as name:
        ends = stops(Path(name), number)
    report("server_stops", {"stops": number, "clients": CLIENTS, "ends": ends})


if __name__ == "__main__":
    main()
