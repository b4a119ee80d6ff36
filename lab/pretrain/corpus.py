"""Plain questions about a screen, and their answers, from what is known to be on it.

Points and boxes are numbers from 0 to 999, of the width and of the height. Nothing here is an
instruction, and no answer an action: the adapters are to bring those.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from lab.screens.calendar_look import (
    MONTH_SLOTS,
    YEAR_SLOTS,
    date_values,
    day_in,
    ordinal,
)
from lab.screens.canvas import Box, centre
from lab.screens.counting import RANKS
from lab.screens.grammar import Phrases, expand, word_plainly
from lab.screens.values import typed_value
from lab.screens.words import MONTHS

from . import phrases, words
from .layout import Layout, Text, Thing
from .phrases import TASKS, phrase

GRID = 1000
_LONGEST = 30
"""Characters of a text that is asked about whole."""
_SHORTEST = ("bare", "sole")
"""Values of a day that others say as well."""
# Without its year a month is the nearest of its name, which is clear up to some months away.
_NEAR, _FAR, _FAR_SHARE = 5, 18, 0.4
_PLURALS = {"switch": "switches"}
_WEIGHTS = {
    "locate": 18,
    "element": 14,
    "row": 18,
    "read": 20,
    "rank": 28,
    "rank-label": 2,
    "label": 4,
    "box": 2,
    "kind": 2,
    "beside": 4,
    "present": 2,
    "describe": 1,
    "month": 3,
    "numbered": 5,
    "follows": 8,
    "when": 22,
    "towards": 42,
    "arrow": 7,
    "date": 14,
    "order": 5,
    "fact": 8,
    "count": 2,
    "list": 1,
    "copy": 1,
}


@dataclass(frozen=True)
class View:
    """Where the screen lies on the canvas that the model sees: ``u = scale * x / width + shift``.

    Scaled and shifted by the augmentation; the identity shows the screen as it is.
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)

    def box(self, box: Box) -> Box:
        """A box in pixels of the screen as shares of the canvas."""
        (width, height), (across, down), (right, low) = self.size, self.scale, self.shift
        return (
            box[0] / width * across + right,
            box[1] / height * down + low,
            box[2] / width * across + right,
            box[3] / height * down + low,
        )

    def shows(self, box: Box) -> bool:
        left, top, right, bottom = self.box(box)
        return left >= -0.002 and top >= -0.002 and right <= 1.002 and bottom <= 1.002


@dataclass(frozen=True)
class Question:
    """A question and its plain answer.

    ``box`` (shares of the canvas) is what a point must lie in to be right; None for other answers.
    ``wording`` and ``values`` are what it was put together from.
    """

    task: str
    text: str
    answer: str
    wording: Phrases
    values: dict[str, str]
    box: Box | None = None


def number(share: float) -> int:
    """A share of the width or height on the grid from 0 to 999."""
    return min(GRID - 1, max(0, round(share * GRID)))


class Asker:
    """Asks about one screen, as it shows in a view."""

    def __init__(self, rng: random.Random, layout: Layout, view: View) -> None:
        self._rng = rng
        self._layout = layout
        self._view = view
        self._runs = [run for run in layout.runs if view.shows(run.box)]
        self._words = [word for word in layout.words if view.shows(word.box)]
        self._things = [thing for thing in layout.things if view.shows(thing.box)]
        self._is_whole = len(self._runs) == len(layout.runs) and len(self._things) == len(
            layout.things
        )
        self._makers: dict[str, Callable[[], Question | None]] = {
            "locate": self._locate,
            "read": self._read,
            "box": self._box,
            "kind": self._kind,
            "beside": self._beside,
            "rank": self._rank,
            "rank-label": self._rank_label,
            "list": self._list,
            "count": self._count,
            "label": self._label,
            "present": self._present,
            "element": self._element,
            "row": self._row,
            "describe": self._describe,
            "month": self._month,
            "date": self._date,
            "numbered": self._numbered,
            "follows": self._follows,
            "towards": self._towards,
            "arrow": self._arrow,
            "when": self._when,
            "order": self._order,
            "fact": self._fact,
        }

    def ask(self) -> Question | None:
        """A question of a random task; None if the screen has nothing to ask of that task."""
        (task,) = self._rng.choices(TASKS, [_WEIGHTS[task] for task in TASKS])
        return self.ask_of(task)

    def ask_of(self, task: str) -> Question | None:
        """``copy`` is not about the screen, so it is None here; see ``packing``."""
        return self._makers[task]() if task in self._makers else None

    @cached_property
    def _unique(self) -> list[Text]:
        """Texts of which there is one on the screen, whatever the case of their letters."""
        everywhere = Counter(run.text.lower() for run in self._layout.runs)
        everywhere.update(word.text.lower() for word in self._layout.words)
        whole = [text for text in self._runs if len(text.text) <= _LONGEST]
        parts = [word for word in self._words if len(word.text) > 2]
        # A few words of each line: paragraphs would drown everything else.
        parts = self._rng.sample(parts, min(len(parts), len(whole) // 2 + 2))
        return [text for text in whole + parts if everywhere[text.text.lower()] == 1]

    def _made(
        self, task: str, wording: Phrases, values: dict[str, str], answer: str, box: Box | None
    ) -> Question:
        text = phrase(self._rng, wording, values)
        return Question(task, text, answer, wording, values, box)

    def _point(self, task: str, wording: Phrases, values: dict[str, str], pixels: Box) -> Question:
        box = self._view.box(pixels)
        x, y = centre(box)
        return self._made(task, wording, values, f"{number(x)},{number(y)}", box)

    def _at(self, pixels: Box) -> dict[str, str]:
        """A place well inside a box, as the slots of a question."""
        left, top, right, bottom = self._view.box(pixels)
        across, down = (0.5 + self._rng.uniform(-0.2, 0.2) for _ in range(2))
        x, y = left + (right - left) * across, top + (bottom - top) * down
        return {"x": str(number(x)), "y": str(number(y))}

    def _some(self, choices: Sequence[Text]) -> Text | None:
        return self._rng.choice(choices) if choices else None

    def _locate(self) -> Question | None:
        if (text := self._some(self._unique)) is None:
            return None
        return self._point("locate", phrases.LOCATE, {"text": text.text}, text.box)

    def _read(self) -> Question | None:
        runs = [run for run in self._runs if len(run.text) <= _LONGEST]
        if (text := self._some(runs)) is None:
            return None
        return self._made("read", phrases.READ, self._at(text.box), text.text, None)

    def _box(self) -> Question | None:
        named = self._named
        if named and self._rng.random() < 0.5:
            thing = self._rng.choice(named)
            name, pixels = f"the {thing.label} {thing.kind}", thing.box
        elif (text := self._some(self._unique)) is not None:
            name, pixels = text.text, text.box
        else:
            return None
        answer = ",".join(str(number(edge)) for edge in self._view.box(pixels))
        return self._made("box", phrases.BOX, {"text": name}, answer, None)

    def _kind(self) -> Question | None:
        if self._rng.random() < 0.2:
            inside = [thing.box for thing in self._layout.things]
            bare = [run for run in self._runs if not any(_holds(box, run.box) for box in inside)]
            if (text := self._some(bare)) is None:
                return None
            return self._made("kind", phrases.KIND, self._at(text.box), "text", None)
        # Kinds alike, however many of each there are.
        by_kind = self._by_kind()
        if not by_kind:
            return None
        thing = self._rng.choice(by_kind[self._rng.choice(sorted(by_kind))])
        return self._made("kind", phrases.KIND, self._at(thing.box), thing.kind, None)

    def _by_kind(self) -> dict[str, list[Thing]]:
        kinds: dict[str, list[Thing]] = {}
        for thing in self._things:
            kinds.setdefault(thing.kind, []).append(thing)
        return kinds

    def _beside(self) -> Question | None:
        if (text := self._some(self._unique)) is None:
            return None
        side = self._rng.choice(tuple(phrases.SIDES))
        # A word within a line has its line's other words beside it.
        lines = self._layout.runs if text in self._runs else self._layout.words
        found = _next_to(text, side, lines)
        if found is None or len(found.text) > _LONGEST or not self._view.shows(found.box):
            return None
        values = {"text": text.text, "side": expand(self._rng, phrases.SIDES[side])}
        return self._made("beside", phrases.BESIDE, values, found.text, None)

    def _rank(self) -> Question | None:
        if (ranked := self._ranked()) is None:
            return None
        thing, values, is_usual = ranked
        wording = phrases.RANK_WHERE if is_usual else phrases.RANK_IN_ORDER
        return self._point("rank", wording, values, thing.box)

    def _rank_label(self) -> Question | None:
        if (ranked := self._ranked()) is None:
            return None
        thing, values, is_usual = ranked
        name = thing.owner or thing.label
        if not is_usual or thing.kind == "day" or not name:
            return None
        return self._made("rank-label", phrases.RANK_READ, values, name, None)

    def _ranked(self) -> tuple[Thing, dict[str, str], bool] | None:
        """A thing among others of its kind, its rank, and whether the order is the usual one.

        The usual order needs no word: fields go down the columns, as forms are filled in, all
        else is counted as it is read.
        """
        by_kind = {kind: things for kind, things in self._by_kind().items() if len(things) > 1}
        if not self._is_whole or not by_kind:
            return None
        kinds = sorted(by_kind)
        # Of forms the fields are asked for by number, and by columns that is hardest.
        likely = [3 if kind == "field" and self._layout.columns else 1 for kind in kinds]
        (kind,) = self._rng.choices(kinds, likely)
        things, order = reading_order(by_kind[kind]), "reading"
        owned = [thing for thing in self._things if thing.owner]
        if kind == "field" and self._layout.columns and self._rng.random() < 0.75:
            things, order = list(self._layout.columns), "columns"
        elif kind == "button" and owned and self._rng.random() < 0.6:
            things, kind, order = owned, "row", "down"
        # Low ranks are asked for most, as people do.
        rank = min(self._rng.randint(1, len(things)) for _ in range(self._rng.randint(1, 2)))
        values = {
            "thing": kind,
            "things": _PLURALS.get(kind, f"{kind}s"),
            "number": str(rank),
            "ordinal": ordinal(rank),
            "rank": RANKS[rank - 1] if rank <= len(RANKS) else ordinal(rank),
            "order": expand(self._rng, phrases.ORDERS[order]),
        }
        if rank == len(things) and self._rng.random() < 0.7:
            values["rank"] = values["ordinal"] = "last"
        return things[rank - 1], values, (kind == "field") == (order == "columns")

    def _list(self) -> Question | None:
        if not self._is_whole:
            return None
        kinds = sorted({_PLURALS.get(kind, f"{kind}s") for kind in self._by_kind()})
        return self._made("list", phrases.LIST, {}, ", ".join(kinds) or "only text", None)

    def _count(self) -> Question | None:
        by_kind = self._by_kind()
        if not self._is_whole or not by_kind:
            return None
        kind = self._rng.choice(sorted(by_kind))
        values = {"things": _PLURALS.get(kind, f"{kind}s")}
        return self._made("count", phrases.COUNT, values, str(len(by_kind[kind])), None)

    def _label(self) -> Question | None:
        named = [
            thing
            for thing in self._things
            if thing.label and thing.kind in ("field", "button", "switch", "option", "arrow")
        ]
        if not named:
            return None
        thing = self._rng.choice(named)
        values = self._at(thing.box) | {"thing": thing.kind}
        return self._made("label", phrases.LABEL, values, thing.label, None)

    def _present(self) -> Question | None:
        if self._rng.random() < 0.5:
            if (text := self._some(self._unique)) is None:
                return None
            return self._made("present", phrases.PRESENT, {"text": text.text}, "yes", None)
        # Even what only a part of a line says counts as there.
        written = " ".join(run.text.lower() for run in self._layout.runs)
        absent = words.label(self._rng)
        if absent.lower() in written:
            return None
        return self._made("present", phrases.PRESENT, {"text": absent}, "no", None)

    def _element(self) -> Question | None:
        named = self._named
        if not named:
            return None
        thing = self._rng.choice(named)
        values = {"text": thing.label, "thing": thing.kind}
        return self._point("element", phrases.ELEMENT, values, thing.box)

    def _row(self) -> Question | None:
        owned = [thing for thing in self._things if self._owner(thing)]
        if not owned:
            return None
        thing = self._rng.choice(owned)
        values = {"text": self._owner(thing), "thing": thing.kind}
        return self._point("row", phrases.OWNED, values, thing.box)

    @cached_property
    def _named(self) -> list[Thing]:
        """Things whose label no other of their kind has; days no more than any other kind."""
        labels = self._labels
        named = [t for t in self._things if t.label and labels[t.kind, t.label.lower()] == 1]
        days = [thing for thing in named if thing.kind == "day"]
        others = [thing for thing in named if thing.kind != "day"]
        return others + self._rng.sample(days, min(len(days), 2 + len(others)))

    @cached_property
    def _labels(self) -> Counter[tuple[str, str]]:
        return Counter((thing.kind, thing.label.lower()) for thing in self._layout.things)

    def _owner(self, thing: Thing) -> str:
        """The text in whose row a button stands that is labelled as others are."""
        if thing.kind != "button" or self._labels[thing.kind, thing.label.lower()] == 1:
            return ""
        if thing.owner:
            return thing.owner
        line = Text("", thing.box)
        found = _next_to(line, "left", self._layout.runs)
        return found.text if found in self._unique else ""

    def _describe(self) -> Question | None:
        return self._made("describe", phrases.DESCRIBE, {}, self._layout.what, None)

    @cached_property
    def _arrows(self) -> list[Thing]:
        """The arrows of the calendar, if they are in view."""
        return [thing for thing in self._things if thing.label in phrases.ARROWS]

    @cached_property
    def _shown(self) -> int | None:
        """The month that the calendar shows, in months since the year 0; None if it is cut off."""
        # Its title stands between the arrows or beside them.
        if not self._layout.month or not (self._is_whole or len(self._arrows) == 2):
            return None
        name, year = self._layout.month.split(" ")
        return int(year) * 12 + MONTHS.index(name)

    def _month(self) -> Question | None:
        if self._shown is None:
            return None
        return self._made("month", phrases.MONTH, {}, self._layout.month, None)

    def _numbered(self) -> Question | None:
        """A name is written letter by letter; a number must be known as a whole."""
        if self._shown is None:
            return None
        return self._made("numbered", phrases.NUMBERED, {}, str(self._shown % 12 + 1), None)

    def _follows(self) -> Question | None:
        if self._shown is None:
            return None
        away = self._rng.choice((1, 1, 1, -1, -1, -1, *phrases.SHIFTS))
        values = {"side": expand(self._rng, phrases.SHIFTS[away])}
        answer = _month_name(self._shown + away)
        return self._made("follows", phrases.FOLLOWS, values, answer, None)

    def _date(self) -> Question | None:
        days = [day for day in self._layout.days if self._view.shows(day.box)]
        if not days:
            return None
        day = self._rng.choice(days)
        return self._point("date", phrases.DATE, {"date": self._date_text(day.values)}, day.box)

    def _date_text(self, values: dict[str, str], naming: frozenset[str] = frozenset()) -> str:
        """A way to say a date, with one of the slots in ``naming`` if any are given."""
        known = {slot: value for slot, value in values.items() if slot not in _SHORTEST}
        return word_plainly(self._rng, phrases.DATES, known, naming).format_map(known)

    def _towards(self) -> Question | None:
        """A day of any month: its cell, or the arrow that leads to its month."""
        if self._shown is None or len(self._arrows) < 2:
            return None
        days = [day for day in self._layout.days if self._view.shows(day.box)]
        if days and self._rng.random() < 0.3:
            day = self._rng.choice(days)
            text, box = self._date_text(day.values, MONTH_SLOTS), day.box
        else:
            away, with_year = self._distance()
            label = "next month" if away > 0 else "previous month"
            text = self._distant_date(self._shown + away, with_year)
            box = next(arrow.box for arrow in self._arrows if arrow.label == label)
        return self._point("towards", phrases.TOWARDS, {"date": text}, box)

    def _distant_date(self, month: int, with_year: bool) -> str:
        """A month, or a day of it."""
        if self._rng.random() < 0.35:
            return self._month_text(month, with_year)
        values = date_values(day_in(self._rng, month))
        return self._date_text(values, YEAR_SLOTS if with_year else MONTH_SLOTS)

    def _arrow(self) -> Question | None:
        if len(self._arrows) < 2:
            return None
        arrow = self._rng.choice(self._arrows)
        values = {"text": expand(self._rng, phrases.ARROWS[arrow.label])}
        return self._point("arrow", phrases.ARROW, values, arrow.box)

    def _when(self) -> Question | None:
        if self._shown is None:
            return None
        month, answer = self._other_month(self._shown)
        return self._made("when", phrases.WHEN, {"month": month}, answer, None)

    def _order(self) -> Question | None:
        """As ``when``, of two months in the question: to compare is one skill, to read another."""
        shown = self._rng.randrange(2018 * 12, 2034 * 12)
        month, answer = self._other_month(shown)
        values = {"month": month, "other": _month_name(shown)}
        return self._made("order", phrases.ORDER, values, answer, None)

    def _other_month(self, shown: int) -> tuple[str, str]:
        """A date before or after a month, and which of the two it is, by how many months."""
        away, with_year = self._distance()
        way = "later" if away > 0 else "earlier"
        # The number teaches more than the way alone.
        return self._distant_date(shown + away, with_year), f"{way} by {abs(away)}"

    def _distance(self) -> tuple[int, bool]:
        """How many months away, and whether the year has to be said."""
        with_year = self._rng.random() < _FAR_SHARE
        away = self._rng.randint(1, _FAR if with_year else _NEAR)
        return self._rng.choice((-away, away)), with_year

    def _month_text(self, month: int, with_year: bool) -> str:
        name, year = _month_name(month).split(" ")
        name = name if self._rng.random() < 0.7 else name[:3]
        return f"{name} {year}" if with_year else name

    def _fact(self) -> Question | None:
        """Something said about a name, which is asked for: where a value begins and ends."""
        name, other = words.label(self._rng), words.label(self._rng)
        if name.lower() in other.lower() or other.lower() in name.lower():
            return None
        value, second = (typed_value(self._rng, text) for text in (name, other))
        before, stated, after = (
            expand(self._rng, self._rng.choice(parts))
            for parts in (phrases.BEFORE_FACT, phrases.FACTS, phrases.AFTER_FACT)
        )
        fact = re.sub(r" (?=[.,;!])", "", f"{before} {stated} {after}".lstrip())
        remarks = tuple(remark.replace("{fact}", fact) for remark in phrases.FACT.remarks)
        values = {"name": name, "value": value, "other": other, "second": second}
        return self._made("fact", Phrases((), remarks), values, value, None)


def _month_name(month: int) -> str:
    return f"{MONTHS[month % 12]} {month // 12}"


def _holds(outer: Box, inner: Box) -> bool:
    x, y = centre(inner)
    return outer[0] <= x <= outer[2] and outer[1] <= y <= outer[3]


def reading_order(things: Sequence[Thing]) -> list[Thing]:
    """Row by row; things whose middles lie within each other's height are one row."""
    rows: list[list[Thing]] = []
    for thing in sorted(things, key=lambda thing: centre(thing.box)[1]):
        first = rows[-1][0].box if rows else None
        if first is not None and first[1] <= centre(thing.box)[1] <= first[3]:
            rows[-1].append(thing)
        else:
            rows.append([thing])
    return [thing for row in rows for thing in sorted(row, key=lambda thing: thing.box[0])]


def _next_to(text: Text, side: str, texts: Sequence[Text]) -> Text | None:
    """The nearest text on one side that overlaps; None if two are about as near, or it is far."""
    axis = 0 if side in ("left", "right") else 1
    other = 1 - axis
    near, far = text.box[axis], text.box[axis + 2]
    low, high = text.box[other], text.box[other + 2]
    gaps = []
    for candidate in texts:
        box = candidate.box
        shared = min(high, box[other + 2]) - max(low, box[other])
        if shared < 0.5 * min(high - low, box[other + 2] - box[other]):
            continue
        gap = box[axis] - far if side in ("right", "below") else near - box[axis + 2]
        if gap > -2 and candidate is not text:
            gaps.append((gap, candidate))
    gaps.sort(key=lambda pair: pair[0])
    height = text.box[3] - text.box[1]
    if not gaps or gaps[0][0] > 12 * height:
        return None
    if len(gaps) > 1 and gaps[1][0] - gaps[0][0] < 0.3 * height:
        return None
    return gaps[0][1]
