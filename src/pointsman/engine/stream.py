"""Streams: the answer to one request as it comes."""

import queue
from collections.abc import Iterator
from threading import Event

from pointsman.engine.answer import Answer
from pointsman.routing.route import Route


class Stream:
    """One answer: iterate over it for its text, piece by piece, or wait for ``result``.

    Both raise what went wrong while the request was answered.
    """

    def __init__(self) -> None:
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._routed, self._done = Event(), Event()
        self._route: Route | None = None
        self._answer: Answer | None = None
        self._error: BaseException | None = None
        self.is_cancelled = False

    def __iter__(self) -> Iterator[str]:
        while (piece := self._pieces.get()) is not None:
            yield piece
        self._pieces.put(None)  # who iterates again, or beside, ends too
        self._raise()

    def route(self, timeout: float | None = None) -> Route | None:
        """The decision, once it is made; None where the caller named the adapter.

        Raises:
            TimeoutError: none came within so many seconds.
        """
        if not self._routed.wait(timeout):
            raise TimeoutError(f"no route within {timeout} s")
        self._raise()
        return self._route

    def result(self, timeout: float | None = None) -> Answer:
        """The whole answer. Raises ``TimeoutError`` if it takes longer than so many seconds."""
        if not self._done.wait(timeout):
            raise TimeoutError(f"no answer within {timeout} s")
        self._raise()
        assert self._answer is not None
        return self._answer

    def cancel(self) -> None:
        """Ends the answer after the token at work; what was said so far is its result."""
        self.is_cancelled = True

    def decided(self, route: Route | None) -> None:
        self._route = route
        self._routed.set()

    def said(self, piece: str) -> None:
        self._pieces.put(piece)

    def finished(self, answer: Answer) -> None:
        self._answer = answer
        self._end()

    def failed(self, error: BaseException) -> None:
        if not self._done.is_set():  # a whole answer stays one
            self._error = error
            self._end()

    def _end(self) -> None:
        self._done.set()
        self._routed.set()
        self._pieces.put(None)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
