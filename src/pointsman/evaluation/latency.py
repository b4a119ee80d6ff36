"""Latency: the same requests, one at a time, by each adapter that could answer them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count

from pointsman.conversation import Prompt
from pointsman.engine.engine import Engine
from pointsman.evaluation.worth import Role
from pointsman.labels import BASE, ROUTED

_STEP = 16
"""Levels between two colours of a pixel, so that scaling an image down leaves them apart"""
_MARKS = count(1)
"""Goes on from call to call: an engine may remember earlier ones"""


def time_requests(
    engine: Engine,
    prompts: Sequence[Prompt],
    answered_by: Mapping[Role, Sequence[str | None]],
    max_new_tokens: int | None,
    done: Callable[[], None] = lambda: None,
) -> dict[Role, list[float]]:
    """Seconds from a request to its whole answer, nothing else being asked meanwhile.

    Each role is asked about a prompt in turn; which goes first changes from prompt to prompt. A
    pixel in the corner tells what they are shown apart: no role finds an image, or a conversation,
    that the engine still remembers of another. The first prompt is also asked once beforehand,
    for what a first call alone has to do.

    Args:
        answered_by: the adapter of each role for each prompt (None: the base); ``routed`` is routed
            again.
        done: called after each request that was timed.
    """
    roles = list(answered_by)
    seconds: dict[Role, list[float]] = {role: [] for role in roles}

    def ask(row: int, place: int) -> float:
        role = roles[place]
        prompt = _marked(prompts[row], next(_MARKS))
        adapter = ROUTED if role == "routed" else answered_by[role][row] or BASE
        started = time.perf_counter()
        engine.submit(prompt, adapter=adapter, max_new_tokens=max_new_tokens).result()
        return time.perf_counter() - started

    for place in range(len(roles)):
        ask(0, place)
    for row in range(len(prompts)):
        for turn in range(len(roles)):
            place = (row + turn) % len(roles)
            seconds[roles[place]].append(ask(row, place))
            done()
    return seconds


def _marked(prompt: Prompt, mark: int) -> Prompt:
    """The prompt with one pixel of its first image in another colour for each mark."""
    if not prompt.images:
        return prompt
    first = prompt.images[0].convert("RGB")  # a copy
    levels = 256 // _STEP
    digits = (mark, mark // levels, mark // levels**2)
    colour = zip(first.getpixel((0, 0)), digits, strict=True)  # type: ignore[arg-type]
    first.putpixel((0, 0), tuple((level + _STEP * digit) % 256 for level, digit in colour))
    return replace(prompt, images=(first, *prompt.images[1:]))
