import numpy as np
import pytest

from pointsman.engine.engine import Engine
from pointsman.errors import LabelError
from pointsman.evaluation.latency import _marked, time_requests
from support.engines import ask, counted
from support.tiny import ADAPTERS

PROMPTS = [ask("Pick day 3", 1), ask("Pick day 4", 1), ask("Fill in field 5", 2)]


def test_everyone_is_asked_about_everything(tiny_engine: Engine) -> None:
    done: list[int] = []
    calendar, base = [ADAPTERS[0]] * 3, [None] * 3
    seconds = time_requests(
        tiny_engine,
        PROMPTS,
        {"routed": calendar, "oracle": calendar, "base": base},
        2,
        lambda: done.append(1),
    )
    assert list(seconds) == ["routed", "oracle", "base"]
    assert all(len(times) == 3 and min(times) > 0 for times in seconds.values())
    assert len(done) == 9


def test_nothing_is_remembered_of_another_ask(tiny_engine: Engine) -> None:
    tiny_engine.generate_batch(PROMPTS, adapter=["base"] * 3, max_new_tokens=2)
    with counted(tiny_engine) as (layers, tower):
        time_requests(tiny_engine, PROMPTS, {"oracle": [None] * 3, "base": [None] * 3}, 2)
    # Two at first, then two for each of three prompts: whole prompts, images and all.
    assert len(tower) == 8
    prompts = [tokens for layer, tokens in layers if layer == 0 and tokens > 1]
    assert len(prompts) == 8
    assert min(prompts) > 16


def test_a_mark_is_a_pixel_of_its_own() -> None:
    prompt = PROMPTS[0]
    before = np.asarray(prompt.images[0])
    shown = set()
    for mark in range(1, 400):
        after = np.asarray(_marked(prompt, mark).images[0])
        assert (after[1:] == before[1:]).all()
        assert (after[0, 1:] == before[0, 1:]).all()
        shown.add(tuple(after[0, 0].tolist()))
    assert len(shown) == 399
    assert tuple(before[0, 0].tolist()) not in shown
    assert (np.asarray(prompt.images[0]) == before).all()
    assert _marked(ask("Hello"), 3).images == ()


def test_who_is_not_there_is_named(tiny_engine: Engine) -> None:
    with pytest.raises(LabelError, match="'gone'"):
        time_requests(tiny_engine, PROMPTS, {"oracle": ["gone"] * 3}, 2)
