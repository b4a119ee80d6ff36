"""The cost of HTTP: ``pointsman serve`` over the engine alone, for one client.

Requests of the demo's screens go in turn to the server and to an engine in this process, both on
the pocket; both start from a PNG's bytes. After the first round both have the screens' features, so
that the rest weighs more.

    python benchmarks/bench_server.py
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from common import report

from pointsman.engine.engine import Engine
from pointsman.engine.options import EngineOptions
from pointsman.evaluation.demo import demo_samples
from support.server import serve, user

TOKENS = 48


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    rounds = parser.parse_args().rounds
    with demo_samples() as samples:
        asked = [(s.instruction, Path(s.images[0]).read_bytes()) for s in samples]
    ours, theirs = [], []
    with (
        tempfile.TemporaryDirectory() as place,
        serve(Path(place) / "log") as server,
        Engine.pocket(options=EngineOptions(max_new_tokens=TOKENS)) as engine,
        server.client() as client,
    ):
        for number in range(rounds + 1):
            for at, (text, screen) in enumerate(asked):

                def by_server(text: str = text, screen: bytes = screen) -> None:
                    client.chat.completions.create(
                        model="auto", messages=[user(text, screen)], max_tokens=TOKENS
                    )

                def by_engine(text: str = text, screen: bytes = screen) -> None:
                    engine.generate(screen, text)

                ways = [(by_server, ours), (by_engine, theirs)]
                for way, seconds in ways if (number + at) % 2 else ways[::-1]:
                    began = time.perf_counter()
                    way()
                    if number:
                        seconds.append(time.perf_counter() - began)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    report(
        "server_overhead",
        {
            "requests": len(ours),
            "server_ms": round(1e3 * statistics.median(ours), 1),
            "engine_ms": round(1e3 * statistics.median(theirs), 1),
            "median_ratio": round(statistics.median(ratios), 3),
        },
    )


if __name__ == "__main__":
    main()
