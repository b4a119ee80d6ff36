"""The original's side of ``bench_against_vllm.py --device cpu``: transformers and PEFT alone.

A full forward of the base with adapters off, a head, ``set_adapter``, ``generate``; one request
after the other, however many are asked at once.
"""

import time
from typing import Any

import peft
from against_phases import NAMED, Ask, Counts, Timeline
from against_side import run_side, side_options
from bench_engine import Stock

from pointsman.conversation import make_prompt
from pointsman.project import load_project
from pointsman.routing.router import Router


class Original:
    """The user's scripts, in one."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock

    def submit(self, ask: Ask, tokens: int) -> Timeline:
        timeline = Timeline(time.perf_counter())
        prompt = make_prompt(ask.picture, ask.text)
        self._stock.name(prompt, ask.model)
        self._stock.original([prompt])
        timeline.tokens.append(time.perf_counter())
        timeline.is_done = True
        return timeline

    def advance(self) -> None:
        """Nothing is ever left to be done."""


def main() -> None:
    options = side_options(__doc__)

    def start(made: dict[str, Any], counts: Counts) -> Original:
        project = load_project(options.work / f"{options.plan}.toml")
        return Original(Stock(project, Router.load(project.router)))

    run_side(options, start, (NAMED,), {"peft": peft.__version__})


if __name__ == "__main__":
    main()
