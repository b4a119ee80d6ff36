"""Streams in an event loop, and callbacks at their end."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from pointsman.conversation import Prompt, user_turn
from pointsman.engine.answer import Answer
from pointsman.engine.engine import Engine
from pointsman.engine.stream import Feed, Stream
from pointsman.errors import SampleError
from support.engines import MIXED

LONG = Prompt((user_turn("long " * 500, 0),), ())
DONE = Answer("done", None, (), None, None, None, "stop", 3, 1)


def test_a_coroutine_reads_what_a_thread_reads(engine: Engine) -> None:
    async def read(prompt: Prompt) -> tuple[str, Answer]:
        stream = engine.submit(prompt, max_new_tokens=40)
        assert await stream.async_route() == stream.route(0)
        text = "".join([piece async for piece in stream])
        assert [piece async for piece in stream] == [], "every piece is given once"
        return text, await stream

    async def all_at_once() -> list[tuple[str, Answer]]:
        return await asyncio.gather(*map(read, MIXED))

    found = asyncio.run(all_at_once())
    for prompt, (text, answer) in zip(MIXED, found, strict=True):
        assert text.strip() == answer.text
        assert answer.text == engine.submit(prompt, max_new_tokens=40).result(20).text


def test_the_loop_runs_while_a_coroutine_waits() -> None:
    """Nothing is polled: the loop wakes it, once for each piece."""
    feed = Feed()
    stream = Stream(feed)
    order: list[str] = []

    async def read() -> None:
        async for piece in stream:
            await asyncio.sleep(0)
            order.append(piece)

    async def main() -> None:
        reader = asyncio.create_task(read())
        for number in range(3):
            await asyncio.sleep(0)
            order.append(f"loop {number}")
            writer = threading.Thread(target=feed.say, args=(f"piece {number}",))
            writer.start()
            while f"piece {number}" not in order:
                await asyncio.sleep(0.001)
        feed.finish(DONE)
        await reader
        assert await stream is DONE
        assert await asyncio.wait_for(stream, 5) is DONE

    asyncio.run(main())
    assert order == [f"{what} {number}" for number in range(3) for what in ("loop", "piece")]


def test_errors_reach_a_coroutine(engine: Engine) -> None:
    async def main() -> None:
        stream = engine.submit(LONG)
        for read in (lambda: stream, stream.async_route, lambda: anext(aiter(stream))):
            with pytest.raises(SampleError, match="context length"):
                await read()  # type: ignore[operator]

    asyncio.run(main())


def test_a_coroutine_that_gives_up_leaves_the_stream_as_it_is() -> None:
    feed = Feed()
    stream = Stream(feed)

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream, 0.01)
        feed.say("a")
        feed.finish(DONE)
        assert [piece async for piece in stream] == ["a"]

    asyncio.run(main())


def test_a_loop_that_is_gone_does_no_harm() -> None:
    feed = Feed()
    loop = asyncio.new_event_loop()

    async def wait() -> None:
        await Stream(feed)

    task = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    feed.finish(DONE)
    assert Stream(feed).result(0) is DONE


@pytest.mark.parametrize("finish", [lambda f: f.finish(DONE), lambda f: f.fail(OSError("no"))])
def test_callbacks_at_the_end_and_after_it(finish: Callable[[Feed], None]) -> None:
    feed = Feed()
    stream = Stream(feed)
    called: list[Stream] = []
    stream.add_done_callback(called.append)
    feed.say("a")
    assert called == []
    finish(feed)
    assert called == [stream]
    assert stream.is_done
    stream.add_done_callback(called.append)
    assert called == [stream, stream]
    feed.fail(RuntimeError("of a neighbour"))
    assert len(called) == 2


def test_the_answer_comes_after_the_callbacks() -> None:
    """What a callback counts or frees is counted or free for whoever has the answer."""
    feed = Feed()
    stream = Stream(feed)
    seen: list[bool] = []
    begun, freed = threading.Event(), threading.Event()

    def frees(done: Stream) -> None:
        begun.set()
        time.sleep(0.2)
        assert done.result(0) is DONE  # the callback itself has it at once
        freed.set()

    async def reads() -> None:
        _ = [piece async for piece in stream]
        seen.append(freed.is_set())

    def comes_late() -> None:
        begun.wait(20)
        stream.result(20)
        seen.append(freed.is_set())

    stream.add_done_callback(frees)
    readers = [threading.Thread(target=work) for work in (lambda: asyncio.run(reads()), comes_late)]
    for reader in readers:
        reader.start()
    feed.finish(DONE, "end")
    for reader in readers:
        reader.join(20)
    assert seen == [True, True]


def test_a_callback_that_raises_harms_nothing(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(_: Stream) -> None:
        raise ValueError("of the caller")

    done = threading.Event()
    stream = engine.submit(MIXED[0], adapter="calendar", max_new_tokens=60)
    stream.add_done_callback(raises)
    stream.add_done_callback(lambda _: done.set())
    assert stream.result(20).text
    assert done.wait(20)
    assert "a callback of a stream failed" in caplog.text
    assert engine.submit(MIXED[0], max_new_tokens=2).result(20)
