"""Draws month calendars: date pickers and month views."""

from __future__ import annotations

import random
from datetime import date

from .calendar_header import draw_header, draw_weekdays
from .calendar_look import MonthDrawing, day_values, draw_look, weeks_of
from .canvas import Box, Canvas, Colour, inset, mix, readable_on
from .style import Style, heading
from .widget import Target, Widget
from .words import CALENDAR_HEADINGS


def draw_calendar(
    canvas: Canvas,
    rng: random.Random,
    style: Style,
    area: Box,
) -> Widget:
    """Draws a calendar into the area, from its top left."""
    left, top, right, bottom = area
    start = top
    top = heading(canvas, rng, style, left, top, CALENDAR_HEADINGS)
    year, month = rng.randint(2018, 2031), rng.randint(1, 12)
    look = draw_look(rng, style, right - left, bottom - top, year, month)
    spare = max(0.0, right - left - look.cell_width * look.columns - look.padding)
    shift = rng.uniform(0, min(style.px(220), spare)) if rng.random() < 0.6 else 0
    weeks = weeks_of(year, month, look)
    drawing = MonthDrawing(
        canvas, rng, style, look, year, month, weeks, left + look.padding / 2 + shift, top
    )
    if rng.random() < 0.12:
        drawing.top += _date_input(drawing)
    drawing.top += rng.uniform(0, style.px(18))
    _frame(drawing, right)
    arrows = draw_header(drawing)
    draw_weekdays(drawing)
    days = _days(drawing)
    _footer(drawing)
    shown = [target for target in days if canvas.contains(target.box)]
    arrows = [target for target in arrows if canvas.contains(target.box)]
    return Widget(
        adapter="calendar",
        name=f"calendar-{look.header}-{look.cells}",
        box=(left, start, drawing.right + look.padding, drawing.bottom + style.px(30)),
        targets=tuple(shown + arrows),
        options=tuple(shown),
        complete=len(shown) == len(days),
        labels=frozenset({"Today", "Clear"}),
    )


def _date_input(drawing: MonthDrawing) -> float:
    """The text box that opened the picker, above it."""
    style, canvas = drawing.style, drawing.canvas
    height = style.px(drawing.rng.uniform(24, 34))
    left, top = drawing.left, drawing.top
    box = (left, top, left + style.px(drawing.rng.uniform(120, 220)), top + height)
    canvas.rectangle(box, fill=style.panel, outline=style.line, radius=min(style.corner, 6))
    shown = drawing.rng.choice(("mm/dd/yyyy", "Select date", "dd.mm.yyyy", "Pick a date", ""))
    canvas.text(left + style.px(7), top + height / 2, shown, style.face(12.5), style.muted, "lm")
    canvas.element("field", box, shown)
    return height + style.px(drawing.rng.uniform(2, 8))


def _frame(drawing: MonthDrawing, area_right: float) -> None:
    look, style, canvas = drawing.look, drawing.style, drawing.canvas
    if look.framed == "none":
        return
    pad = look.padding
    right = area_right if look.framed == "wide" else drawing.right + pad
    foot = style.px(28) if look.footer else 0
    box = (drawing.left - pad, drawing.top - pad / 2, right, drawing.bottom + pad + foot)
    radius = min(style.corner, 12)
    if style.shadow:
        canvas.shadow(box, style.ground, radius, max(2, int(style.px(7))))
    outline = None if look.framed == "fill" else style.line
    canvas.rectangle(box, fill=style.panel, outline=outline, radius=radius)


def _days(drawing: MonthDrawing) -> list[Target]:
    look, style = drawing.look, drawing.style
    face = style.widget_face(look.day_size, bold=look.days_bold)
    offset = look.columns - 7
    targets = []
    for row, week in enumerate(drawing.weeks):
        top = drawing.days_top + row * look.cell_height
        if offset:
            number = str(week[0].isocalendar()[1])
            place = drawing.left + look.cell_width / 2, top + look.cell_height / 2
            drawing.canvas.text(*place, number, face, style.faint, "mm")
        if look.cells == "rows" and row:
            drawing.canvas.horizontal(drawing.left, drawing.right, top, style.faint)
        for column, day in enumerate(week):
            left = drawing.left + (column + offset) * look.cell_width
            box = (left, top, left + look.cell_width, top + look.cell_height)
            if day.month == drawing.month:
                _draw_day(drawing, box, day)
                drawing.canvas.element("day", box, str(day.day))
                targets.append(Target("day", box, day_values(day, look)))
            elif look.adjacent != "blank":
                _draw_adjacent(drawing, box, day)
    return targets


def _cell_ground(drawing: MonthDrawing, box: Box) -> None:
    look, style, canvas = drawing.look, drawing.style, drawing.canvas
    if look.cells == "grid":
        left, top, right, bottom = box
        canvas.rectangle((left, top, right + 1, bottom + 1), outline=style.line)
    elif look.cells == "filled":
        canvas.rectangle(inset(box, 1), fill=style.tint, radius=min(style.corner, 4))
    elif look.cells == "outlined":
        canvas.rectangle(inset(box, 1), style.tint, style.line, radius=min(style.corner, 4))


def _write_day(drawing: MonthDrawing, box: Box, text: str, colour: Colour, bold: bool) -> None:
    look, style = drawing.look, drawing.style
    face = style.widget_face(look.day_size, bold=bold)
    middle = (box[1] + box[3]) / 2
    if look.align == "corner":
        x, y = box[0] + style.px(4), box[1] + style.px(3)
        drawing.canvas.text(x, y, text, face, colour, "lt")
    elif look.align == "r":
        x = box[2] - min(style.px(5), look.cell_width * 0.15)
        drawing.canvas.text(x, middle, text, face, colour, "rm")
    else:
        drawing.canvas.text((box[0] + box[2]) / 2, middle, text, face, colour, "mm")


def _draw_adjacent(drawing: MonthDrawing, box: Box, day: date) -> None:
    if drawing.look.cells in ("grid", "filled"):
        _cell_ground(drawing, box)
    colour = drawing.style.faint
    if drawing.look.adjacent == "muted":
        colour = mix(drawing.style.faint, drawing.style.muted, 0.4)
    _write_day(drawing, box, str(day.day), colour, False)


def _draw_day(drawing: MonthDrawing, box: Box, day: date) -> None:
    look, style = drawing.look, drawing.style
    _cell_ground(drawing, box)
    colour, bold = style.ink, look.days_bold
    if look.weekend_coloured and day.weekday() >= 5:
        colour = style.link
    if look.selected_day < day.day <= look.selected_day + look.range_days:
        ground = mix(style.panel, style.accent, 0.18)
        drawing.canvas.rectangle((box[0], box[1] + 1, box[2], box[3] - 1), fill=ground)
    if day.day in look.marked_days:
        _mark_event(drawing, box)
    if day.day == look.today_day:
        colour, bold = _mark_today(drawing, box, colour)
    if day.day == look.selected_day:
        colour = _mark_selected(drawing, box, colour)
    _write_day(drawing, box, str(day.day), colour, bold)


def _mark_event(drawing: MonthDrawing, box: Box) -> None:
    """Something happens on this day: a bar in a large cell, a dot in a small one."""
    look, style, canvas = drawing.look, drawing.style, drawing.canvas
    if look.cell_height > style.px(38):
        left, right = box[0] + style.px(3), box[2] - style.px(3)
        bar = (left, box[3] - style.px(10), right, box[3] - style.px(4))
        canvas.rectangle(bar, fill=mix(style.panel, style.accent, 0.45), radius=2)
        return
    x = (box[0] + box[2]) / 2
    canvas.disc(x, box[3] - style.px(3), max(1.2, style.px(1.5)), style.accent)


def _mark_today(drawing: MonthDrawing, box: Box, colour: Colour) -> tuple[Colour, bool]:
    look, style, canvas = drawing.look, drawing.style, drawing.canvas
    middle_x, middle_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    if look.today == "bold":
        return style.link, True
    if look.today == "outline":
        canvas.rectangle(inset(box, 1), outline=style.accent, radius=style.corner)
    elif look.today == "tint":
        ground = mix(style.panel, style.accent, 0.2)
        canvas.rectangle(inset(box, 1), fill=ground, radius=style.corner)
    elif look.today == "dot":
        canvas.disc(middle_x, box[3] - style.px(4), max(1.5, style.px(2)), style.accent)
    else:
        half = look.cell_width * 0.3
        y = middle_y + style.px(look.day_size * 0.6)
        canvas.horizontal(middle_x - half, middle_x + half, y, style.accent)
    return colour, look.days_bold


def _mark_selected(drawing: MonthDrawing, box: Box, colour: Colour) -> Colour:
    look, style, canvas = drawing.look, drawing.style, drawing.canvas
    if look.selected == "outline":
        canvas.rectangle(inset(box, 1), outline=style.accent, radius=style.px(4), width=2)
        return colour
    if look.selected == "tint":
        ground = mix(style.panel, style.accent, 0.25)
        canvas.rectangle(inset(box, 1), fill=ground, radius=min(style.corner, 6))
        return colour
    if look.selected == "circle" and look.align != "corner":
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        canvas.disc(x, y, min(look.cell_width, look.cell_height) / 2, style.accent)
    else:
        radius = style.px(4) if look.selected == "rounded" else 0
        canvas.rectangle(inset(box, 0.5), fill=style.accent, radius=radius)
    return readable_on(style.accent)


def _footer(drawing: MonthDrawing) -> None:
    look, style, canvas = drawing.look, drawing.style, drawing.canvas
    if not look.footer:
        return
    face = style.widget_face(min(12.0, look.day_size))
    y = drawing.bottom + style.px(16)
    if look.footer == "today":
        canvas.text((drawing.left + drawing.right) / 2, y, "Today", face, style.link, "mm")
        return
    right = "Clear" if look.footer == "today-clear" else "Apply"
    canvas.text(drawing.left + style.px(8), y, "Today", face, style.link, "lm")
    canvas.text(drawing.right - style.px(8), y, right, face, style.link, "rm")
