"""Latency: times the same requests, one at a time, for each adapter that could answer them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count

from pointsman.conversation import Prompt
from pointsman.engine.engine import Engine
from pointsman.evaluation.worth import Role
from pointsman.labels import BASE, ROUTED

_STEP = 16
"""Difference between two marks of a pixel, large enough to survive downscaling"""
_MARKS = count(1)
"""Continues across calls: an engine may have cached earlier marks"""


def time_requests(
    engine: Engine,
    prompts: Sequence[Prompt],
    answered_by: Mapping[Role, Sequence[str | None]],
    max_new_tokens: int | None,
    done: Callable[[], None] = lambda: None,
) -> dict[Role, list[float]]:
    """Seconds from a request to its complete answer, without other requests in between.

    The roles answer each prompt in turn; the first role changes from prompt to prompt. A pixel in
    the corner makes every image unique, so no role profits from an image or a conversation that the
    engine cached for another. The first prompt is also answered once beforehand, as a warm-up.

    Args:
        answered_by: the adapter of each role for each prompt (None: the base); ``routed`` is routed
            again.
        done: called after each timed request.
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
    """The prompt with one pixel of its first image coloured by the mark."""
    if not prompt.images:
        return prompt
    first = prompt.images[0].convert("RGB")  # a copy
    levels = 256 // _STEP
    digits = (mark, mark // levels, mark // levels**2)
    colour = zip(first.getpixel((0, 0)), digits, strict=True)  # type: ignore[arg-type]
    first.putpixel((0, 0), tuple((level + _STEP * digit) % 256 for level, digit in colour))
    return replace(prompt, images=(first, *prompt.images[1:]))
