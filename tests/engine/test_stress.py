"""Random requests beside faults of the device; ``benchmarks/check_stress.py`` sends thousands."""

import threading
from pathlib import Path

import pytest

from support.engines import batch_of
from support.stress import World, run


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("plan", "requests", "rate", "options", "ahead"),
    [
        ("in-pass", 150, 0.01, {"slots": 5, "kept": 2, "resident": 2}, False),
        ("in-pass", 150, 0.01, {"slots": 5, "kept": 2, "resident": 2}, True),
        ("two-pass", 120, 0.01, {"slots": 3, "kept": 1}, True),
        ("activated", 60, 0.01, {"slots": 3, "kept": 2, "resident": 1}, False),
        ("peft", 30, 0.05, {"slots": 4}, False),
    ],
)
def test_nothing_is_wrong_hung_or_leaked(
    tiny_base_folder: Path,
    router_folder: Path,
    tmp_path: Path,
    plan: str,
    requests: int,
    rate: float,
    options: dict[str, int],
    ahead: bool,
) -> None:
    world = World.of(plan, tiny_base_folder, router_folder, tmp_path)
    engine = world.engine(max_waiting=40, **options)
    assert engine.plan.name == plan
    if ahead:  # as on CUDA
        batch_of(engine).asks_ahead = True
    before = threading.active_count()
    tally = run(engine, world.serial, requests, seed=7, rate=rate, dies=True)
    assert tally.is_clean, tally.verdict
    assert tally.faults.total() >= 3
    assert tally.counts["answered: length"] > requests / 3
    assert threading.active_count() < before, "the worker's thread has ended"
