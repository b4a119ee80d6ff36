"""A request in the engine."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from traceback import clear_frames
from typing import Any

from pointsman.conversation import Prompt
from pointsman.engine.answer import FinishReason, make_answer
from pointsman.engine.sampling import Sampler, Sampling
from pointsman.engine.stopping import Stopping
from pointsman.engine.stream import Feed
from pointsman.errors import ArtefactError
from pointsman.models.encoding import Encoded
from pointsman.routing.route import Route


@dataclass(eq=False)
class Request:
    """A queued or running prompt."""

    prompt: Prompt
    adapter: str | None
    """The adapter that answers (None: the base); ignored while ``routed``"""
    routed: bool
    """Whether the router is still to decide"""
    max_new_tokens: int
    sampling: Sampling
    session: str | None = None
    """The session that it belongs to, if it is routed"""
    feed: Feed = field(default_factory=Feed)
    route: Route | None = None
    slot: int = -1
    row: int | None = None
    """Its row of the LoRA stack, held until the answer is complete; None: the base's"""
    is_prepared: bool = False
    """Whether its text and images are ready for the model, or have failed"""
    encoded: Encoded | None = None
    """On the host"""
    for_router: Any = None
    """What the router reads, encoded on the host, if it differs from the prompt to be answered"""
    ids: list[int] = field(default_factory=list)
    """Tokens of the prompt"""
    digests: list[list[int]] = field(default_factory=list)
    """Digests of the images' content"""
    image_prefix_len: int = 0
    """Tokens of the prompt up to the end of its last image"""
    tail: int = 0
    """Last tokens of the prompt, the only ones on which activated adapters act"""
    tokens: list[int] = field(default_factory=list)
    """Said so far"""
    chars_said: int = 0
    """Characters of the text so far, those that are held back included"""
    chars_streamed: int = 0
    decoder: Any = None
    """Decodes tokens into text, one by one"""
    sampler: Sampler | None = None

    def __post_init__(self) -> None:
        self.stopping = Stopping(self.sampling.stop)
        self._news = ""
        """Text that is not passed on yet"""

    @property
    def length(self) -> int:
        """Tokens of the prompt, and those said so far."""
        return len(self.ids) + len(self.tokens)

    def decide(self, route: Route) -> None:
        """Applies the router's decision. Raises ``AbstainedError`` if nothing is to answer."""
        self.route, self.adapter = route, route.adapter
        self.feed.decide(route)
        route.check_answered()
        self.routed = False

    def say(self, piece: str | None) -> None:
        """Adds a piece of text; None: the token completes no character."""
        if piece:
            self.chars_said += len(piece)
            self._news += self.stopping.add(piece)

    def pass_on(self) -> None:
        """Passes on the text that was added, for an answer that goes on."""
        if self._news:
            self.feed.say(self._taken())

    def _taken(self) -> str:
        news, self._news = self._news, ""
        self.chars_streamed += len(news)
        return news

    def finish(self, text: str, reason: FinishReason, tokens: int | None = None) -> None:
        """Ends the answer with its complete text, or before a stop string in it.

        Args:
            tokens: its number of tokens; by default those generated so far.
        """
        count = len(self.tokens) if tokens is None else tokens
        self.feed.completion_tokens = count
        self.say(text[self.chars_said :])
        self._news += self.stopping.flush()
        news = self._taken()
        if self.stopping.found is not None:
            text, reason = text[: self.chars_streamed], "stop"
        has_logprobs = self.sampling.logprobs is not None
        self.encoded = self.for_router = None  # pictures are large, and a batch keeps its requests
        self.feed.finish(
            make_answer(
                text,
                self.adapter,
                self.prompt,
                self.route,
                finish_reason=reason,
                prompt_tokens=len(self.ids),
                completion_tokens=count,
                stop=self.stopping.found,
                logprobs=tuple(self.feed.logprobs) if has_logprobs else None,
            ),
            news,
        )


def not_finite(adapter: str | None) -> ArtefactError:
    """The error of a request whose logits are NaN or infinite: any token would be arbitrary."""
    if adapter is None:
        return ArtefactError("the base's logits are not finite; load it with dtype float32")
    return ArtefactError(
        f"adapter {adapter!r}: its logits are not finite; it has diverged, or overflows the dtype: "
        "remove it, and retrain it with a lower learning rate"
    )


@contextmanager
def failing(
    requests: Sequence[Request], leave: Callable[[Request], None] | None = None
) -> Iterator[None]:
    """Assigns any error to these requests, and has them ``leave``; other requests continue."""
    try:
        yield
    except Exception as error:
        # A forward's frames hold its tensors. Kept with the error, they would be memory that is
        # still taken when there is none left.
        clear_frames(error.__traceback__)
        for request in requests:
            request.feed.fail(error)
        for request in requests:
            if leave is not None:
                leave(request)
