"""Our side of ``bench_against_vllm.py``: the engine as a project file starts it."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

from against_phases import AUTO, NAMED, Ask, Counts, Timeline
from against_side import run_side, side_options

import pointsman
from pointsman.conversation import make_prompt
from pointsman.engine.engine import Engine
from pointsman.engine.options import EngineOptions
from pointsman.engine.request import Request
from pointsman.engine.sampling import Sampling
from pointsman.labels import BASE
from pointsman.models.checkpoint import Dtype


class Ours:
    """Callers' threads, as a server has them, and an engine."""

    def __init__(
        self, config: Path, dtype: Dtype | None, plan: str, slots: int, counts: Counts
    ) -> None:
        options = EngineOptions(slots=slots)
        self._engine = Engine.from_config(config, dtype=dtype, options=options)
        if self._engine.plan.name != plan:
            raise SystemExit(f"{config} has plan {self._engine.plan.name}, not {plan}")
        self._callers = ThreadPoolExecutor(128)
        self._sampling = Sampling(ignore_eos=counts.ignores_end)
        self._errors: list[Exception] = []
        self._timelines: dict[int, Timeline] = {}
        """By prompt"""
        self._changed = Event()
        self._stamp_tokens()

    def submit(self, ask: Ask, tokens: int) -> Timeline:
        timeline = Timeline(time.perf_counter())
        self._callers.submit(self._answer, ask, tokens, timeline)
        return timeline

    def advance(self) -> None:
        self._changed.wait(60)
        self._changed.clear()
        if self._errors:
            raise self._errors.pop()

    def _answer(self, ask: Ask, tokens: int, timeline: Timeline) -> None:
        try:
            prompt = make_prompt(ask.picture, ask.text)
            self._timelines[id(prompt)] = timeline
            answer = self._engine.submit(
                prompt,
                adapter=ask.model or BASE,
                max_new_tokens=tokens,
                sampling=self._sampling,
            ).result()
            del self._timelines[id(prompt)]
            # What is said at the very end is no token's.
            del timeline.tokens[answer.completion_tokens :]
            timeline.is_done = True
        except Exception as error:
            self._errors.append(error)
        self._changed.set()

    def _stamp_tokens(self) -> None:
        """Notes each token's time: random weights say tokens that have no text to be streamed."""
        say = Request.say

        def stamped(request: Request, piece: str | None) -> None:
            timeline = self._timelines.get(id(request.prompt))
            if timeline is not None:
                timeline.tokens.append(time.perf_counter())
                if len(timeline.tokens) <= 2:
                    self._changed.set()
            say(request, piece)

        Request.say = stamped  # type: ignore[method-assign]


def main() -> None:
    options = side_options(__doc__)

    def start(_: dict[str, Any], counts: Counts) -> Ours:
        config = options.work / f"{options.plan}{'-fp8' if options.fp8 else ''}.toml"
        dtype: Dtype | None = "fp8" if options.fp8 else None
        return Ours(config, dtype, options.plan, options.slots, counts)

    run_side(options, start, (AUTO, NAMED), {"pointsman": pointsman.__version__})


if __name__ == "__main__":
    main()
