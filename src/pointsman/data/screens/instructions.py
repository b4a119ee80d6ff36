"""What is asked of a widget, in many words."""

from __future__ import annotations

import random
from collections.abc import Sequence

from .calendar_look import ordinal
from .counting import LAST, RANK, RANK_PLAIN, RANKS, WIDGET_PARTS, WIDGET_PLACES
from .grammar import Phrases, every_form, say, say_plainly
from .templates import (
    ARROW_PLAIN,
    ARROWS,
    BUTTON,
    BUTTON_PLAIN,
    BUTTON_SHORT,
    DAY,
    DAY_PLAIN,
    DAY_SHORT,
    FIELD,
    FIELD_PLAIN,
    FIELD_SHORT,
    ROW,
    ROW_PLAIN,
    ROW_SHORT,
)
from .widget import Target, Widget

# Shares of the wordings a small base may already know, of very short ones, and of the grammar.
_PLAIN_SHARE, _SHORT_SHARE = 0.38, 0.09


def ask(rng: random.Random, target: Target, *, named: bool) -> str:
    """An instruction that means this target and nothing else on the screen.

    `named` leaves out the shortest wordings, which do not say which kind of widget they mean.
    """
    plain, short, phrases = _wordings(target)
    values = target.values
    if named:
        values = {slot: value for slot, value in values.items() if slot not in ("sole", "bare")}
    roll = rng.random()
    if roll < _PLAIN_SHARE:
        return say_plainly(rng, plain, values)
    if not named and roll < _PLAIN_SHARE + _SHORT_SHARE:
        usable = short if "sole" in values or target.kind != "day" else plain
        return say_plainly(rng, usable, values)
    return say(rng, phrases, values)


def _wordings(target: Target) -> tuple[Sequence[str], Sequence[str], Phrases]:
    if target.kind in ARROWS:
        plain = ARROW_PLAIN[target.kind]
        return plain, plain, ARROWS[target.kind]
    return {
        "day": (DAY_PLAIN, DAY_SHORT, DAY),
        "field": (FIELD_PLAIN, FIELD_SHORT, FIELD),
        "button": (BUTTON_PLAIN, BUTTON_SHORT, BUTTON),
        "row": (ROW_PLAIN, ROW_SHORT, ROW),
    }[target.kind]


def ask_by_rank(rng: random.Random, rank: int | None) -> str:
    """An instruction that only counts, from 1; `None` is the last."""
    if rank is None:
        return say(rng, LAST, {})
    values = {
        "rank": RANKS[rank - 1],
        "number": str(rank),
        "ordinal": ordinal(rank),
        "thing": rng.choice(("option", "entry", "item", "choice")),
    }
    if rng.random() < 0.4:
        return say_plainly(rng, RANK_PLAIN, values)
    return say(rng, RANK, values)


def ask_by_rank_in(rng: random.Random, widget: Widget, rank: int) -> str:
    """An instruction that counts and says on which widget."""
    verb, rank_name = "[Take|Click|Pick|Choose|Select]", RANKS[rank - 1]
    templates = (
        f"{verb} the {rank_name} {WIDGET_PARTS[widget.adapter]} {WIDGET_PLACES[widget.adapter]}",
        f"{verb} the {rank_name} {WIDGET_PARTS[widget.adapter]}",
        f"{verb} the {rank_name} [option|entry|one] {WIDGET_PLACES[widget.adapter]}",
    )
    return say(rng, Phrases(commands=templates), {})


def surface_forms() -> dict[str, int]:
    """The number of different texts per task, before values, politeness, case and typos."""
    tasks = {
        "day": ((*DAY_PLAIN, *DAY_SHORT), DAY),
        "next-month": (ARROW_PLAIN["next-month"], ARROWS["next-month"]),
        "previous-month": (ARROW_PLAIN["previous-month"], ARROWS["previous-month"]),
        "field": ((*FIELD_PLAIN, *FIELD_SHORT), FIELD),
        "button": ((*BUTTON_PLAIN, *BUTTON_SHORT), BUTTON),
        "row": ((*ROW_PLAIN, *ROW_SHORT), ROW),
        "rank": (RANK_PLAIN, RANK),
        "last": ((), LAST),
    }
    counts = {}
    for task, (plain, phrases) in tasks.items():
        templates = (*plain, *phrases.commands, *phrases.remarks)
        counts[task] = len(set[str]().union(*map(every_form, templates)))
    return counts
