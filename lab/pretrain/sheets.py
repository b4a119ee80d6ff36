"""Draws screens of random controls and words, to learn reading and locating from.

They show no calendar, form or list in particular: whatever a text says, wherever it stands.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from lab.screens.canvas import Canvas, mix, readable_on
from lab.screens.page import Page, picture
from lab.screens.style import ButtonLook, Style, draw_button, draw_style

from . import words

WHAT = "a page of texts and controls"


def draw_sheet(rng: random.Random, size: tuple[int, int], fonts: Sequence[Path] = ()) -> Canvas:
    """Blocks of controls in one to three columns, until each column is full."""
    width, height = size
    growth = min(width / 640, height / 448) ** rng.choice((0.0, 0.5, 1.0))
    style = draw_style(rng, max(0.6, rng.uniform(0.62, 1.3) * growth), fonts)
    canvas = Canvas(width, height, style.ground)
    top = _bar(canvas, rng, style) if rng.random() < 0.3 else rng.uniform(4, 30)
    columns = rng.choice((1, 1, 2, 2, 3))
    while columns > 1 and width / columns < style.px(190):
        columns -= 1
    edges = [0.0, *sorted(rng.uniform(0.8, 1.2) + place for place in range(columns - 1)), columns]
    for left, right in pairwise(edges):
        page = Page(
            canvas,
            rng,
            style,
            left / columns * width + rng.uniform(6, 20),
            right / columns * width - rng.uniform(4, 16),
            top + rng.uniform(0, 24),
            height - 4.0,
        )
        _fill(page)
    return canvas


def _fill(page: Page) -> None:
    rng = page.rng
    while page.fits(page.face.height * 2) and rng.random() < 0.94:
        if rng.random() < 0.12:
            page.y += page.style.px(rng.uniform(10, 70))
        else:
            rng.choices(_BLOCKS, _WEIGHTS)[0](page)
        page.y += page.style.px(rng.uniform(4, 22))


def _bar(canvas: Canvas, rng: random.Random, style: Style) -> float:
    height = style.px(rng.uniform(26, 50))
    fill = rng.choice((style.accent, mix(style.ground, style.ink, 0.08), (40, 44, 52)))
    canvas.rectangle((0, 0, canvas.width, height), fill=fill)
    face, x = style.face(rng.uniform(11, 16)), rng.uniform(6, 40)
    for _ in range(rng.randint(2, 8)):
        text = words.label(rng)
        if x + face.width(text) > canvas.width - 4:
            break
        x += canvas.text(x, height / 2, text, face, readable_on(fill), "lm") + rng.randint(14, 40)
    return height + 2


def _room(page: Page, x: float) -> float:
    return max(0.0, page.right - x)


def _headline(page: Page) -> None:
    page.headline(words.line(page.rng, page.rng.randint(1, 4)), page.rng.uniform(14, 26))


def _paragraph(page: Page) -> None:
    rng, style = page.rng, page.style
    face = style.face(style.text_size * rng.uniform(0.8, 1.1))
    colour = rng.choice((style.ink, style.ink, style.muted))
    for _ in range(rng.randint(1, 5)):
        if not page.fits(face.height):
            return
        text = words.line(rng, rng.randint(2, 9))
        while text and face.width(text) > page.width:
            text = text.rpartition(" ")[0]
        page.canvas.text(page.left, page.y, text, face, colour)
        page.y += face.height * 1.2


def _buttons(page: Page) -> None:
    rng, style = page.rng, page.style
    look = ButtonLook.draw(rng, style)
    height, x = style.px(look.height), page.left
    for _ in range(rng.randint(1, 5)):
        label = words.label(rng)
        width = look.width(style, label)
        if width > _room(page, x):
            if x == page.left:
                return
            x, page.y = page.left, page.y + height + style.px(6)
            if width > page.width:
                return
        if not page.fits(height):
            return
        draw_button(page.canvas, style, look, x, page.y, label)
        x += width + style.px(rng.uniform(4, 14))
    page.y += height


def _fields(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    height = style.px(rng.uniform(20, 34))
    beside = rng.random() < 0.35 and page.width > style.px(220)
    face, column = page.face, page.width * rng.uniform(0.35, 0.5)
    for _ in range(rng.randint(1, 5)):
        label, top = words.label(rng), page.y
        left, room = page.left, column - 6 if beside else page.width
        label = face.clipped(label, room).strip()
        if beside:
            left += column
        else:
            top += face.height * 1.15
        if top + height > page.bottom:
            return
        canvas.text(page.left, page.y + (height - face.height) / 2 * beside, label, face, style.ink)
        box = (left, top, left + (page.right - left) * rng.uniform(0.6, 1), top + height)
        page.field(box, label)
        if rng.random() < 0.4:
            shown = words.value(rng)
            if face.width(shown) < box[2] - box[0] - 16:
                canvas.text(box[0] + 6, (box[1] + box[3]) / 2, shown, face, style.ink, "lm")
        page.y = top + height + style.px(rng.uniform(3, 12))


def _rows(page: Page) -> None:
    """Names with a value or a control at the right end of each row."""
    rng, style, canvas = page.rng, page.style, page.canvas
    height = style.px(rng.uniform(22, 46))
    look, kind = ButtonLook.draw(rng, style), rng.choice(("value", "button", "switch", "none"))
    label, bold = words.label(rng), rng.random() < 0.4
    face = style.face(style.text_size, bold=bold)
    for _ in range(rng.randint(2, 8)):
        if not page.fits(height):
            return
        middle, end = page.y + height / 2, page.right
        if kind == "button":
            end -= look.width(style, label)
        elif kind == "switch":
            end -= style.px(28)
        shown = words.value(rng) if rng.random() < 0.5 else words.line(rng, rng.randint(1, 3))
        shown = face.clipped(shown, end - page.left - 6).strip()
        canvas.text(page.left, middle, shown, face, style.ink, "lm")
        if kind == "button":
            draw_button(canvas, style, look, end, middle - style.px(look.height) / 2, label)
        elif kind == "switch":
            _switch(page, end, middle, shown)
        elif kind == "value":
            text = words.value(rng)
            if face.width(shown) + page.face.width(text) + 12 < page.width:
                canvas.text(page.right, middle, text, page.face, style.muted, "rm")
        page.y += height
        if rng.random() < 0.8:
            canvas.horizontal(page.left, page.right, page.y, style.faint)


def _switch(page: Page, left: float, middle: float, label: str) -> None:
    style, half = page.style, page.style.px(7)
    is_on = page.rng.random() < 0.5
    box = (left, middle - half, left + 4 * half, middle + half)
    page.canvas.rectangle(box, style.accent if is_on else style.faint, radius=half)
    knob = left + 3 * half if is_on else left + half
    page.canvas.disc(knob, middle, half - 2, (255, 255, 255))
    page.canvas.element("switch", box, label)


def _options(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    height, radius = page.face.height * rng.uniform(1.3, 2), style.px(rng.uniform(5, 7))
    is_round = rng.random() < 0.5
    for _ in range(rng.randint(2, 6)):
        if not page.fits(height):
            return
        middle = page.y + height / 2
        box = (page.left, middle - radius, page.left + 2 * radius, middle + radius)
        canvas.rectangle(box, outline=style.muted, radius=radius if is_round else 0)
        label = page.face.clipped(words.label(rng), page.width - 4 * radius).strip()
        canvas.text(page.left + 3 * radius, middle, label, page.face, style.ink, "lm")
        canvas.element("option", box, label)
        page.y += height


def _grid(page: Page) -> None:
    """Cells of numbers or short words, in lines or boxes."""
    rng, style, canvas = page.rng, page.style, page.canvas
    columns, width = rng.randint(2, 8), style.px(rng.uniform(26, 70))
    columns = max(1, min(columns, int(page.width / width)))
    height, is_boxed = style.px(rng.uniform(20, 40)), rng.random() < 0.5
    face = style.face(rng.uniform(10.5, 16))
    numbers, first = rng.random() < 0.6, rng.randint(0, 90)
    in_order = rng.random() < 0.4
    for row in range(rng.randint(2, 6)):
        if not page.fits(height):
            return
        for column in range(columns):
            left = page.left + column * width
            box = (left + 1, page.y + 1, left + width - 1, page.y + height - 1)
            if is_boxed:
                canvas.rectangle(box, style.panel, style.line, min(style.corner, 6))
            count = first + row * columns + column if in_order else rng.randint(0, 99)
            text = str(count) if numbers else face.clipped(words.word(rng), width - 4)
            canvas.text(left + width / 2, page.y + height / 2, text, face, style.ink, "mm")
        page.y += height


def _table(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    columns = max(1, min(rng.randint(2, 5), int(page.width / style.px(80))))
    width, height = page.width / columns, style.px(rng.uniform(18, 34))
    face = style.face(style.text_size * rng.uniform(0.8, 1))
    bold, lines = style.face(style.text_size * 0.9, bold=True), rng.random() < 0.6
    for row in range(rng.randint(2, 9)):
        if not page.fits(height):
            return
        for column in range(columns):
            text_face = face if row else bold
            text = words.value(rng) if row else words.label(rng)
            text = text_face.clipped(text, width - 8).strip()
            x = page.left + column * width
            canvas.text(x, page.y + height / 2, text, text_face, style.ink, "lm")
        page.y += height
        if lines or not row:
            canvas.horizontal(page.left, page.right, page.y, style.line)


def _card(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    width = min(page.width, style.px(rng.uniform(120, 320)))
    box = (page.left, page.y, page.left + width, page.y + style.px(rng.uniform(50, 110)))
    if box[3] > page.bottom:
        return
    page.panel(box)
    inner = Page(canvas, rng, style, box[0] + 8, box[2] - 8, box[1] + 6, box[3] - 4)
    if rng.random() < 0.3 and width > style.px(160):
        side = min(box[3] - box[1] - 12, width * 0.35)
        picture(page, (box[0] + 6, box[1] + 6, box[0] + 6 + side, box[1] + 6 + side))
        inner.left += side + 6
    bold = style.face(style.text_size, bold=True)
    title = bold.clipped(words.label(rng), inner.width).strip()
    canvas.text(inner.left, inner.y, title, bold, style.ink)
    inner.y += bold.height * 1.3
    rng.choice((_paragraph, _buttons))(inner)
    page.y = box[3]


def _links(page: Page) -> None:
    rng, style = page.rng, page.style
    face, x = style.face(rng.uniform(10.5, 14)), page.left
    for _ in range(rng.randint(1, 6)):
        text = words.label(rng)
        width = face.width(text)
        if width > _room(page, x):
            break
        page.canvas.text(x, page.y, text, face, style.link)
        x += width + style.px(rng.uniform(12, 26))
    page.y += face.height


_BLOCKS: tuple[Callable[[Page], None], ...] = (
    _headline,
    _paragraph,
    _buttons,
    _fields,
    _rows,
    _options,
    _grid,
    _table,
    _card,
    _links,
)
_WEIGHTS = (8, 10, 14, 20, 16, 8, 14, 12, 10, 6)
