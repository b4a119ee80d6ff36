"""Conversations: what the router may see of a chat request.

A prompt that the router may see whole is routed while it is read. Otherwise, as with answers in the
conversation, which no router sees, the part that it may see is routed by a request of its own.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from pointsman.conversation import History, Prompt, Role, Turn, routed_part
from pointsman.dialects.calls import calls_text
from pointsman.errors import RequestError, SampleError

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_IMAGES = ("image_url", "input_image", "image")
_TEXTS = ("text", "input_text", "output_text")
# They change the prompt that the chat template makes, so the router would read another one.
_REWRITING = (
    "tools",
    "functions",
    "documents",
    "chat_template",
    "chat_template_kwargs",
    "continue_final_message",
)


def routed_messages(body: Mapping[str, Any], history: History) -> list[dict[str, Any]] | None:
    """The messages to route in place of a chat request; None if the request is routed as it is.

    Raises:
        RequestError: its messages cannot be read, or there is no user turn.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        return None  # vLLM says what is wrong
    seen = seen_messages(messages, history)
    is_rewritten = any(body.get(key) for key in _REWRITING)
    if not is_rewritten and body.get("add_generation_prompt", True) and len(seen) == len(messages):
        return None
    return seen


def is_whole(request: Mapping[str, Any], history: History) -> bool:
    """Whether the router may see all of a request of another interface than chat completions."""
    roles = [turn.get("role", "user") for turn in _turns(request)]
    if any(request.get(key) for key in (*_REWRITING, "previous_response_id", "conversation")):
        return False
    if history == "last-user" and (len(roles) > 1 or request.get("system")):
        return False
    return all(role in ("user", "system", "developer") for role in roles)


def shows_image(request: Mapping[str, Any]) -> bool:
    """Whether a request of any interface has an image in its conversation."""
    contents = [turn.get("content") for turn in _turns(request)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return any(isinstance(part, dict) and part.get("type") in _IMAGES for part in parts)


def _turns(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    turns = [
        turn
        for key in ("messages", "input")
        if isinstance(request.get(key), list)
        for turn in request[key]
    ]
    return [turn for turn in turns if isinstance(turn, dict)]


def seen_messages(messages: Sequence[Mapping[str, Any]], history: History) -> list[dict[str, Any]]:
    """The messages that a router may see. Raises ``RequestError`` if they cannot be read."""
    turns, images = turns_of(messages)
    try:
        seen, shown = routed_part(turns, images, history)
    except SampleError as error:
        raise RequestError(str(error)) from None
    remaining = iter(shown)
    return [
        {
            "role": turn.role,
            "content": [
                next(remaining) if part is None else {"type": "text", "text": part}
                for part in turn.parts
            ],
        }
        for turn in seen
    ]


def image_part(image: Image.Image) -> dict[str, Any]:
    """An image as a part of a chat message."""
    file = io.BytesIO()
    image.save(file, "png")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def text_prompt(messages: Sequence[Mapping[str, Any]]) -> Prompt:
    """Messages as a prompt for a text router, which looks at no image."""
    turns, _ = turns_of(messages)
    return Prompt(tuple(replace(turn, parts=(turn.text,)) for turn in turns), ())


def turns_of(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Turn], list[dict[str, Any]]]:
    """Messages as turns, and the parts that stand for their images, in order.

    Calls of tools in an answer become its text, as the chat template renders them.

    Raises:
        RequestError: a role, a part or a call that cannot be read.
    """
    turns, images = [], []
    for message in messages:
        role = message.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            shown = repr(role)[:80]
            raise RequestError(f"messages: role {shown} is none of {', '.join(_ROLES)}")
        parts: list[str | None] = []
        for part in _parts(message.get("content")):
            kind = part.get("type")
            if kind in _IMAGES:
                images.append(_image(part))
                parts.append(None)
            elif kind in _TEXTS and isinstance(part.get("text"), str):
                parts.append(part["text"])
            else:
                shown = repr(kind)[:80]
                raise RequestError(f"messages: auto reads text and images, not a part {shown}")
        if message.get("tool_calls"):
            parts.append(_calls(message["tool_calls"], "\n" if parts else ""))
        turns.append(Turn(_ROLES[role], tuple(parts)))
    return turns, images


def _calls(calls: Any, before: str) -> str:
    try:
        return before + calls_text(calls)
    except SampleError as error:
        raise RequestError(f"messages: tool_calls: {error}") from None


def _parts(content: Any) -> list[dict[str, Any]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    parts = content if isinstance(content, list) else [content]
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    if not all(isinstance(part, dict) for part in parts):
        raise RequestError("messages: content must be a string or a list of parts")
    return parts


def _image(part: Mapping[str, Any]) -> dict[str, Any]:
    """An image part in the form of chat completions."""
    place = part.get("image_url", part.get("image"))
    if isinstance(place, str):
        place = {"url": place}
    return {"type": "image_url", "image_url": place}
