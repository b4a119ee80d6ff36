"""Text with image placeholders, and its parts: text in order, with ``None`` where an image is."""

import re
from collections.abc import Iterable

PLACEHOLDER = "<image>"
IN_TEXT = (
    f"; an {PLACEHOLDER} that is text goes into a content part, "
    '[{"type": "text", "text": "…"}], where nothing is a placeholder'
)
"""The fix for a placeholder that stands for no image."""
GROUNDING = re.compile(r"<ref-object>|<bbox>")
_FOREIGN = re.compile(r"<img>.+?</img>|<\|(?:image|video)_pad\|>", re.DOTALL)
Parts = tuple[str | None, ...]


def split(text: str) -> Parts:
    """Splits text at ``<image>``; the line break next to an image is not part of the text."""
    first, *others = text.split(PLACEHOLDER)
    if not others:
        return (text,)
    pieces: list[str | None] = [first.rstrip()]
    for piece in others[:-1]:
        pieces += [None, piece.strip()]
    return merged([*pieces, None, others[-1].lstrip()])


def join(parts: Parts) -> str | None:
    """The text that ``split`` reads as ``parts``; None if there is no such text."""
    text = "".join(f"{PLACEHOLDER}\n" if part is None else part for part in parts)
    is_plain = split(text) == parts and not foreign_tag(text) and not GROUNDING.search(text)
    return text if is_plain else None


def merged(parts: Iterable[str | None]) -> Parts:
    """The parts without empty texts, and with neighbouring texts as one."""
    pieces: list[str | None] = []
    for part in parts:
        if part and pieces and pieces[-1] is not None:
            pieces[-1] += part
        elif part != "":
            pieces.append(part)
    return tuple(pieces) or ("",)


def foreign_tag(text: str) -> str | None:
    """The first tag that marks an image in another way than ``<image>``."""
    found = _FOREIGN.search(text)
    return found.group() if found else None
