"""Turns in the dialects of trainers: roles, content parts, calls, flags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pointsman.conversation import Role, Turn
from pointsman.dialects.calls import calls_text
from pointsman.dialects.placeholders import IN_TEXT, PLACEHOLDER, Parts, foreign_tag, merged, split
from pointsman.dialects.values import Image, decoded, image_of, is_empty, is_turn, short
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
_CALL_ROLES = ("function_call", "tool_call")
"""Roles of turns that hold calls; such a turn belongs to the answer before it."""
_CALLS = ("tool_calls", "function_call")
"""Keys of turns that hold calls."""
FLAGS = {"loss", "loss_scale", "loss_weight", "weight", "train", "training", "train_detail"}
_REASONING = {"reasoning_content", "reasoning", "thinking"}
_READ = {"from", "role", "value", "content", *_CALLS, *FLAGS, *_REASONING}
_IMAGELESS = ("system", "assistant")
"""Roles that Qwen's chat template shows no image of."""
_TEXT_PARTS = ("text", "input_text", "output_text")
_IMAGE_PARTS = ("image", "image_url", "input_image")
_IMAGE_KEYS = ("image", "image_url", "path", "url", "bytes", "base64")
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
    """An exchange as its turns; a turn as it is. Null keys are left out."""
    if isinstance(item, list) and len(item) == 2:
        item = {"user": item[0], "assistant": item[1]}
    if not isinstance(item, Mapping):
        raise SampleError(f"a turn is a JSON object, not {short(item)}")
    item = {key: value for key, value in item.items() if value is not None}
    said = [] if is_turn(item) else [key for key in item if key in ROLES]
    if not said:
        return [item]
    said.sort(key=lambda key: ROLES[key] == "assistant")
    first, *others = ({"role": key, "content": item.pop(key)} for key in said)
    return [item | first, *others]


def _read(turn: Mapping[str, Any], found: Turns) -> None:
    name = str(turn.get("from", turn.get("role")))
    role = ROLES.get(name)
    if role is None:
        raise SampleError(f"a turn is from {short(name)}; known are {', '.join(ROLES)}")
    _check_flags(turn, role)
    content = turn.get("value", turn.get("content"))
    calls = _calls(turn, role)
    parts: Parts = ()
    if name not in _CALL_ROLES:
        parts = _parts("" if content is None and calls else content, role, found)
    else:
        calls.append(content)
        if found.turns and found.turns[-1].role == "assistant":
            parts = found.turns.pop().parts
    found.turns.append(Turn(role, _with_calls(parts, calls)))
    found.kept.append({key: value for key, value in turn.items() if key not in _READ})


def _calls(turn: Mapping[str, Any], role: Role) -> list[Any]:
    calls = [turn[key] for key in _CALLS if not is_empty(decoded(turn.get(key)))]
    if calls and role != "assistant":
        raise SampleError(f"the {role} turn has calls; calls belong to assistant turns")
    return calls


def _with_calls(parts: Parts, calls: Sequence[Any]) -> Parts:
    """An answer followed by its calls, as Qwen's chat template puts them."""
    texts = [call for call in map(calls_text, calls) if call]
    if texts and any(parts):
        texts.insert(0, "")
    return merged((*parts, "\n".join(texts)))


def _check_flags(turn: Mapping[str, Any], role: Role) -> None:
    """Refuses a flag that would train on less, or more, than every assistant turn."""
    for key in sorted(turn.keys() & FLAGS):
        value, neutral = turn[key], role == "assistant"
        if not isinstance(value, int | float) or value != neutral:
            raise SampleError(
                f"the {role} turn has {key} {short(value)}; every assistant turn is trained on, "
                "with equal weight, and no other turn: drop the key or the turn"
            )
    for key in sorted(turn.keys() & _REASONING):
        if not is_empty(turn[key]):
            raise SampleError(
                f"a turn has {key}; write it into the text, as the base's template does"
            )
    if not is_empty(turn.get("audio")):
        raise SampleError("a turn has audio, which cannot be read")


def _parts(content: Any, role: Role, found: Turns) -> Parts:
    if isinstance(content, str):
        return _text(content, role, found)
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list):
        raise SampleError(f"the {role} turn has no text ({short(content)})")
    return merged(_part(part, role, found) for part in content)


def _text(text: str, role: Role, found: Turns) -> Parts:
    if tag := foreign_tag(text):
        raise SampleError(
            f"the {role} turn has {short(tag)}; write {PLACEHOLDER} there and the path in 'images'"
        )
    parts = split(text)
    if None in parts and role in _IMAGELESS:
        raise SampleError(f"the {role} turn has an {PLACEHOLDER} placeholder{IN_TEXT}")
    found.shown += [None] * parts.count(None)
    found.texts.append(text)
    return parts


def _part(part: Any, role: Role, found: Turns) -> str | None:
    """A content part: its text, or None for an image, which is added to ``found``."""
    given = dict(part) if isinstance(part, Mapping) else {}
    given = {key: value for key, value in given.items() if not is_empty(value) or key == "text"}
    kind = given.pop("type", "image" if given.keys() & set(_IMAGE_KEYS) else "text")
    text = given.pop("text", None)
    if kind in _IMAGE_PARTS and not text:
        if role in _IMAGELESS:
            raise SampleError(
                f"the {role} turn shows an image; images belong to user and tool turns"
            )
        found.shown.append(_shown(given))
        return None
    if kind in _TEXT_PARTS and isinstance(text, str) and not given:
        return text
    raise SampleError(f"a content part is {short(part)}; known are text and image parts")


def _shown(part: Mapping[str, Any]) -> Shown:
    if unknown := part.keys() - {"index", "detail", *_IMAGE_KEYS}:
        raise SampleError(f"an image part has {min(unknown)!r}, which cannot be applied")
    if "base64" in part:
        return image_of({"bytes": part["base64"]})
    given = [part[key] for key in _IMAGE_KEYS if key in part]
    if len(given) > 1:
        given = [dict(part)]  # Hugging Face's bytes and path, side by side in the part
    index = part.get("index")
    return image_of(given[0]) if given else index if isinstance(index, int) else None
