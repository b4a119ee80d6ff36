"""What is asked of a widget, in many words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date

from .arrow_phrases import ARROW_PLAIN, ARROWS
from .calendar_look import MONTH_SLOTS, YEAR_SLOTS, date_values, ordinal
from .calendar_phrases import DAY, DAY_PLAIN, DAY_SHORT
from .chatter import talk, talk_plainly
from .claim_phrases import (
    BUTTON,
    BUTTON_PLAIN,
    BUTTON_SHORT,
    FIELD,
    FIELD_PLAIN,
    FIELD_SHORT,
)
from .counting import LAST, RANK, RANK_PLAIN, RANKS, WIDGET_PARTS, WIDGET_PLACES
from .grammar import Phrases, every_form
from .provider_phrases import ROW, ROW_PLAIN, ROW_SHORT
from .type_phrases import TYPE, TYPE_PLAIN
from .widget import Target, Widget

# Shares of the wordings a small base may already know, of very short ones, and of the grammar.
_PLAIN_SHARE, _SHORT_SHARE = 0.3, 0.09


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
        return talk_plainly(rng, plain, values)
    if not named and roll < _PLAIN_SHARE + _SHORT_SHARE:
        usable = short if "sole" in values or target.kind != "day" else plain
        return talk_plainly(rng, usable, values)
    return talk(rng, phrases, values)


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


def ask_for_date(rng: random.Random, day: date, *, with_year: bool) -> str:
    """An instruction that names a day and its month, and the year where that has to be said."""
    naming = YEAR_SLOTS if with_year else MONTH_SLOTS
    values = date_values(day)
    if rng.random() < _PLAIN_SHARE:
        return talk_plainly(rng, DAY_PLAIN, values, naming)
    return talk(rng, DAY, values, naming)


def ask_to_type(rng: random.Random, target: Target, value: str) -> str:
    """An instruction to enter a value into a field."""
    values = target.values | {"value": value}
    if rng.random() < _PLAIN_SHARE:
        return talk_plainly(rng, TYPE_PLAIN, values)
    return talk(rng, TYPE, values)


def ask_by_rank(rng: random.Random, rank: int | None) -> str:
    """An instruction that only counts, from 1; `None` is the last."""
    if rank is None:
        return talk(rng, LAST, {})
    values = {
        "rank": RANKS[rank - 1],
        "number": str(rank),
        "ordinal": ordinal(rank),
        "thing": rng.choice(("option", "entry", "item", "choice")),
    }
    if rng.random() < _PLAIN_SHARE:
        return talk_plainly(rng, RANK_PLAIN, values)
    return talk(rng, RANK, values)


def ask_by_rank_in(rng: random.Random, widget: Widget, rank: int) -> str:
    """An instruction that counts and says on which widget."""
    verb = "[Take|Click|Pick|Choose|Select|Use|Tap]"
    place, part = WIDGET_PLACES[widget.adapter], WIDGET_PARTS[widget.adapter]
    commands = (
        f"{verb} the {{rank}} {part} {place}",
        f"{verb} the {{rank}} {part}",
        f"{verb} the {{rank}} [option|entry|one] {place}",
        f"[Find|Locate] the {{rank}} {part} and [click|take|choose] it",
    )
    remarks = (
        f"The {{rank}} {part}[, please|]",
        f"[I want|I need|I'd like|Let's take] the {{rank}} {part} [{place}|]",
    )
    return talk(rng, Phrases(commands, remarks), {"rank": RANKS[rank - 1]})


def templates() -> dict[str, tuple[str, ...]]:
    """The templates per task. A date of another month is asked for in the words of a day."""
    tasks: dict[str, tuple[Sequence[str], Phrases]] = {
        "day": ((*DAY_PLAIN, *DAY_SHORT), DAY),
        "next-month": (ARROW_PLAIN["next-month"], ARROWS["next-month"]),
        "previous-month": (ARROW_PLAIN["previous-month"], ARROWS["previous-month"]),
        "field": ((*FIELD_PLAIN, *FIELD_SHORT), FIELD),
        "type": (TYPE_PLAIN, TYPE),
        "button": ((*BUTTON_PLAIN, *BUTTON_SHORT), BUTTON),
        "row": ((*ROW_PLAIN, *ROW_SHORT), ROW),
        "rank": (RANK_PLAIN, RANK),
        "last": ((), LAST),
    }
    return {
        task: (*plain, *phrases.commands, *phrases.remarks)
        for task, (plain, phrases) in tasks.items()
    }


def surface_forms() -> dict[str, int]:
    """The number of different texts per task, before values, politeness, case and clauses."""
    return {
        task: len(set[str]().union(*map(every_form, texts))) for task, texts in templates().items()
    }
