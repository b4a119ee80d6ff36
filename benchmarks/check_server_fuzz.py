"""Hostile requests against ``pointsman serve``: does one fail, stop it, or make it grow?

Requests made of the live schema by Schemathesis, as it says and not as it says, whose responses
must be as it says; then malformed pictures. The goal, on three free cores or more:

    python benchmarks/check_server_fuzz.py --requests 50000 --pictures 10000 --clients 3
"""

import argparse
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
from common import ROOT, report

from support import fuzz
from support.server import Server, serve, user
from support.traffic import memory

POCKET = ROOT / "src/pointsman/pocket/model"
EACH = 500
"""Requests of one task"""
LONG = 3900
"""Tokens; the pocket's context has 4,096"""
WARM = 1000
"""Requests and pictures of each kind before memory is measured: caches and pools are filled"""


@contextmanager
def target(place: Path) -> Iterator[Server]:
    """A server that may load an adapter and a router."""
    shutil.copytree(POCKET / "adapters/calendar", place / "root/calendar")
    shutil.copytree(POCKET / "router", place / "root/router")
    table = {**fuzz.OPTIONS, "adapter_root": str(place / "root")}
    with serve(place / "log", table=table, environment=fuzz.KEYS) as server:
        yield server


def send_long(server: Server) -> None:
    """A prompt almost as long as the context: from here on the KV cache has its largest size."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="use") as client:
        found = client.chat.completions.create(
            model="base", messages=[user("a " * LONG)], max_tokens=1
        )
    assert found.usage is not None
    assert found.usage.prompt_tokens > LONG


def spread(
    work: Callable[[str, int, int], fuzz.Tally],
    server: Server,
    count: int,
    seed: int,
    pool: ProcessPoolExecutor,
) -> fuzz.Tally:
    """Runs ``count`` requests in tasks, each with a seed of its own."""
    total, began = fuzz.Tally(), time.monotonic()
    sizes = [min(EACH, count - done) for done in range(0, count, EACH)]
    tasks = [pool.submit(work, server.url, size, seed + n) for n, size in enumerate(sizes)]
    for task in as_completed(tasks):
        total += (found := task.result())
        for fault in found.faults:
            print(fault, flush=True)
        print(
            f"{work.__name__}: {total.statuses.total()} of {count} in "
            f"{time.monotonic() - began:.0f} s, {len(total.faults)} faults, "
            f"{memory(server)} MB",
            flush=True,
        )
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--clients", type=int, default=2, help="processes that send requests")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as place,
        target(Path(place)) as server,
        ProcessPoolExecutor(arguments.clients, context) as pool,
    ):
        warm = fuzz.Tally()
        send_long(server)
        for work, most in (
            (fuzz.fuzz, arguments.requests),
            (fuzz.send_pictures, arguments.pictures),
        ):
            warm += spread(work, server, min(WARM, most), arguments.seed + 1_000_000, pool)
        before = memory(server)
        requests = spread(fuzz.fuzz, server, arguments.requests, arguments.seed, pool)
        between = memory(server)
        pictures = spread(fuzz.send_pictures, server, arguments.pictures, arguments.seed, pool)
        after = memory(server)
        is_alive = server.process.poll() is None
        tracebacks = server.log.read_text(errors="replace").count("Traceback")
    faults = [*warm.faults, *requests.faults, *pictures.faults]
    result: dict[str, Any] = {
        "requests": requests.statuses.total(),
        "pictures": pictures.statuses.total(),
        "warm_up": warm.statuses.total(),
        "failed": sum(
            number
            for tally in (warm, requests, pictures)
            for name, number in tally.statuses.items()
            if name.rpartition(" ")[2] >= "500"
        ),
        "faults": len(faults),
        "restarts": int(not is_alive),
        "tracebacks_in_log": tracebacks,
        "memory_mb": {
            "after_warm_up": before,
            "after_requests": between,
            "after_pictures": after,
            "growth": after - before,
        },
        "statuses_of_requests": dict(sorted(requests.statuses.items())),
        "statuses_of_pictures": dict(sorted(pictures.statuses.items())),
        "examples": faults[:20],
        "minutes": round((time.monotonic() - began) / 60, 1),
        "settings": {"seed": arguments.seed, "clients": arguments.clients},
    }
    report("server_fuzz", result)
    raise SystemExit(bool(faults or tracebacks or not is_alive or after - before >= 100))


if __name__ == "__main__":
    main()
