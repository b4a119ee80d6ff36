"""The arithmetic of the benchmark against vLLM, on times that are known."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest


def _phases() -> Any:
    """By its path: the scripts of ``modal/`` and of ``benchmarks/`` each import a ``common``."""
    path = Path(__file__).parent.parent / "benchmarks/against_phases.py"
    spec = importlib.util.spec_from_file_location("against_phases", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


phases = _phases()
Ask, Timeline, serve, step_time = phases.Ask, phases.Timeline, phases.serve, phases.step_time
ratios = phases.ratios


class Stepped:
    """A side that gives each running request a token a step; it notes how many run at once."""

    def __init__(self) -> None:
        self.running: list[tuple[Any, int]] = []
        self.most = 0

    def submit(self, ask: Any, tokens: int) -> Any:
        timeline = Timeline(0.0)
        self.running.append((timeline, tokens))
        self.most = max(self.most, len(self.running))
        return timeline

    def advance(self) -> None:
        for timeline, tokens in self.running:
            timeline.tokens.append(float(len(timeline.tokens)))
            timeline.is_done = len(timeline.tokens) == tokens
        self.running = [one for one in self.running if not one[0].is_done]


ASK = Ask(b"", "text", "prompt", None)


@pytest.mark.parametrize(("asked", "clients", "most"), [(5, 2, 2), (3, 8, 3), (4, 1, 1)])
def test_a_closed_loop_has_no_more_requests_than_clients(asked: int, clients: int, most: int):
    side = Stepped()
    found = serve(side, [ASK] * asked, clients, 3)
    assert [len(timeline.tokens) for timeline in found] == [3] * asked
    assert side.most == most


def test_a_step_is_timed_while_all_requests_are_answered():
    early = Timeline(0.0, [0.1 + 0.01 * at for at in range(40)])  # alone until 0.3
    late = Timeline(0.0, [0.3 + 0.02 * at for at in range(40)])  # alone from 0.49
    assert step_time([early, late]) == pytest.approx(0.02)
    assert step_time([late]) == pytest.approx(0.02)


def test_answers_that_do_not_overlap_are_no_step():
    early, late = Timeline(0.0, [0.1, 0.2, 0.3]), Timeline(0.0, [0.3, 0.4, 0.5])
    with pytest.raises(ValueError, match="overlap for 1 tokens"):
        step_time([early, late])


def test_ratios_are_of_figures_that_both_sides_have():
    ours = {
        "step_8": {"auto": {"value": 6.6}},
        "burst": {"auto": {"value": 5.5}, "named": {"value": 5.0}},
        "broken": {"error": "no memory"},
    }
    theirs = {"step_8": {"named": {"value": 10.0}}, "broken": {"named": {"value": 1.0}}}
    assert ratios({"ours": ours, "vllm": theirs}) == {
        "ours over vllm": {"step_8": 0.66},
        "ours, routed over named": {"burst": 1.1},
    }
