import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers.decoders import DecodeStream

from pointsman.adapters.peft import load_base_with_loras
from pointsman.conversation import Prompt, user_turn
from pointsman.engine.answer import Answer
from pointsman.engine.engine import Engine
from pointsman.engine.request import Request
from pointsman.engine.sampling import Sampling
from pointsman.engine.stream import Feed, Stream
from pointsman.errors import EngineClosedError, LabelError, RequestError, SampleError
from support.engines import MIXED, ask, batch_of, make_adapters, make_engine, peft_text
from support.tiny import ADAPTERS

LONG = Prompt((user_turn("long " * 500, 0),), ())
"""More tokens than the base reads"""
ODD = Prompt((user_turn("Two places", 2),), ask("", 1).images)
"""Fewer images than places"""


@pytest.fixture(scope="module")
def by_peft(
    tiny_base_folder: Path, tiny_router: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """An engine of plan peft."""
    folder = tmp_path_factory.mktemp("dora")
    adapters = make_adapters(tiny_base_folder, folder, {"use_dora": True}, {}, {})
    with make_engine(tiny_base_folder, adapters, tiny_router) as engine:
        assert engine.plan.name == "peft"
        yield engine


@pytest.fixture(params=["stacked", "peft"])
def either(request: pytest.FixtureRequest) -> Engine:
    name = {"stacked": "engine", "peft": "by_peft"}[request.param]
    found: Engine = request.getfixturevalue(name)
    return found


def test_pieces_are_the_answer(either: Engine) -> None:
    for prompt in MIXED:
        stream = either.submit(prompt, max_new_tokens=30)
        pieces = list(stream)
        answer = stream.result(0)
        assert "".join(pieces).strip() == answer.text
        assert answer.route == stream.route(0)
        assert answer.adapter == answer.route.adapter
        assert all(pieces), "no piece is empty"


def test_pieces_come_one_by_one_and_the_route_before_them(engine: Engine) -> None:
    stream = engine.submit(MIXED[0], max_new_tokens=300)
    route = stream.route(20)
    assert route is not None
    assert not stream.is_done, "the route is there before the answer"
    pieces = iter(stream)
    next(pieces)
    assert not stream.is_done
    rest = list(pieces)
    assert len(rest) > 10
    assert stream.result().route == route


def test_who_names_the_adapter_gets_no_route(either: Engine) -> None:
    stream = either.submit(MIXED[0], adapter="calendar", max_new_tokens=3)
    assert stream.route(20) is None
    assert stream.result().route is None
    base = either.submit(MIXED[0], adapter="base", max_new_tokens=3)
    assert base.route(20) is None
    assert base.result().adapter is None


def test_a_stream_ends_for_everybody_who_reads_it(engine: Engine) -> None:
    stream = engine.submit(MIXED[0], max_new_tokens=8)
    text = "".join(stream)
    assert list(stream) == []
    assert text.strip() == stream.result().text
    fails = engine.submit(LONG)
    for _ in range(2):
        with pytest.raises(SampleError, match="context length"):
            list(fails)


def test_no_half_of_a_character(engine: Engine) -> None:
    """Bytes of é, € and an emoji come one by one, each a token of its own."""
    tokenizer = engine.base.tokenizer
    request = Request(MIXED[0], None, False, 9, Sampling())
    decoder = DecodeStream(skip_special_tokens=True)
    tokens = tokenizer("aé€🙂b", add_special_tokens=False)["input_ids"]
    assert len(tokens) == len("aé€🙂b".encode())
    half = tokenizer("é", add_special_tokens=False)["input_ids"][:1]
    for token in (*tokens, *half):
        request.say(decoder.step(tokenizer.backend_tokenizer, token))
        request.pass_on()
    # What is never completed is said at the end.
    request.finish(engine.base.decode(torch.tensor([*tokens, *half])), "stop")
    assert list(Stream(request.feed)) == ["a", "é", "€", "🙂", "b", "\ufffd"]


def test_pieces_of_random_bytes_hold_no_half_characters(engine: Engine) -> None:
    """Drawn hot, the tiny base says any bytes: what was shown is never taken back."""
    for seed in range(6):
        hot = Sampling(temperature=5.0, seed=seed)
        stream = engine.submit(MIXED[1], adapter="calendar", max_new_tokens=60, sampling=hot)
        assert "".join(stream).strip() == stream.result().text


def test_a_cancelled_answer_ends_early(engine: Engine) -> None:
    whole = engine.submit(MIXED[0], adapter="calendar", max_new_tokens=150).result(20).text
    stream = engine.submit(MIXED[0], adapter="calendar", max_new_tokens=1500)
    beside = engine.submit(MIXED[0], adapter="calendar", max_new_tokens=150)
    next(iter(stream))
    stream.cancel()
    said = stream.result(5).text
    assert 0 < len(said) < 1400
    assert whole[: len(said) - 1] == said[:-1][: len(whole)]
    assert beside.result(20).text == whole


def test_who_cancels_while_waiting_is_never_answered(engine: Engine) -> None:
    at_work = [engine.submit(MIXED[0], max_new_tokens=60) for _ in range(3)]
    waiting = engine.submit(MIXED[0], max_new_tokens=60)
    waiting.cancel()
    assert waiting.result(20).text == ""
    assert waiting.route(0) is None
    assert list(waiting) == []
    assert all(stream.result(20).text for stream in at_work)


def test_peft_answers_nobody_who_has_cancelled(by_peft: Engine) -> None:
    at_work = by_peft.submit(MIXED[0], adapter="claim-window", max_new_tokens=60)
    waiting = by_peft.submit(MIXED[0], adapter="claim-window", max_new_tokens=61)
    waiting.cancel()
    assert at_work.result(20).text
    assert waiting.result(20).text == ""


def test_waiting_has_an_end(engine: Engine) -> None:
    at_work = [engine.submit(MIXED[0], max_new_tokens=200) for _ in range(3)]
    stream = engine.submit(MIXED[0], max_new_tokens=2)
    with pytest.raises(TimeoutError, match=r"no route within 0\.01 s"):
        stream.route(0.01)
    with pytest.raises(TimeoutError, match=r"no answer within 0\.01 s"):
        stream.result(0.01)
    assert stream.result(30).text  # who gave up waiting may come back
    for other in at_work:
        other.result(30)


def test_an_error_is_its_own_requests(either: Engine) -> None:
    """Of a batch with two bad prompts the good ones are answered as ever."""
    expected = either.submit(MIXED[0], adapter="claim-window", max_new_tokens=12).result(20).text
    streams = [
        either.submit(prompt, adapter="claim-window", max_new_tokens=12)
        for prompt in (MIXED[0], LONG, MIXED[0], ODD, MIXED[0])
    ]
    for index, message in ((1, "context length of 2048"), (3, "1 images for 2 places")):
        for wait in (streams[index].result, streams[index].route, lambda i=index: list(streams[i])):
            with pytest.raises(SampleError, match=message):
                wait()
    for index in (0, 2, 4):
        assert streams[index].result(20).text == expected
    assert either._worker.thread.is_alive()


def test_a_prompt_that_just_fits_gets_what_room_there_is(
    engine: Engine, tiny_base_folder: Path, tiny_adapters: dict[str, str]
) -> None:
    rest = 2048 - engine.base.encode([ask("")])["input_ids"].shape[1]
    full = ask("x" * rest)
    almost = ask("x" * (rest - 5))
    assert len(engine.submit(full, adapter="base", max_new_tokens=9).result(30).text) <= 1
    reference = load_base_with_loras(str(tiny_base_folder), tiny_adapters)
    said = engine.submit(almost, adapter="calendar", max_new_tokens=50).result(30).text
    assert said == peft_text(reference, almost, "calendar", 5)


def test_what_is_asked_wrongly_is_refused_at_once(engine: Engine, by_peft: Engine) -> None:
    with pytest.raises(LabelError, match="nobody"):
        engine.submit(MIXED[0], adapter="nobody")
    for most in (0, -3, 2.5, True, "9", float("nan")):
        with pytest.raises(RequestError, match=f"max_new_tokens is {most!r}; give a whole number"):
            engine.submit(MIXED[0], max_new_tokens=most)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="answers greedily"):
        by_peft.submit(MIXED[0], sampling=Sampling(temperature=1))
    for option in ({"stop": ("a",)}, {"min_tokens": 2}, {"ignore_eos": True}, {"logprobs": 0}):
        [name] = option
        with pytest.raises(RequestError, match=f"answers greedily; leave {name} out"):
            by_peft.submit(MIXED[0], sampling=Sampling(**option))  # type: ignore[arg-type]


def test_closing_lets_queued_requests_finish(
    tiny_base_folder: Path, tiny_adapters: dict[str, str], tiny_router: Path
) -> None:
    engine = make_engine(tiny_base_folder, tiny_adapters, tiny_router, slots=2)
    streams = [engine.submit(prompt, max_new_tokens=8) for prompt in MIXED]
    engine.close()
    assert all(stream.result(0).route is not None for stream in streams)
    assert not engine._worker.thread.is_alive()
    engine.close()  # twice does no harm
    for use in (
        lambda: engine.submit(MIXED[0]),
        lambda: engine.generate_batch([MIXED[0]]),
        lambda: engine.route_batch([MIXED[0]]),
    ):
        with pytest.raises(EngineClosedError, match="closed"):
            use()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_thread_that_has_died(
    tiny_base_folder: Path, tiny_adapters: dict[str, str], tiny_router: Path
) -> None:
    """A broken device fails whatever is asked of it, even giving a slot back."""
    engine = make_engine(tiny_base_folder, tiny_adapters, tiny_router, slots=1)
    streams = [engine.submit(MIXED[0], max_new_tokens=2000) for _ in range(2)]
    streams[0].route(20)
    del batch_of(engine).forward.active
    for stream in streams:
        with pytest.raises(AttributeError):
            stream.result(20)
    engine._worker.thread.join(5)
    with pytest.raises(EngineClosedError, match="closed"):
        engine.submit(MIXED[0])


def test_many_callers_stream_at_once(
    engine: Engine, tiny_base_folder: Path, tiny_adapters: dict[str, str]
) -> None:
    reference = load_base_with_loras(str(tiny_base_folder), tiny_adapters)
    names = (*ADAPTERS, None)
    wrong: list[str] = []

    def caller(index: int) -> None:
        prompt, name = MIXED[index % 3], names[index % 4]
        stream = engine.submit(prompt, adapter=name or "base", max_new_tokens=12)
        if index % 5 == 4:
            time.sleep(0.005)
            stream.cancel()
            stream.result(30)
        elif "".join(stream).strip() != expected[index % 3, name]:
            wrong.append(f"{index}")

    expected = {
        (at, name): peft_text(reference, MIXED[at], name, 12) for at in range(3) for name in names
    }
    threads = [threading.Thread(target=caller, args=(index,)) for index in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_whole_answer_stays_one() -> None:
    feed = Feed()
    answer = Answer("done", None, (), None, None, None, "stop", 3, 1)
    feed.finish(answer)
    feed.fail(RuntimeError("of a neighbour"))
    assert Stream(feed).result() is answer
