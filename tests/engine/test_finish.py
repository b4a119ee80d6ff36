"""Why an answer ended, and how many tokens it has."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from pointsman.engine.engine import Engine
from pointsman.engine.sampling import Sampling
from pointsman.models.base import Base
from support.engines import MIXED, batch_of, make_adapters_for, make_engine


@pytest.fixture(scope="module", params=["two-pass", "two-pass ahead", "peft"])
def engine(
    request: pytest.FixtureRequest,
    tiny_base_folder: Path,
    tiny_base: object,
    router_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Engine]:
    plan = request.param.removesuffix(" ahead")
    adapters = make_adapters_for(plan, tiny_base, tmp_path_factory.mktemp("finish"))  # type: ignore[arg-type]
    with make_engine(tiny_base_folder, adapters, router_folder, slots=2) as engine:
        assert engine.plan.name == plan
        if plan != request.param:  # as on CUDA
            batch_of(engine).asks_ahead = True
        yield engine


def test_a_limit_cuts_an_answer_off(engine: Engine) -> None:
    for prompt in MIXED:
        [answer] = engine.generate_batch([prompt], adapter="calendar", max_new_tokens=4)
        assert (answer.finish_reason, answer.completion_tokens) == ("length", 4)
        assert answer.prompt_tokens == engine.base.encode([prompt])["input_ids"].shape[1]


def test_lengths_are_each_requests_own(engine: Engine) -> None:
    together = engine.generate_batch(MIXED, max_new_tokens=3)
    for prompt, answer in zip(MIXED, together, strict=True):
        assert answer.prompt_tokens == engine.base.encode([prompt])["input_ids"].shape[1]


def test_who_begins_during_a_step_misses_no_token(engine: Engine) -> None:
    """A step that was asked for before a prompt was read has no token of its answer."""
    sampling = Sampling(ignore_eos=engine.plan.name != "peft")
    for tokens in (2, 3):
        options: Any = {"adapter": "calendar", "max_new_tokens": tokens, "sampling": sampling}
        alone = [engine.generate_batch([prompt], **options)[0].text for prompt in MIXED]
        longer = engine.submit(MIXED[0], adapter="base", max_new_tokens=120, sampling=sampling)
        beside = [engine.submit(prompt, **options).result(60).text for prompt in MIXED]
        assert beside == alone
        longer.cancel()
        longer.result(60)


def test_a_token_that_ends_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[list[int]] = []
    decode = Base.decode

    def watched(self: Base, tokens: Tensor) -> str:
        said.append(tokens.tolist())
        return decode(self, tokens)

    monkeypatch.setattr(Base, "decode", watched)
    [whole] = engine.generate_batch([MIXED[0]], adapter="base", max_new_tokens=6)
    [tokens] = said
    end = next(token for token in tokens[1:] if token != tokens[0])
    if engine.plan.name == "peft":
        settings = engine.base.model.get_base_model().generation_config
        monkeypatch.setattr(settings, "eos_token_id", end)
    else:
        monkeypatch.setattr(batch_of(engine), "_ends", frozenset([end]))
    [answer] = engine.generate_batch([MIXED[0]], adapter="base", max_new_tokens=60)
    assert answer.finish_reason == "stop"
    assert answer.completion_tokens == tokens.index(end) + 1
    assert said[-1] == tokens[: tokens.index(end) + 1]
    assert whole.finish_reason == "length"


def test_cancelled_at_work_and_in_the_queue(engine: Engine) -> None:
    options = {"adapter": "calendar", "max_new_tokens": 150}
    at_work = [engine.submit(MIXED[0], **options) for _ in range(2)]  # type: ignore[arg-type]
    waiting = engine.submit(MIXED[0], **options)  # type: ignore[arg-type]
    waiting.cancel()
    answer = waiting.result(60)
    assert answer.finish_reason == "cancelled"
    assert answer.completion_tokens < 150
    assert all(stream.result(60).finish_reason == "length" for stream in at_work)


def test_cancelled_in_the_middle(engine: Engine) -> None:
    if engine.plan.name == "peft":
        pytest.skip("PEFT generates an answer whole")
    stream = engine.submit(MIXED[0], adapter="calendar", max_new_tokens=1500)
    next(iter(stream))
    stream.cancel()
    answer = stream.result(20)
    assert answer.finish_reason == "cancelled"
    assert 0 < answer.completion_tokens < 1500
