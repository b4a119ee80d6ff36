"""Random requests against the serial answers of PEFT, while the device fails: what goes wrong?

Engines of every plan, of several sizes, one after the other. See ``tests/support/stress.py``.
"""

import argparse
import itertools
import logging
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from common import report

from pointsman.engine.plan import PlanName
from support import stress

PLANS: tuple[PlanName, ...] = ("in-pass", "two-pass", "activated", "peft")
SHAPES: tuple[Mapping[str, Any], ...] = (
    {"slots": 5, "kept": 2, "resident": 2, "max_waiting": 40},
    {"slots": 3, "kept": 1, "max_waiting": 10},
    {"slots": 8, "kept": 0, "resident": 4},
    {"slots": 1, "kept": 3, "resident": 1},
)
"""Engines; slots that are no power of two are padded on CUDA"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--each", type=int, default=600, help="requests for each engine")
    parser.add_argument("--rate", type=float, default=0.004, help="share of calls that fail")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--plans", nargs="+", default=PLANS, choices=PLANS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="stress", help="of the file in benchmarks/results")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    threading.excepthook = lambda _: None  # engines die on purpose
    torch.set_num_threads(1)
    total, start = stress.Tally(), time.monotonic()
    asked: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        worlds = {plan: stress.World.make(plan, Path(place)) for plan in arguments.plans}
        for number in itertools.count():
            plan = arguments.plans[number % len(worlds)]
            shape = SHAPES[number // len(worlds) % len(SHAPES)]
            with_death = number % 3 == 0
            engine = worlds[plan].engine(arguments.device, **shape)
            seed = arguments.seed + number
            tally = stress.run(
                engine, worlds[plan].serial, arguments.each, seed, arguments.rate, dies=with_death
            )
            asked[plan] += tally.counts["requests"]
            total += tally
            print(f"{asked.total()} requests, {plan} {dict(shape)}: {tally.verdict}", flush=True)
            if asked.total() >= arguments.requests:
                break
    report(
        arguments.name,
        {
            "requests": asked.total(),
            "by_plan": dict(asked),
            "engines": number + 1,
            "wrong": len(total.wrong),
            "hung": total.hung,
            "leaked": len(total.leaked),
            "faults": total.faults.total(),
            "outcomes": dict(sorted(total.counts.items())),
            "faults_by_place": dict(sorted(total.faults.items())),
            "examples": [*total.wrong[:20], *total.leaked[:20]],
            "seconds": round(time.monotonic() - start),
            "settings": {
                "seed": arguments.seed,
                "rate": arguments.rate,
                "device": arguments.device,
            },
        },
    )
    raise SystemExit(not total.is_clean)


if __name__ == "__main__":
    main()
