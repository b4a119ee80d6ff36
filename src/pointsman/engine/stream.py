"""Streams: the answer to one request as it is generated.

The engine writes to a ``Feed``. The caller reads it through a ``Stream``, from any thread or from
an event loop, which is woken up and never polls.
"""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Condition, get_ident
from typing import Any

from pointsman.engine.answer import Answer
from pointsman.engine.logprobs import TokenLogprob
from pointsman.errors import EngineClosedError
from pointsman.routing.route import Route

_log = logging.getLogger("pointsman.engine")


@dataclass
class Times:
    """When what happened to a request, in nanoseconds since 1970; 0: it has not."""

    queued: int = 0
    taken: int = 0
    """From the queue, to be read"""
    decided: int = 0
    """By the router"""
    said: int = 0
    """The first piece of text"""
    done: int = 0


class Feed:
    """The state of one answer so far."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.pieces: deque[tuple[str, int]] = deque()
        """Text generated but not yet read, and the number of tokens up to its end"""
        self.tokens_read = 0
        """Tokens of the text that was read"""
        self.logprobs: list[TokenLogprob] = []
        """One entry for each token, if asked for; written before the token's text"""
        self.prompt_tokens = self.completion_tokens = 0
        self.route: Route | None = None
        self.times = Times()
        self.is_routed = self.is_done = self.is_cancelled = False
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.on_cancel: Callable[[], None] | None = None
        """Called at once by whatever cancels the answer, until the end"""
        self._pid = os.getpid()
        self._waiters: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        """Conditions, and what is called once when they hold"""
        self._callbacks: list[Callable[[], None]] = []
        """Called once, at the end"""
        self._calling: int | None = None
        """The thread that calls them: the others see the end only when it is through, so what
        callbacks free or count is freed and counted for whoever has the answer"""

    def decide(self, route: Route | None) -> None:
        """Sets the router's decision; None if the caller named an adapter."""
        self.route = route
        self.times.decided = 0 if route is None else time.time_ns()
        self._change(is_routed=True)

    def say(self, piece: str) -> None:
        """Adds the next piece of text."""
        self._change(piece)

    def finish(self, answer: Answer, piece: str = "") -> None:
        """Ends the stream with the complete answer and the last piece of its text: who reads the
        piece sees that it is the last."""
        self.answer = answer
        self._change(piece, is_routed=True, is_done=True)

    def fail(self, error: BaseException) -> None:
        """Ends the stream with an error; a complete answer is kept."""
        if not self.is_done:
            self.error = error
            self._change(is_routed=True, is_done=True)

    def cancel(self) -> None:
        """Ends the answer: at once if it has not begun, else after the current token."""
        self.is_cancelled = True
        on_cancel = self.on_cancel
        if on_cancel is not None and os.getpid() == self._pid:
            on_cancel()

    def wait(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """Blocks until a condition holds; False if it does not within the timeout.

        Raises:
            EngineClosedError: in a child process, where no engine will ever write.
        """
        if os.getpid() != self._pid:
            raise EngineClosedError(
                "the answer belongs to the engine of a parent process; make an engine here"
            )
        with self.changed:
            return self.changed.wait_for(lambda: self._holds(condition), timeout)

    def call_when(self, condition: Callable[[], bool], waiter: Callable[[], None]) -> bool:
        """Calls ``waiter`` once when a condition holds; False, without a call, if it does already.

        Each call interrupts the model's thread, so none is made for a change that nobody waits for.
        """
        with self.changed:
            if self._holds(condition):
                return False
            self._waiters.append((condition, waiter))
            return True

    def call_when_done(self, callback: Callable[[], None]) -> None:
        """Calls ``callback`` at the end, or at once if the stream has ended."""
        with self.changed:
            if not self.is_done:
                self._callbacks.append(callback)
                return
        _call(callback)

    def read_all(self) -> None:
        """All text was read. Raises the error of an answer that failed."""
        self.tokens_read = self.completion_tokens
        self.raise_error()

    def raise_error(self) -> None:
        if self.error is not None:
            raise self.error

    def _holds(self, condition: Callable[[], bool]) -> bool:
        return self._calling in (None, get_ident()) and condition()

    def _change(self, piece: str = "", is_routed: bool = False, is_done: bool = False) -> None:
        with self.changed:
            if piece:
                self.times.said = self.times.said or time.time_ns()
                self.pieces.append((piece, self.completion_tokens))
            self.is_routed |= is_routed
            self.is_done |= is_done
            callbacks: list[Callable[[], None]] = []
            if is_done:
                self.times.done = time.time_ns()
                self.on_cancel = None
                callbacks, self._callbacks = self._callbacks, []
                self._calling = get_ident()
        for callback in callbacks:
            _call(callback)
        with self.changed:
            if is_done:
                self._calling = None
            due = [waiter for condition, waiter in self._waiters if self._holds(condition)]
            if due:
                self._waiters = [each for each in self._waiters if each[1] not in due]
            self.changed.notify_all()
        for waiter in due:
            _call(waiter)


class Stream:
    """One answer: iterate over its text, piece by piece, or wait for ``result``.

    In a coroutine, ``async for piece in stream`` and ``await stream`` do the same. All of them
    raise the request's error. Each piece is yielded once, even with several readers.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def __iter__(self) -> Iterator[str]:
        while True:
            self._feed.wait(self._has_news)
            try:
                piece, self._feed.tokens_read = self._feed.pieces.popleft()
                yield piece
            except IndexError:
                if self._feed.is_done and not self._feed.pieces:
                    break
        self._feed.read_all()

    async def __aiter__(self) -> AsyncIterator[str]:
        while True:
            await self._wait(self._has_news)
            try:
                piece, self._feed.tokens_read = self._feed.pieces.popleft()
                yield piece
            except IndexError:
                if self._feed.is_done and not self._feed.pieces:
                    break
        self._feed.read_all()

    def __await__(self) -> Generator[Any, None, Answer]:
        """The complete answer."""
        yield from self._wait(lambda: self._feed.is_done).__await__()
        return self._answer()

    def route(self, timeout: float | None = None) -> Route | None:
        """Waits for the decision; None if the caller named an adapter.

        Raises:
            TimeoutError: there was no decision within ``timeout`` seconds.
        """
        if not self._feed.wait(lambda: self._feed.is_routed, timeout):
            raise TimeoutError(f"no route within {timeout} s")
        self._feed.raise_error()
        return self._feed.route

    async def async_route(self) -> Route | None:
        """Waits for the decision without blocking the event loop."""
        await self._wait(lambda: self._feed.is_routed)
        self._feed.raise_error()
        return self._feed.route

    def result(self, timeout: float | None = None) -> Answer:
        """Waits for the answer. Raises ``TimeoutError`` after ``timeout`` seconds."""
        if not self._feed.wait(lambda: self._feed.is_done, timeout):
            raise TimeoutError(f"no answer within {timeout} s")
        return self._answer()

    @property
    def logprobs(self) -> Sequence[TokenLogprob]:
        """Entries of the tokens so far, if ``Sampling`` asks for them; it grows.

        A token's entry is there before its text is. A stop string's tokens have entries too.
        """
        return self._feed.logprobs

    @property
    def times(self) -> Times:
        return self._feed.times

    @property
    def decision(self) -> Route | None:
        """The decision, if there is one yet; see ``route``, which waits for it."""
        return self._feed.route

    @property
    def error(self) -> BaseException | None:
        """What ended it, if it failed."""
        return self._feed.error

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, including those of its images."""
        return self._feed.prompt_tokens

    @property
    def completion_tokens(self) -> int:
        """Tokens of the answer so far. A token is counted before its text is there."""
        return self._feed.completion_tokens

    @property
    def tokens_read(self) -> int:
        """Tokens of the text that was read so far; of the whole answer when all of it was."""
        return self._feed.tokens_read

    @property
    def is_done(self) -> bool:
        """Whether the answer is complete or has failed."""
        return self._feed.is_done

    @property
    def is_cancelled(self) -> bool:
        return self._feed.is_cancelled

    def cancel(self) -> None:
        """Ends the answer after the current token; the text so far is its result.

        A request that waits ends at once, with an empty text.
        """
        self._feed.cancel()

    def add_done_callback(self, callback: Callable[["Stream"], None]) -> None:
        """Calls ``callback(stream)`` when the answer is complete or has failed.

        It runs on the engine's thread, on the thread that cancels a waiting request, or at once if
        the stream has ended. Whoever waits for the answer gets it after that. It must be short and
        must not wait for the engine. An exception that it raises is logged.
        """
        self._feed.call_when_done(lambda: callback(self))

    def _has_news(self) -> bool:
        return bool(self._feed.pieces) or self._feed.is_done

    def _answer(self) -> Answer:
        self._feed.raise_error()
        assert self._feed.answer is not None
        return self._feed.answer

    async def _wait(self, condition: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            woken = asyncio.Event()
            if not self._feed.call_when(
                condition,
                lambda woken=woken: _wake(loop, woken),  # type: ignore[misc]
            ):
                return
            await woken.wait()


def _wake(loop: asyncio.AbstractEventLoop, woken: asyncio.Event) -> None:
    with suppress(RuntimeError):  # a closed loop has no reader to wake
        loop.call_soon_threadsafe(woken.set)


def _call(callback: Callable[[], None]) -> None:
    """Calls what a caller gave: its errors are not the engine's."""
    try:
        callback()
    except BaseException:
        _log.exception("a callback of a stream failed")
