"""Conversations: turns of text and images, and what a router may see of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal, Self, TypeVar

from PIL import Image

from pointsman.errors import SampleError
from pointsman.images import Source, load_image

Role = Literal["system", "user", "assistant", "tool"]
History = Literal["conversation", "last-user"]
"""How much of a conversation a router reads, see ``routed_part``."""
Shown = TypeVar("Shown")


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: text in order, with ``None`` where an image stands."""

    role: Role
    parts: tuple[str | None, ...]

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if part is not None)

    @property
    def places(self) -> int:
        """The number of image places in the turn."""
        return self.parts.count(None)


def routed_part(
    turns: Sequence[Turn], images: Sequence[Shown], history: History
) -> tuple[tuple[Turn, ...], tuple[Shown, ...]]:
    """What a router may see of a conversation: some of its turns, and the images shown in them.

    The router never sees an assistant turn: its style gives the adapter away, hence the label.
    ``conversation`` keeps all other turns, ``last-user`` only the user's last one. If that turn
    shows no image, the most recent earlier image is put before its text: the user refers to it.

    Args:
        images: one for each ``None`` in the turns, in order.

    Raises:
        SampleError: more or fewer images than that, or no user turn.
    """
    check_places(turns, len(images))
    if not any(turn.role == "user" for turn in turns):
        raise SampleError("a conversation without a user turn: there is nothing to route on")
    following = iter(images)
    pairs = [(turn, tuple(islice(following, turn.places))) for turn in turns]
    seen = [(turn, shown) for turn, shown in pairs if turn.role != "assistant"]
    if history == "last-user":
        seen = [_last_user_turn(seen)]
    return tuple(turn for turn, _ in seen), tuple(image for _, own in seen for image in own)


def _last_user_turn(
    seen: Sequence[tuple[Turn, tuple[Shown, ...]]],
) -> tuple[Turn, tuple[Shown, ...]]:
    """The user's last turn with its images or, without any, the most recent earlier image."""
    last = max(at for at, (turn, _) in enumerate(seen) if turn.role == "user")
    turn, own = seen[last]
    before = [image for _, shown in seen[:last] for image in shown]
    if own or not before:
        return turn, own
    return replace(turn, parts=(None, *turn.parts)), (before[-1],)


def check_places(turns: Sequence[Turn], images: int) -> None:
    """Raises ``SampleError`` unless the turns have exactly one place for each image."""
    places = sum(turn.places for turn in turns)
    if places != images:
        raise SampleError(f"{images} images for {places} places in the turns")


def check_text(text: str) -> None:
    """Raises ``SampleError`` on what is no text or cannot be written as UTF-8."""
    if not isinstance(text, str):
        raise SampleError(
            f"a value of type {type(text).__name__} is given as the text; give a string"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SampleError(
            f"text {text[:40]!r} holds half a character (a lone surrogate); give it as UTF-8"
        ) from None


def user_turn(text: str, images: int = 1) -> Turn:
    """A user turn of ``images`` images followed by ``text``."""
    return Turn("user", (*[None] * images, text))


@dataclass(frozen=True)
class Prompt:
    """A conversation and its decoded images, in the order in which the turns show them."""

    turns: tuple[Turn, ...]
    images: tuple[Image.Image, ...]

    def routed_part(self, history: History) -> Self:
        """What a router may see of the conversation, see ``routed_part``."""
        return type(self)(*routed_part(self.turns, self.images, history))


def make_prompt(image: Source | None, text: str) -> Prompt:
    """One user turn with at most one image. Raises ``ImageError`` and ``SampleError``."""
    check_text(text)
    images = () if image is None else (load_image(image),)
    return Prompt((user_turn(text, len(images)),), images)
