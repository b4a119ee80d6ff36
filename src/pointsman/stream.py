"""Streams: the answer to one request as it comes, and the request that it answers."""

import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event

from pointsman.answer import Answer
from pointsman.base import Encoded, Prompt
from pointsman.router import Route
from pointsman.sampling import Sampler, Sampling

_INCOMPLETE = "\ufffd"
"""What a decoder makes of a character whose last bytes are still to come."""


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


@dataclass(eq=False)
class Request:
    """A prompt on its way through the engine."""

    prompt: Prompt
    adapter: str | None
    """Who is to answer (None: the base); not looked at if ``routed``"""
    routed: bool
    max_new_tokens: int
    sampling: Sampling
    session: str | None = None
    """Whose adapter it keeps, if it is routed"""
    stream: Stream = field(default_factory=Stream)
    route: Route | None = None
    slot: int = -1
    row: int | None = None
    """Of the stack, kept until the answer is whole; None: the base's"""
    encoded: Encoded | None = None
    ids: list[int] = field(default_factory=list)
    """Tokens of the prompt"""
    digests: list[list[int]] = field(default_factory=list)
    """Of the images' content"""
    shown: int = 0
    """Tokens of the prompt up to the end of its last image"""
    tail: int = 0
    """Last tokens of the prompt on which alone activated adapters act"""
    tokens: list[int] = field(default_factory=list)
    """Said so far"""
    sampler: Sampler | None = None
    _shown: int = 0

    def decided(self, route: Route) -> None:
        """Takes the router's decision."""
        self.route, self.adapter = route, route.adapter
        self.stream.decided(route)
        route.check_answered()

    def show(self, text: str, is_last: bool) -> None:
        """Hands over what is new in the text so far, but no half of a character."""
        if not is_last and text.endswith(_INCOMPLETE):
            return
        if len(text) > self._shown:
            self.stream.said(text[self._shown :])
            self._shown = len(text)


@contextmanager
def failing(
    requests: Sequence[Request], leave: Callable[[Request], None] | None = None
) -> Iterator[None]:
    """Whatever goes wrong is the requests' own error, and they ``leave``; others go on."""
    try:
        yield
    except Exception as error:
        for request in requests:
            request.stream.failed(error)
        for request in requests:
            if leave is not None:
                leave(request)
