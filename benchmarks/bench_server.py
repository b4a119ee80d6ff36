"""The cost of HTTP: ``pointsman serve`` over the engine alone, for one client.

Requests go in turn to the server and to an engine in this process, both on the pocket; both start
from a PNG's bytes. Screens are new to both, or known to both, so that the rest weighs more.

    python benchmarks/bench_server.py
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from common import new_screens, report

from pointsman.engine.engine import Engine
from pointsman.engine.options import EngineOptions
from support.server import serve, user

TOKENS = 48
SCREENS = 15
WARM_UPS = 5

Way = Callable[[bytes, str], Any]


def times_of(asked: Iterable[tuple[bytes, str]], by_server: Way, by_engine: Way) -> dict[str, Any]:
    """Seconds of both for each request, the first one now the one and now the other."""
    seconds: dict[Way, list[float]] = {by_server: [], by_engine: []}
    for number, (screen, text) in enumerate(asked):
        for way in (by_server, by_engine)[:: 1 if number % 2 else -1]:
            began = time.perf_counter()
            way(screen, text)
            seconds[way].append(time.perf_counter() - began)
    ratios = [a / b for a, b in zip(seconds[by_server], seconds[by_engine], strict=True)]
    return {
        "requests": len(ratios),
        "server_ms": round(1e3 * statistics.median(seconds[by_server]), 1),
        "engine_ms": round(1e3 * statistics.median(seconds[by_engine]), 1),
        "median_ratio": round(statistics.median(ratios), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    rounds = parser.parse_args().rounds
    asked = list(new_screens(WARM_UPS + rounds * SCREENS))
    known = asked[:SCREENS]
    with (
        tempfile.TemporaryDirectory() as place,
        serve(Path(place) / "log") as server,
        Engine.pocket(options=EngineOptions(max_new_tokens=TOKENS)) as engine,
        server.client() as client,
    ):

        def by_server(screen: bytes, text: str) -> None:
            client.chat.completions.create(
                model="auto", messages=[user(text, screen)], max_tokens=TOKENS
            )

        times_of(asked[:WARM_UPS], by_server, engine.generate)
        new = times_of(asked[WARM_UPS:], by_server, engine.generate)
        again = times_of(known * rounds, by_server, engine.generate)
    report("server_overhead", {"new screens": new, "screens seen before": again})


if __name__ == "__main__":
    main()
