"""What the sides' processes of ``bench_against_vllm.py`` share: their options, and how they report.

A phase's figures are printed as soon as they are there.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from against_phases import COUNTS, Counts, Figure, Requests, Side, figure, first_requests, phases
from common import machine

MARK = "RESULT "
"""Begins a line of a side's output that holds a phase's figures"""


def memory() -> Figure:
    """The device's memory in use; without one, the largest that this process had."""
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return figure([total - free], "GB", 1e-9)
    lines = Path("/proc/self/status").read_text().splitlines()
    [size] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return figure([1024 * int(size)], "GB", 1e-9)


def tell(name: str, found: Any) -> None:
    print(MARK + json.dumps({name: found}), flush=True)


def side_options(description: str | None) -> argparse.Namespace:
    """The options of a side's process."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("work", type=Path)
    parser.add_argument("plan")
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--rounds", type=int, help="of each phase, instead of the usual")
    parser.add_argument(
        "--spawned", type=float, required=True, help="when, in seconds of the clock"
    )
    parser.add_argument("--fp8", action="store_true", help="serve the base with FP8 weights")
    parser.add_argument("--only-start", action="store_true", help="and the first requests")
    return parser.parse_args()


def run_side(
    options: argparse.Namespace,
    start: Callable[[dict[str, Any], Counts], Side],
    ways: Sequence[str],
    versions: dict[str, str],
) -> None:
    """Starts a side, measures it and tells each figure; ends with 1 if a phase failed."""
    made = json.loads((options.work / "made.json").read_text())
    counts, requests = COUNTS[made["shape"]], Requests(options.work / "requests.jsonl")
    counts = replace(counts, rounds=options.rounds or counts.rounds)
    tell("machine", machine() | versions)
    began = time.perf_counter()
    side = start(made, counts)
    tell("engine_start", {ways[0]: figure([time.perf_counter() - began], "s")})
    tell("process_start", {ways[0]: figure([time.time() - options.spawned], "s")})
    for name, found in first_requests(side, requests, counts, ways[0]).items():
        tell(name, found)
    if options.only_start:
        return
    failed = False
    for name, measure in phases(side, requests, counts, ways):
        try:
            tell(name, measure())
        except Exception as error:  # the figures of the other phases are wanted all the same
            failed = True
            tell(name, {"error": f"{type(error).__name__}: {error}"})
    tell("memory", {ways[0]: memory()})
    raise SystemExit(int(failed))
