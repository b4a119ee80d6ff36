"""Answers: an adapter's text, and the actions in it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pointsman.conversation import Prompt
from pointsman.engine.logprobs import TokenLogprob
from pointsman.routing.route import Route

_OPENING, _CLOSING = re.compile(r"<tool_call>\s*"), re.compile(r"\s*</tool_call>")
_DECODER = json.JSONDecoder()
FinishReason = Literal["stop", "length", "cancelled"]
COORDINATE_RANGE = 1000
"""Qwen3-VL writes coordinates from 0 to this, regardless of the image's size."""


@dataclass(frozen=True)
class Answer:
    """The answer of an adapter, or of the base."""

    text: str
    adapter: str | None
    """The adapter that answered; None is the base"""
    actions: tuple[dict[str, Any], ...]
    """Arguments of the tool calls in the text, in order"""
    point: tuple[float, float] | None
    """The coordinate of the first action that has one, in pixels of the first image"""
    typed: str | None
    """The text that the actions type"""
    route: Route | None
    """The decision; None if the caller named an adapter"""
    finish_reason: FinishReason
    """``stop``: the model or a stop string ended it; ``length``: it hit a limit; ``cancelled``: by
    the caller"""
    prompt_tokens: int
    """Tokens of the prompt, including those of its images"""
    completion_tokens: int
    """Tokens of the answer, including the one that ends it, or those of the stop string"""
    stop: str | None = None
    """The stop string that ended it"""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """One entry for each of ``completion_tokens``; None if ``Sampling`` did not ask for them"""

    @property
    def calls(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        """Name and arguments of every tool call in the text, in order."""
        return parse_calls(self.text)


def make_answer(
    text: str,
    adapter: str | None,
    prompt: Prompt,
    decision: Route | None,
    *,
    finish_reason: FinishReason,
    prompt_tokens: int,
    completion_tokens: int,
    stop: str | None = None,
    logprobs: tuple[TokenLogprob, ...] | None = None,
) -> Answer:
    """Parses the answer of ``adapter`` (None: the base) to a prompt."""
    actions = parse_actions(text)
    click = next((action for action in actions if "coordinate" in action), {})
    point = action_point(click, prompt.images[0].size) if prompt.images else None
    return Answer(
        text=text.strip(),
        adapter=adapter,
        actions=actions,
        point=point,
        typed=typed_text(actions),
        route=decision,
        finish_reason=finish_reason,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        stop=stop,
        logprobs=logprobs,
    )


def parse_actions(text: str) -> tuple[dict[str, Any], ...]:
    """The ``arguments`` of every tool call in an answer, in order.

    Incomplete calls (truncated, not JSON, not Unicode, no arguments) are left out.
    """
    return tuple(arguments for _, arguments in parse_calls(text))


def parse_calls(text: str) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Name and ``arguments`` of every tool call, as ``parse_actions``; a name may be missing."""
    calls, place = [], 0
    while opening := _OPENING.search(text, place):
        place = opening.end()
        try:
            call, end = _DECODER.raw_decode(text, place)
            json.dumps(call, ensure_ascii=False).encode()  # a lone surrogate is not text
        except (ValueError, RecursionError):
            continue
        if not (closing := _CLOSING.match(text, end)):
            continue
        place = closing.end()
        arguments = call.get("arguments") if isinstance(call, dict) else None
        if isinstance(arguments, dict):
            calls.append((str(call.get("name", "")), arguments))
    return tuple(calls)


def typed_text(actions: Sequence[Mapping[str, Any]]) -> str | None:
    """The joined text that the actions type; None if they type nothing."""
    texts = [action.get("text") for action in actions if action.get("action") == "type"]
    typed = [text for text in texts if isinstance(text, str)]
    return "".join(typed) if typed else None


def action_point(action: Mapping[str, Any], size: tuple[int, int]) -> tuple[float, float] | None:
    """An action's coordinate in pixels of an image of ``size`` (width, height)."""
    coordinate = action.get("coordinate")
    if not isinstance(coordinate, list) or len(coordinate) != 2:
        return None
    # A model may write anything here: words, NaN, or a number of 400 digits.
    if not all(type(v) in (int, float) and 0 <= v <= COORDINATE_RANGE for v in coordinate):
        return None
    x, y = (value / COORDINATE_RANGE * side for value, side in zip(coordinate, size, strict=True))
    return x, y
