"""Draws the top of a calendar: title, month arrows, names of the weekdays."""

from __future__ import annotations

from .calendar_look import MonthDrawing
from .canvas import Box, Colour, readable_on
from .widget import Target
from .words import MONTHS, WEEKDAYS

_ARROW_NAMES = {"left": "previous month", "right": "next month"}


def draw_header(drawing: MonthDrawing) -> list[Target]:
    """Draws title and arrows and returns the arrows."""
    look, style, canvas = drawing.look, drawing.style, drawing.canvas
    colour = style.ink
    if look.header_filled or look.header == "banner":
        band = (drawing.left, drawing.top, drawing.right, drawing.top + look.header_height)
        canvas.rectangle(band, fill=style.accent)
        colour = readable_on(style.accent)
    left_arrow, right_arrow = _arrow_places(drawing)
    _draw_title(drawing, colour)
    if look.header == "bare":
        return []
    previous = _arrow(drawing, left_arrow, "left", colour)
    following = _arrow(drawing, right_arrow, "right", colour)
    if look.header == "years":
        size = style.px(4.5)
        middle = drawing.top + look.header_height / 2
        for x, direction in ((drawing.left, "left"), (drawing.right, "right")):
            shift = look.cell_width * (0.35 if direction == "left" else -0.35)
            for step in (-0.5, 0.5):
                canvas.chevron(x + shift + step * size, middle, size, direction, colour)
    return [
        Target("previous-month", previous, {"previous": "previous"}),
        Target("next-month", following, {"next": "next"}),
    ]


def _arrow_places(drawing: MonthDrawing) -> tuple[float, float]:
    """The x of the middle of both arrows."""
    look, left, right = drawing.look, drawing.left, drawing.right
    cell = look.cell_width
    if look.header in ("left", "banner"):
        return right - cell * 1.45, right - cell * 0.5
    if look.header in ("right", "arrows-left"):
        return left + cell * 0.5, left + cell * 1.45
    if look.header == "years":
        return left + cell * 1.2, right - cell * 1.2
    return left + cell * 0.5, right - cell * 0.5


def _draw_title(drawing: MonthDrawing, colour: Colour) -> None:
    look, canvas, style = drawing.look, drawing.canvas, drawing.style
    middle = drawing.top + look.header_height / 2
    room = drawing.right - drawing.left - look.cell_width * (3.4 if look.header == "years" else 2)
    size = look.title_size
    face = style.widget_face(size, bold=look.title_bold)
    while face.width(look.title) > room and size > 8 / style.scale:
        size *= 0.92
        face = style.widget_face(size, bold=look.title_bold)
    if look.header in ("select", "selects"):
        _month_select(drawing, colour, size, room)
    elif look.header in ("left", "banner"):
        canvas.text(drawing.left + style.px(5), middle, look.title, face, colour, "lm")
    elif look.header == "right":
        canvas.text(drawing.right - style.px(5), middle, look.title, face, colour, "rm")
    elif look.header == "arrows-left":
        x = drawing.left + look.cell_width * 2.1
        canvas.text(x, middle, look.title, face, colour, "lm")
    else:
        x = (drawing.left + drawing.right) / 2
        canvas.text(x, middle, look.title, face, colour, "mm")


def _month_select(drawing: MonthDrawing, colour: Colour, size: float, room: float) -> None:
    """A month drop-down and a year beside it."""
    look, canvas, style = drawing.look, drawing.canvas, drawing.style
    name, year = MONTHS[drawing.month - 1], str(drawing.year)
    boxed = look.header == "selects"
    gap, mark = style.px(9), style.px(3)
    face = style.widget_face(size, bold=look.title_bold)
    extra = gap * (5 if boxed else 3)
    while face.width(name + year) + extra > room and size > 7.5 / style.scale:
        size *= 0.92
        face = style.widget_face(size, bold=look.title_bold)
    x = (drawing.left + drawing.right - face.width(name + year) - extra) / 2
    middle = drawing.top + look.header_height / 2
    for text in (name, year):
        width = face.width(text)
        if boxed:
            half = face.height * 0.6
            box = (x - gap / 2, middle - half, x + width + gap * 1.7, middle + half)
            canvas.rectangle(box, style.panel, style.line, radius=min(style.corner, 4))
            colour = style.ink
        canvas.text(x, middle, text, face, colour, "lm")
        if boxed or text == name:
            canvas.chevron(x + width + gap, middle, mark, "down", colour, 2 if boxed else 1)
        x += width + gap * (3.2 if boxed else 2.4)


def _arrow(drawing: MonthDrawing, x: float, direction: str, colour: Colour) -> Box:
    look, canvas, style = drawing.look, drawing.canvas, drawing.style
    middle = drawing.top + look.header_height / 2
    half = min(look.cell_width, look.header_height) * 0.45
    box = (x - half, middle - half, x + half, middle + half)
    size = style.px(3.2 + look.title_size * 0.09)
    words = look.arrows == "words" and look.cell_width > style.px(34)
    if words and look.header not in ("select", "selects", "years"):
        return _arrow_word(drawing, x, direction, colour)
    canvas.element("arrow", box, _ARROW_NAMES[direction])
    if look.arrows == "text":
        text = look.arrow_texts[0 if direction == "left" else 1]
        canvas.text(x, middle, text, style.widget_face(look.title_size), colour, "mm")
    elif look.arrows == "triangle":
        canvas.triangle(x, middle, size, direction, colour)
    elif look.arrows == "arrow":
        canvas.arrow(x, middle, size * 1.3, direction, colour)
    else:
        if look.arrows in ("circle", "box"):
            radius = half if look.arrows == "circle" else min(style.corner, 5)
            canvas.rectangle(box, outline=style.line, radius=radius)
        canvas.chevron(x, middle, size, direction, colour, 2 if style.scale > 1 else 1)
    return box


def _arrow_word(drawing: MonthDrawing, x: float, direction: str, colour: Colour) -> Box:
    look, style = drawing.look, drawing.style
    word = "Prev" if direction == "left" else "Next"
    face = style.widget_face(look.title_size * 0.78)
    middle, width = drawing.top + look.header_height / 2, face.width(word)
    drawing.canvas.text(x, middle, word, face, colour, "mm")
    half = face.height * 0.6
    box = (x - width / 2 - 2, middle - half, x + width / 2 + 2, middle + half)
    drawing.canvas.element("arrow", box, _ARROW_NAMES[direction])
    return box


def draw_weekdays(drawing: MonthDrawing) -> None:
    look, rng, style = drawing.look, drawing.rng, drawing.style
    if not look.weekday_height:
        return
    names = WEEKDAYS if look.sunday_first else [*WEEKDAYS[1:], WEEKDAYS[0]]
    letters = rng.choice((3, 3, 3, 2, 2, 2, 1))
    upper = rng.random() < 0.2
    colour = rng.choice((style.ink, style.muted, style.muted, style.link))
    cell = look.cell_width / style.scale
    size = max(6.5 / style.scale, min(rng.uniform(9, 13), cell * (0.4 if letters == 3 else 0.5)))
    face = style.widget_face(size, bold=rng.random() < 0.5)
    middle = drawing.top + look.header_height + look.weekday_height / 2
    x = drawing.left + (look.columns - 6.5) * look.cell_width
    for name in names:
        shown = name[:letters].upper() if upper else name[:letters]
        drawing.canvas.text(x, middle, shown, face, colour, "mm")
        x += look.cell_width
    if rng.random() < 0.15:
        y = drawing.days_top - 1
        drawing.canvas.horizontal(drawing.left, drawing.right, y, style.line)
