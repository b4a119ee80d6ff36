"""Asks about scenes: which target, for which task, in which words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from .calendar_look import day_in
from .instructions import ask, ask_by_rank, ask_by_rank_in, ask_for_date, ask_to_type
from .scene import LEAST_OPTIONS, Scene
from .values import typed_value
from .widget import Target, Widget
from .wishes import near_wish, page_wish

TASKS = (
    "day",
    "next-month",
    "previous-month",
    "other-month",
    "field",
    "type",
    "button",
    "row",
    "rank",
)
_ARROW_SHARE, _OTHER_MONTH_SHARE = 0.15, 0.15
_TYPE_SHARE = 0.4
# Without its year a date is of the nearest such month, which is clear up to some months away.
_NEAR_MONTHS, _FAR_MONTHS, _FAR_SHARE = 4, 14, 0.35


@dataclass(frozen=True)
class Question:
    """An instruction about a scene and what it means; no target when no adapter is for it."""

    instruction: str
    target: Target | None = None
    widget: Widget | None = None
    task: str | None = None
    """One of `TASKS`"""
    typed: str | None = None
    """The text to enter after the click"""


def ask_about(
    rng: random.Random, scene: Scene, stratum: str, adapter: str | None = None
) -> Question:
    """A question of the stratum about a scene that was drawn for it."""
    if stratum == "out-of-scope":
        return Question(_page_instruction(rng, scene))
    if stratum == "near-out-of-scope":
        names = [widget.adapter for widget in scene.widgets]
        return Question(near_wish(rng, names, scene.labels))
    widget = next(widget for widget in scene.widgets if widget.adapter == adapter)
    if stratum == "image-decides":
        return _counting(rng, widget)
    named = stratum == "text-decides"
    if named and rng.random() < 0.08:
        rank = rng.randint(1, min(4, len(widget.options)))
        text = ask_by_rank_in(rng, widget, rank)
        return Question(text, widget.options[rank - 1], widget, "rank")
    return _meaning(rng, widget, named)


def _meaning(rng: random.Random, widget: Widget, named: bool) -> Question:
    """A question that says what it means."""
    arrows = [target for target in widget.targets if target.kind.endswith("-month")]
    roll = rng.random() if arrows else 1.0
    if roll < _OTHER_MONTH_SHARE:
        return _other_month(rng, widget, arrows)
    asked = roll < _OTHER_MONTH_SHARE + _ARROW_SHARE
    others = [target for target in widget.targets if target not in arrows]
    target = rng.choice(arrows if asked else others)
    if target.kind == "field" and rng.random() < _TYPE_SHARE:
        value = typed_value(rng, target.values["field"])
        return Question(ask_to_type(rng, target, value), target, widget, "type", value)
    return Question(ask(rng, target, named=named), target, widget, target.kind)


def _other_month(rng: random.Random, widget: Widget, arrows: Sequence[Target]) -> Question:
    """A date that the calendar does not show; the arrow leads towards it."""
    arrow = rng.choice(arrows)
    far = rng.random() < _FAR_SHARE
    months = rng.randint(1, _FAR_MONTHS if far else _NEAR_MONTHS)
    shown = date.fromisoformat(widget.options[0].values["iso"])
    away = months if arrow.kind == "next-month" else -months
    day = day_in(rng, shown.year * 12 + shown.month - 1 + away)
    return Question(ask_for_date(rng, day, with_year=far), arrow, widget, "other-month")


def _counting(rng: random.Random, widget: Widget) -> Question:
    """Counts an option; the ranks are spread alike for all widgets, so that words tell nothing."""
    options = widget.options
    roll = rng.random()
    if roll < 0.08 and widget.complete:
        return Question(ask_by_rank(rng, None), options[-1], widget, "rank")
    rank = rng.randint(1, min(LEAST_OPTIONS, len(options)))
    if roll > 0.93:
        rank = rng.randint(1, min(8, len(options)))
    return Question(ask_by_rank(rng, rank), options[rank - 1], widget, "rank")


def _page_instruction(rng: random.Random, scene: Scene) -> str:
    # Counting asks nothing of an adapter when there is nothing of its kind on the screen.
    if rng.random() < 0.06:
        return ask_by_rank(rng, rng.randint(1, 4))
    return page_wish(rng, scene.wishes)
