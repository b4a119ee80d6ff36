"""The choices that make one calendar unlike another, and what its days can be called."""

from __future__ import annotations

import calendar
import random
from dataclasses import dataclass
from datetime import date, timedelta

from .canvas import Canvas
from .style import Style
from .words import MONTHS, WEEKDAYS

_HEADERS = (
    ("ends",) * 6
    + ("select",) * 3
    + ("selects",) * 2
    + ("left",) * 3
    + ("right", "arrows-left", "bare", "years", "banner")
)


_ARROWS = ("chevron",) * 4 + ("triangle",) * 2 + ("text", "text", "circle", "arrow", "words", "box")


_ARROW_TEXTS = (("<", ">"), ("\u2039", "\u203a"), ("\u00ab", "\u00bb"), ("<<", ">>"))


@dataclass(frozen=True)
class CalendarLook:
    """The choices of one calendar. Lengths are already scaled."""

    header: str
    arrows: str
    arrow_texts: tuple[str, str]
    title: str
    cell_width: float
    cell_height: float
    header_height: float
    weekday_height: float
    padding: float
    day_size: float
    title_size: float
    title_bold: bool
    sunday_first: bool
    week_numbers: bool
    six_rows: bool
    adjacent: str
    cells: str
    align: str
    selected: str
    selected_day: int
    range_days: int
    marked_days: tuple[int, ...]
    today: str
    today_day: int
    framed: str
    header_filled: bool
    days_bold: bool
    weekend_coloured: bool
    footer: str

    @property
    def columns(self) -> int:
        return 8 if self.week_numbers else 7


@dataclass
class MonthDrawing:
    """One calendar under way."""

    canvas: Canvas
    rng: random.Random
    style: Style
    look: CalendarLook
    year: int
    month: int
    weeks: list[list[date]]
    left: float
    top: float

    @property
    def right(self) -> float:
        return self.left + self.look.cell_width * self.look.columns

    @property
    def days_top(self) -> float:
        return self.top + self.look.header_height + self.look.weekday_height

    @property
    def bottom(self) -> float:
        return self.days_top + len(self.weeks) * self.look.cell_height


def draw_look(
    rng: random.Random,
    style: Style,
    width: float,
    height: float,
    year: int,
    month: int,
) -> CalendarLook:
    px = style.px
    wide = rng.random() < 0.1
    week_numbers = rng.random() < 0.07
    cell_width = px(rng.uniform(46, 100) if wide else rng.uniform(24, 46))
    cell_width = max(px(15), min(cell_width, (width - px(16)) / (7 + week_numbers)))
    cell_height = cell_width * rng.uniform(0.85, 1.05)
    if wide or rng.random() < 0.7:
        cell_height = px(rng.uniform(24, 60) if wide else rng.uniform(19, 42))
    header_height, weekday_height = px(rng.uniform(22, 46)), px(rng.uniform(18, 34))
    if rng.random() < 0.05:
        weekday_height = 0.0
    roof = header_height + weekday_height + px(34)
    cell_height = max(px(14), min(cell_height, (height - roof) / 6))
    header = rng.choice(_HEADERS)
    day_size = min(rng.uniform(11, 16.5), cell_height / style.scale * 0.7)
    return CalendarLook(
        header=header,
        arrows=rng.choice(_ARROWS),
        arrow_texts=rng.choice(_ARROW_TEXTS),
        title=_title(rng, year, month),
        cell_width=cell_width,
        cell_height=cell_height,
        header_height=header_height,
        weekday_height=weekday_height,
        padding=px(rng.uniform(0, 14)),
        day_size=max(7.2 / style.scale, min(day_size, cell_width / style.scale * 0.58)),
        title_size=rng.uniform(12, 19),
        title_bold=rng.random() < 0.55,
        sunday_first=rng.random() < 0.6,
        week_numbers=week_numbers,
        six_rows=rng.random() < 0.3,
        adjacent=rng.choice(("faint", "faint", "blank", "blank", "muted")),
        cells=rng.choice(("plain",) * 5 + ("grid", "filled", "filled", "outlined", "rows")),
        align=rng.choice(("m",) * 6 + ("r", "corner" if wide else "m")),
        selected=rng.choice(("circle", "circle", "square", "rounded", "outline", "tint")),
        selected_day=rng.randint(1, 28) if rng.random() < 0.65 else 0,
        range_days=rng.randint(2, 9) if rng.random() < 0.06 else 0,
        marked_days=tuple(rng.sample(range(1, 29), 6)) if rng.random() < 0.08 else (),
        today=rng.choice(("outline", "bold", "dot", "tint", "underline")),
        today_day=rng.randint(1, 28) if rng.random() < 0.45 else 0,
        framed=rng.choice(("box",) * 6 + ("wide", "fill", "none", "none", "none")),
        header_filled=rng.random() < 0.14,
        days_bold=rng.random() < 0.1,
        weekend_coloured=rng.random() < 0.12,
        footer=rng.choice(("",) * 8 + ("today", "today-clear", "buttons")),
    )


def _title(rng: random.Random, year: int, month: int) -> str:
    name = MONTHS[month - 1]
    return rng.choice(
        [f"{name} {year}"] * 5
        + [
            f"{name}, {year}",
            f"{name[:3]} {year}",
            f"{year} {name}",
            f"{name}  {year}",
            f"{name.upper()} {year}",
            f"{name[:3].upper()} {year}",
            f"{month:02d}/{year}",
            f"{name[:3]}. {year}",
        ]
    )


def weeks_of(year: int, month: int, look: CalendarLook) -> list[list[date]]:
    weeks = calendar.Calendar(6 if look.sunday_first else 0).monthdatescalendar(year, month)
    if look.six_rows and look.adjacent != "blank":
        while len(weeks) < 6:
            weeks.append([day + timedelta(7) for day in weeks[-1]])
    return weeks


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th …"""
    if 10 <= number % 100 <= 20:
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


MONTH_SLOTS = frozenset({"month", "mon", "iso"})
YEAR_SLOTS = frozenset({"year", "iso"})
"""Values of a date of which its wording needs one, where the month or the year must be said."""


def day_in(rng: random.Random, month: int) -> date:
    """Some day of a month, which is counted from January of the year 0."""
    year, index = divmod(month, 12)
    return date(year, index + 1, rng.randint(1, calendar.monthrange(year, index + 1)[1]))


def date_values(day: date) -> dict[str, str]:
    """What a date can be called in any month."""
    month = MONTHS[day.month - 1]
    values = {
        "day": str(day.day),
        "ordinal": ordinal(day.day),
        "month": month,
        "mon": month[:3],
        "number": str(day.month),
        "year": str(day.year),
        "weekday": WEEKDAYS[(day.weekday() + 1) % 7],
        "iso": day.isoformat(),
    }
    last = calendar.monthrange(day.year, day.month)[1]
    if day.day == last:
        values["last"] = "last"
    if day.day == 1:
        values["first"] = "first"
    if day.day <= 28:
        rank = ("first", "second", "third", "fourth")[(day.day - 1) // 7]
        values["nth"] = rank
    return values


def day_values(day: date, look: CalendarLook) -> dict[str, str]:
    """What a date can be called while its month is shown."""
    values = date_values(day) | {"bare": ordinal(day.day)}
    # A bare number is the day only if nothing else on the calendar is written like it.
    if look.adjacent == "blank" and not look.week_numbers:
        values["sole"] = str(day.day)
    return values
