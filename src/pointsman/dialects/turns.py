"""Turns in the dialects of trainers: roles, content parts, calls, flags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pointsman.conversation import Role, Turn
from pointsman.dialects.calls import calls_text
from pointsman.dialects.placeholders import IN_TEXT, PLACEHOLDER, foreign_tag, merged, split
from pointsman.dialects.values import Image, image_of, is_empty, short
from pointsman.errors import SampleError

ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_call": "assistant",
    "tool_call": "assistant",
}
_CALLS = ("function_call", "tool_call")
"""Roles of turns that hold calls; such a turn belongs to the answer before it."""
_READ = {"from", "role", "value", "content", "tool_calls", "function_call"}
FLAGS = ("loss", "loss_scale", "loss_weight", "weight", "train", "training", "train_detail")
_REASONING = ("reasoning_content", "reasoning", "thinking")
_TEXT_PARTS = ("text", "input_text", "output_text")
_IMAGE_PARTS = ("image", "image_url", "input_image")
_IMAGE_KEYS = ("image", "image_url", "path", "url", "bytes")
Shown = Image | int | None
"""What an image place shows: an image of its own, one of the record by index, or the next one."""


@dataclass
class Turns:
    """The turns of a record, and what their image places show, in order."""

    turns: list[Turn] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)
    """Per turn of the record, the keys that no reader knows."""
    texts: list[str] = field(default_factory=list)
    """The texts in which placeholders count."""


def read_turns(raw: Sequence[Any]) -> Turns:
    """Reads a list of turns.

    Args:
        raw: turns with ``from`` and ``value`` or ``role`` and ``content``, exchanges such as
            ``{"human": …, "assistant": …}``, or pairs of a question and an answer.

    Raises:
        SampleError: a turn is of another form, or holds something that cannot be read.
    """
    found = Turns()
    for item in raw:
        for turn in _single_turns(item):
            _read(turn, found)
    return found


def _single_turns(item: Any) -> list[Mapping[str, Any]]:
    """An exchange as its turns, without null keys; a turn as it is."""
    if isinstance(item, list) and len(item) == 2:
        item = dict(zip(("user", "assistant"), item, strict=True))
    if not isinstance(item, Mapping):
        raise SampleError(f"a turn is a JSON object, not {short(item)}")
    item = {key: value for key, value in item.items() if value is not None}
    said = [key for key in item if key in ROLES]
    if "from" in item or "role" in item or not said:
        return [item]
    said.sort(key=lambda key: ROLES[key] == "assistant")
    others = {key: value for key, value in item.items() if key not in said}
    turns = [{"role": key, "content": item[key]} for key in said]
    return [turns[0] | others, *turns[1:]]


def _read(turn: Mapping[str, Any], found: Turns) -> None:
    name = str(turn.get("from", turn.get("role")))
    role = ROLES.get(name)
    if role is None:
        raise SampleError(f"a turn is from {name!r}; known are {', '.join(ROLES)}")
    _check_flags(turn, role)
    content = turn.get("value", turn.get("content"))
    calls = [turn[key] for key in ("tool_calls", "function_call") if not is_empty(turn.get(key))]
    if calls and role != "assistant":
        raise SampleError(f"a {role} turn has calls; calls belong to assistant turns")
    if name in _CALLS:
        parts: tuple[str | None, ...] = (calls_text(content),)
    elif content is None and calls:
        parts = ("",)
    else:
        parts = _parts(content, role, found)
    if called := "\n".join(map(calls_text, calls)):
        parts = merged((*parts, "\n" if parts != ("",) else "", called))
    before = found.turns[-1] if found.turns else None
    if name in _CALLS and before is not None and before.role == "assistant":
        between = "\n" if before.text else ""
        found.turns[-1] = Turn(role, merged((*before.parts, between, *parts)))
    else:
        found.turns.append(Turn(role, parts))
    known = {*_READ, *FLAGS, *_REASONING}
    found.kept.append({key: value for key, value in turn.items() if key not in known})


def _check_flags(turn: Mapping[str, Any], role: Role) -> None:
    """Refuses a flag that would train on less, or more, than every assistant turn."""
    for key in FLAGS:
        value, neutral = turn.get(key), role == "assistant"
        if value is not None and (not isinstance(value, int | float) or value != neutral):
            raise SampleError(
                f"a {role} turn has {key} {short(value)}; every assistant turn is trained on, with "
                "equal weight, and no other turn: drop the key or the turn"
            )
    for key in _REASONING:
        if not is_empty(turn.get(key)):
            raise SampleError(
                f"a turn has {key}; write it into the text, as the base's template does"
            )
    if not is_empty(turn.get("audio")):
        raise SampleError("a turn has audio, which cannot be read")


def _parts(content: Any, role: Role, found: Turns) -> tuple[str | None, ...]:
    if isinstance(content, str):
        return _text(content, role, found)
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list):
        raise SampleError(f"a {role} turn has no text ({short(content)})")
    return merged(_part(part, role, found) for part in content)


def _text(text: str, role: Role, found: Turns) -> tuple[str | None, ...]:
    if tag := foreign_tag(text):
        raise SampleError(
            f"a {role} turn has {short(tag)}; write {PLACEHOLDER} there and the path in 'images'"
        )
    parts = split(text)
    if None in parts and role in ("assistant", "system"):
        raise SampleError(f"a {role} turn has an {PLACEHOLDER} placeholder{IN_TEXT}")
    found.shown += [None] * parts.count(None)
    found.texts.append(text)
    return parts


def _part(part: Any, role: Role, found: Turns) -> str | None:
    """A content part: its text, or None for an image, which is added to ``found``."""
    if not isinstance(part, Mapping):
        raise SampleError(f"a content part is {short(part)}; known are text and image parts")
    part = {key: value for key, value in part.items() if value is not None}
    kind = part.pop("type", "text" if "text" in part else "image")
    if kind in _TEXT_PARTS and isinstance(part.get("text"), str):
        unknown = set(part) - {"text"}
    elif kind in _IMAGE_PARTS and is_empty(part.get("text")):
        if role in ("assistant", "system"):
            raise SampleError(f"a {role} turn shows an image; images belong to user and tool turns")
        found.shown.append(_shown(part))
        unknown = set(part) - {"text", "index", "detail", *_IMAGE_KEYS}
    else:
        raise SampleError(f"a content part is {short(part)}; known are text and image parts")
    if unknown := {key for key in unknown if not is_empty(part[key])}:
        raise SampleError(
            f"a content part of type {kind} has {min(unknown)!r}, which cannot be read"
        )
    return part["text"] if kind in _TEXT_PARTS else None


def _shown(part: Mapping[str, Any]) -> Shown:
    given = [part[key] for key in _IMAGE_KEYS if not is_empty(part.get(key))]
    if len(given) > 1:
        given = [dict(part)]  # Hugging Face's bytes and path, side by side in the part
    if given:
        return image_of(given[0])
    index = part.get("index")
    return index if isinstance(index, int) else None
