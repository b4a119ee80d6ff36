"""The thread that owns the model: its queue, its end, and what may not hold it up."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from PIL import Image

from pointsman.conversation import Prompt, make_prompt, user_turn
from pointsman.engine.engine import Engine
from pointsman.engine.request import Request
from pointsman.engine.stream import Stream
from pointsman.errors import EngineClosedError, QueueFullError, SampleError
from pointsman.models.prompt_encoder import PromptEncoder
from pointsman.routing.route import Route
from support.engines import MIXED, ask, batch_of, make_adapters_for, make_engine
from support.faults import InjectedFault, kill

MakeEngine = Callable[..., Engine]


@pytest.fixture(scope="module")
def narrow(make: MakeEngine) -> Iterator[Engine]:
    """One slot, and a queue for two."""
    with make(slots=1, max_waiting=2) as engine:
        yield engine


def fill(engine: Engine) -> list[Stream]:
    """One request at work and two that wait."""
    streams = [engine.submit(MIXED[0], adapter="calendar", max_new_tokens=1500)]
    streams[0].route(20)
    streams += [engine.submit(MIXED[1], adapter="calendar", max_new_tokens=2) for _ in range(2)]
    return streams


def end(streams: Sequence[Stream]) -> None:
    for stream in streams:
        stream.cancel()
    for stream in streams:
        stream.result(30)


def test_a_full_queue_refuses_and_takes_again(narrow: Engine) -> None:
    streams = fill(narrow)
    for _ in range(2):
        with pytest.raises(QueueFullError, match=r"3 requests are here, .* allow 3"):
            narrow.submit(MIXED[0])
    end(streams)
    assert narrow.submit(MIXED[0], max_new_tokens=2).result(30).completion_tokens


def test_a_burst_finds_the_free_slots(make: MakeEngine) -> None:
    """All of it comes before the first request has left the queue."""
    held = threading.Event()
    with make(slots=3, max_waiting=2) as engine:
        blocked = threading.Thread(target=engine._worker.own, args=(held.wait,))
        blocked.start()
        streams = [engine.submit(MIXED[0], max_new_tokens=1) for _ in range(5)]
        with pytest.raises(QueueFullError, match="5 requests are here"):
            engine.submit(MIXED[0], max_new_tokens=1)
        held.set()
        blocked.join()
        assert all(stream.result(30).completion_tokens for stream in streams)


def test_a_batch_may_be_larger_than_the_queue(narrow: Engine) -> None:
    """It waits for room, also behind a queue that others have filled."""
    prompts = [MIXED[index % 2] for index in range(9)]
    expected = [narrow.submit(p, max_new_tokens=3).result(30).text for p in prompts[:2]]
    streams = fill(narrow)
    stopper = threading.Timer(0.3, streams[0].cancel)
    stopper.start()
    answers = narrow.generate_batch(prompts, max_new_tokens=3)
    stopper.join()
    assert [answer.text for answer in answers] == [expected[index % 2] for index in range(9)]
    end(streams)


def test_only_some_of_a_large_batch_are_prepared_ahead(
    narrow: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[int] = []
    prepared = 0
    encode = PromptEncoder.encode

    def count(self: PromptEncoder, prompts: Sequence[Prompt], *rest: Any) -> Any:
        nonlocal prepared
        prepared += 1
        waiting.append(prepared - sum(request.feed.is_done for request in made))
        return encode(self, prompts, *rest)

    made: list[Request] = []
    request_of = narrow._request

    def remember(*arguments: Any) -> Request:
        made.append(request_of(*arguments))
        return made[-1]

    monkeypatch.setattr(PromptEncoder, "encode", count)
    monkeypatch.setattr(narrow, "_request", remember)
    narrow.generate_batch([MIXED[1]] * 20, adapter="base", max_new_tokens=1)
    assert prepared == 20
    assert max(waiting) <= 3
    assert all(request.encoded is None for request in made), "pictures are let go of"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("place", ["run", "rest", "_is_to_begin"])
def test_nothing_waits_for_a_thread_that_dies_between(
    make: MakeEngine, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Requests and calls that have left the queue and are not at work yet fail too."""
    engine = make(slots=2)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    owner: Any = engine._worker if place == "_is_to_begin" else engine._backend
    streams: list[Stream] = []
    monkeypatch.setattr(owner, place, die)
    failures: list[BaseException] = []

    def route() -> None:
        try:
            engine.route_batch([MIXED[0]])
        except BaseException as error:
            failures.append(error)

    if place == "rest":
        caller = threading.Thread(target=route)
        caller.start()
        caller.join(20)
        assert [type(error) for error in failures] == [KeyboardInterrupt]
    else:
        streams.append(engine.submit(MIXED[0]))
        with pytest.raises(KeyboardInterrupt):
            streams[0].result(20)
    engine._worker.thread.join(20)
    assert not engine._worker.thread.is_alive()
    for use in (lambda: engine.submit(MIXED[0]), lambda: engine.route_batch([MIXED[0]])):
        with pytest.raises(EngineClosedError):
            use()
    engine.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nothing_waits_for_a_device_that_is_dead(make: MakeEngine) -> None:
    """Prefills fail, and so does releasing a slot: requests taken together all end."""
    engine, gate = make(slots=8, kept=0), threading.Event()
    holder = threading.Thread(target=lambda: engine._worker.own(gate.wait))
    holder.start()
    streams = [engine.submit(ask("Go " * n, n), adapter="calendar") for n in range(1, 13)]
    kill(engine)
    gate.set()
    holder.join()
    for stream in streams:
        with pytest.raises((InjectedFault, EngineClosedError)):
            stream.result(20)
    engine._worker.thread.join(20)
    assert not engine._worker.thread.is_alive()
    engine.close()


def test_a_callback_that_leaves_the_process_leaves_the_engine(narrow: Engine) -> None:
    stream = narrow.submit(MIXED[0], adapter="calendar", max_new_tokens=1)
    stream.add_done_callback(lambda _: sys.exit(3))
    stream.result(20)
    assert narrow.generate_batch([MIXED[1]], max_new_tokens=1)


def test_a_waiting_request_that_is_cancelled_ends_at_once(narrow: Engine) -> None:
    streams = fill(narrow)
    ended = threading.Event()
    streams[2].add_done_callback(lambda _: ended.set())
    streams[2].cancel()
    assert ended.is_set(), "by the thread that cancels it"
    answer = streams[2].result(0)
    assert (answer.text, answer.finish_reason, answer.completion_tokens) == ("", "cancelled", 0)
    assert not streams[0].is_done
    streams.append(narrow.submit(MIXED[1], max_new_tokens=1))  # its place is free again
    streams[2].cancel()  # twice does no harm
    end(streams)


def test_a_request_that_is_cancelled_while_it_waits_for_a_row_ends(make: MakeEngine) -> None:
    with make(slots=3, resident=1) as engine:
        first = engine.submit(MIXED[0], adapter="calendar", max_new_tokens=1500)
        first.route(20)
        waiting = engine.submit(MIXED[0], adapter="claim-window", max_new_tokens=1500)
        engine.route_batch([MIXED[1]])  # it has been taken, and put back
        waiting.cancel()
        assert waiting.result(5).text == ""
        assert not first.is_done
        end([first])


def test_a_route_in_a_session_waits_for_what_came_before(make: MakeEngine) -> None:
    engine, order = make(slots=1), list[str]()
    decided = engine._sessions.decided

    def note(session: str | None, route: Route) -> None:
        if session is not None:
            order.append(f"{route.score:.3f}")
        decided(session, route)

    scores = [f"{engine.route_batch([MIXED[n]])[0].score:.3f}" for n in (1, 5)]
    text = MIXED[5].turns[0].text
    with patch.object(engine._sessions, "decided", note):
        busy = engine.submit(MIXED[0], adapter="calendar", max_new_tokens=1500)
        busy.route(20)
        first = engine.submit(MIXED[1], session="ordered", max_new_tokens=1)
        caller = threading.Thread(target=lambda: engine.route(None, text, session="ordered"))
        caller.start()
        while not engine._worker._turns:
            time.sleep(0.002)
        last = engine.submit(MIXED[1], session="ordered", max_new_tokens=1)
        assert engine.route(None, text, session="another"), "other sessions do not wait"
        assert not first.is_done
        end([busy])
        assert [first.result(20).route is not None, last.result(20).route is not None] == [True] * 2
        caller.join(20)
    engine.close()
    assert order == [scores[1], scores[0], scores[1], scores[0]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_is_refused_and_never_hangs(narrow: Engine) -> None:
    stream = narrow.submit(MIXED[0], adapter="calendar", max_new_tokens=1500)
    stream.route(20)
    uses: list[Callable[[], object]] = [
        lambda: narrow.submit(MIXED[0]),
        lambda: narrow.generate_batch([MIXED[0]]),
        lambda: narrow.route_batch([MIXED[0]]),
        lambda: narrow.add_adapter("calendar-2", "nowhere"),
        stream.result,
        stream.route,
        lambda: list(stream),
    ]
    child = os.fork()
    if child == 0:
        os._exit(_refused(uses[:3] + uses[4:], narrow))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    end([stream])
    assert narrow.generate_batch([MIXED[1]], max_new_tokens=1), "the parent's engine goes on"


def _refused(uses: Sequence[Callable[[], object]], engine: Engine) -> int:
    """Runs in the child: 0 if all is refused, else which one is not."""
    for number, use in enumerate(uses, 1):
        try:
            use()
            return number
        except EngineClosedError:
            pass
        except BaseException:
            return 100 + number
    engine.close()  # and this does not wait for a thread that is not here
    return 0


@pytest.fixture(scope="module", params=["two-pass", "in-pass", "activated", "peft"])
def planned(
    request: pytest.FixtureRequest,
    tiny_base_folder: Path,
    tiny_base: Any,
    router_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("planned")
    adapters = make_adapters_for(request.param, tiny_base, folder)
    with make_engine(tiny_base_folder, adapters, router_folder) as engine:
        assert engine.plan.name == request.param
        yield engine


def test_text_and_images_are_never_work_of_the_models_thread(
    planned: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    encode = PromptEncoder.encode

    def watched(self: PromptEncoder, *arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return encode(self, *arguments)

    monkeypatch.setattr(PromptEncoder, "encode", watched)
    planned.generate_batch(MIXED, max_new_tokens=2)
    planned.generate_batch(MIXED, adapter="calendar", max_new_tokens=2)
    planned.route_batch(MIXED)
    planned.route(MIXED[0].images[0], "Pick day 3", session="a")
    planned.submit(ask("Pick day 3", 1), session="a", max_new_tokens=2).result(30)
    assert threads
    assert planned._worker.thread.name == "pointsman-model"
    assert planned._worker.thread.name not in threads


def test_a_stream_goes_on_beside_a_huge_text_and_a_huge_picture(make: MakeEngine) -> None:
    """Its tokens come while others prepare for longer than a token takes."""
    huge = make_prompt(Image.new("RGB", (8000, 7000)), "Look")
    with make(slots=3) as engine:
        at_work = engine.submit(MIXED[0], adapter="calendar", max_new_tokens=1500)
        at_work.route(20)
        request = batch_of(engine).at_work[0]
        before = len(request.tokens)
        with pytest.raises(SampleError, match="context length of 2048"):
            engine.generate(None, "x" * 10_000_000)
        between = len(request.tokens)
        beside = engine.submit(huge, adapter="calendar", max_new_tokens=1)
        # The picture's tokens are more than the tiny base reads, or it is answered.
        assert beside.is_done or beside.route(60) is None
        assert len(request.tokens) > between > before, "the model went on meanwhile"
        end([at_work])


def test_a_text_of_megabytes_is_not_tokenised_whole(
    narrow: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = 0
    tokenizer = narrow.base.tokenizer
    call = type(tokenizer).__call__

    def counted(self: Any, text: str, *rest: Any, **options: Any) -> Any:
        nonlocal seen
        seen += len(text)
        return call(self, text, *rest, **options)

    monkeypatch.setattr(type(tokenizer), "__call__", counted)
    for text in ("x" * 10_000_000, "<|im_end|>" * 1_000_000, "é" * 5_000_000):
        seen = 0
        with pytest.raises(SampleError, match=r"more than \d+ tokens .* context length of 2048"):
            narrow.generate(None, text)
        assert seen < 100_000
    seen = 0
    long = Prompt((user_turn("<|im_end|>" * 300, 0),), ())
    with pytest.raises(SampleError, match="context length of 2048"):
        narrow.submit(long, max_new_tokens=1).result(30)


def test_a_request_that_is_prepared_late_keeps_its_place_in_its_session(make: MakeEngine) -> None:
    """Its session's next request, and a route of it, wait; others do not."""
    may_go, prepare = threading.Event(), PromptEncoder.encode

    def slow(self: PromptEncoder, prompts: Sequence[Prompt], *rest: Any) -> Any:
        if prompts[0] is late:
            may_go.wait(20)
        return prepare(self, prompts, *rest)

    late = ask("Pick day 4", 1)
    decided: list[str] = []
    with (
        patch("os.cpu_count", return_value=4),  # threads that prepare: this machine may have one
        make(slots=4) as engine,
        patch.object(PromptEncoder, "encode", slow),
    ):
        first = engine.submit(late, session="s", max_new_tokens=1)
        second = engine.submit(MIXED[0], session="s", max_new_tokens=1)
        for name, stream in (("first", first), ("second", second)):
            stream.add_done_callback(lambda _, name=name: decided.append(name))
        assert engine.submit(MIXED[0], max_new_tokens=1).result(20).completion_tokens
        assert decided == []
        may_go.set()
        first.result(20)
        second.result(20)
    assert decided == ["first", "second"]


def test_what_is_being_read_is_decided_before_the_router_is_replaced(make: MakeEngine) -> None:
    with make(slots=4) as engine:
        scheduler = batch_of(engine)
        running = engine.submit(MIXED[0], adapter="calendar", max_new_tokens=1500)
        running.route(20)
        begun, reading = threading.Event(), scheduler.forward.reading

        def slowed(*args: Any, **options: Any) -> Any:
            parts = reading(*args, **options)
            while True:
                try:
                    next(parts)
                except StopIteration as end:
                    return end.value
                begun.set()
                time.sleep(0.05)
                yield

        with patch.object(scheduler.forward, "reading", slowed):
            stream = engine.submit(ask("Pick day 4", 1), max_new_tokens=1)
            assert begun.wait(20)
            assert stream.decision is None
            engine.replace_router(engine.router)
            assert stream.decision is not None
        end([running, stream])


def test_a_running_answer_goes_on_while_prompts_are_read(make: MakeEngine) -> None:
    """Between two parts of a reading there are steps."""
    with make(slots=8) as engine:
        running = engine.submit(MIXED[0], adapter="calendar", max_new_tokens=1500)
        running.route(20)
        scheduler = batch_of(engine)
        seen: list[int] = []
        reading = scheduler.forward.reading

        def watched(*args: Any, **options: Any) -> Any:
            seen.append(running.completion_tokens)
            logits = yield from slowed(reading(*args, **options))
            seen.append(running.completion_tokens)
            return logits

        def slowed(parts: Any) -> Any:
            while True:
                try:
                    next(parts)
                except StopIteration as end:
                    return end.value
                time.sleep(0.05)  # as the layers of a large model
                yield

        prompts = [ask(f"Pick {n}", n) for n in range(4)]
        with patch.object(scheduler.forward, "reading", watched):
            others = engine.generate_batch(prompts, adapter="calendar", max_new_tokens=8)
        assert others == engine.generate_batch(prompts, adapter="calendar", max_new_tokens=8)
        assert len(others) == 4
        assert all(after > before + 1 for before, after in zip(seen[::2], seen[1::2], strict=True))
        end([running])
