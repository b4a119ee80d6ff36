"""Random traffic of the stock client against ``pointsman serve``: what goes wrong?

64 clients ask for ``auto``, for adapters by name and for the base, whole and streamed, and hang up,
while 13 more adapters are loaded, replaced and unloaded and the router is exchanged. Every answer
must be that of the generation and the router that it names. Then the same traffic meets a server
whose single owner of the model is broken on purpose: the check must see it.

    python benchmarks/check_server.py --requests 20000
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from common import report

from support.traffic import CANARIES, CLIENTS, Traffic, expect, memory, serve_canaries

ROUND = 250
BROKEN = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    requests = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "root"
        right = expect(root)
        began, grown = time.perf_counter(), []
        with serve_canaries(root) as server:
            traffic = Traffic(server, right, 0)
            for start in range(0, requests, ROUND):
                asyncio.run(traffic.run(min(ROUND, requests - start), CLIENTS))
                grown.append(memory(server))
                print(
                    f"{start + ROUND} requests, {traffic.tally.verdict}, {grown[-1]} MB", flush=True
                )
        seconds = time.perf_counter() - began
        with serve_canaries(root, module="support.two_owners") as server:
            broken = Traffic(server, right, 0)
            asyncio.run(broken.run(BROKEN, CLIENTS))
    tally = traffic.tally
    report(
        "server",
        {
            "requests": requests,
            "clients": CLIENTS,
            "adapters": 3 + len(CANARIES),
            "different answers to a question, mean": right.spread,
            "wrong": len(tally.wrong),
            "examples": tally.wrong[:20],
            "counts": dict(sorted(tally.counts.items())),
            "seconds": round(seconds),
            "memory_mb_by_250": grown,
            "memory_grown_mb_in_the_last_half": grown[-1] - grown[len(grown) // 2 - 1],
            "wrong_with_two_owners": len(broken.tally.wrong),
            "requests_with_two_owners": BROKEN,
        },
    )


if __name__ == "__main__":
    main()
