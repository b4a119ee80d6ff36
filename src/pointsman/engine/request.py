"""A request on its way through the engine."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pointsman.conversation import Prompt
from pointsman.engine.sampling import Sampler, Sampling
from pointsman.engine.stream import Stream
from pointsman.models.encoding import Encoded
from pointsman.routing.route import Route

_INCOMPLETE = "\ufffd"
"""What a decoder makes of a character whose last bytes are still to come."""


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
