"""Draws insurance claim forms: labelled fields in columns, and a group of buttons."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from .canvas import Box, Canvas
from .claim_input import draw_input
from .claim_look import (
    FormDrawing,
    FormField,
    draw_button_labels,
    draw_fields,
    draw_look,
)
from .style import ButtonLook, Style, draw_button
from .widget import Target, Widget
from .words import CLAIM_HEADINGS, FILLER


@dataclass(frozen=True)
class _Content:
    fields: list[FormField]
    buttons: list[str]


def draw_claim_form(
    canvas: Canvas,
    rng: random.Random,
    style: Style,
    area: Box,
    least_options: int,
    excluded_buttons: frozenset[str] = frozenset(),
) -> Widget:
    """Draws a claim form into the area, from its top left."""
    left, top, right, bottom = area
    content = _Content(
        draw_fields(rng, least_options, 8), draw_button_labels(rng, excluded_buttons)
    )
    look = draw_look(rng, style, right - left)
    wanted = style.px(rng.uniform(380, 640) if look.columns > 1 else rng.uniform(220, 430))
    drawing = FormDrawing(canvas, rng, style, look, left, left + min(right - left, wanted), top)
    _narrow(drawing, content)
    if look.legend and look.framed:
        # The legend sits astride the frame's upper edge.
        drawing.y += style.px(10)
    _frame(drawing, _fit(drawing, content, bottom - top))
    options = _lay_out(drawing, content)
    shown = tuple(target for target in drawing.targets if canvas.contains(target.box))
    counted = tuple(target for target in options if canvas.contains(target.box))
    return Widget(
        adapter="claim-window",
        name=f"form-{look.label}-{look.inputs}",
        box=(left, top, drawing.right, drawing.y),
        targets=shown,
        options=counted,
        complete=len(counted) == len(options),
        labels=frozenset(content.buttons),
    )


def _narrow(drawing: FormDrawing, content: _Content) -> None:
    """Takes away columns while a label would run into the next one."""
    look = drawing.look
    widest = max(
        drawing.label_face.width(item.label + look.label_suffix) for item in content.fields
    )
    room = drawing.inner_right - drawing.inner_left
    beside = drawing.style.px(60) if look.label in ("left", "right") else drawing.style.px(12)
    columns = max(1, min(look.columns, int(room / (widest + beside))))
    label = look.label
    if label in ("left", "right") and widest + beside > room:
        label = "above"
    drawing.look = replace(look, columns=columns, label=label)


def _fit(drawing: FormDrawing, content: _Content, room: float) -> float:
    """Tightens rows while the form is taller than its room, and returns its height."""
    rng, style = drawing.rng, drawing.style
    state = rng.getstate()
    height = 0.0
    for _ in range(5):
        # A form is as tall as its parts turn out to be: they are laid out on a canvas of one pixel.
        trial = replace(drawing, canvas=Canvas(1, 1, style.ground), targets=[])
        _lay_out(trial, content)
        rng.setstate(state)
        height = trial.y - drawing.y
        if height <= room:
            break
        look = drawing.look
        least = style.px(look.label_size) * 1.3
        drawing.look = replace(
            look,
            row_gap=look.row_gap * 0.6,
            input_height=max(look.input_height * 0.85, least),
            helper=False,
        )
    return height


def _lay_out(drawing: FormDrawing, content: _Content) -> list[Target]:
    """Draws heading, fields and buttons, moves below them, and returns the fields' targets."""
    _heading(drawing)
    if drawing.look.place == "top":
        _buttons(drawing, content.buttons)
    options = _fields(drawing, content.fields)
    if drawing.look.place != "top":
        _buttons(drawing, content.buttons)
    drawing.y += drawing.look.padding
    return options


def _frame(drawing: FormDrawing, height: float) -> None:
    look, style, canvas = drawing.look, drawing.style, drawing.canvas
    if not look.framed:
        return
    box = (drawing.left, drawing.y, drawing.right, drawing.y + height)
    radius = min(style.corner, 12)
    if style.shadow and not look.legend:
        canvas.shadow(box, style.ground, radius, max(2, int(style.px(6))))
    canvas.rectangle(box, style.panel, style.line, radius)


def _heading(drawing: FormDrawing) -> None:
    rng, style, look = drawing.rng, drawing.style, drawing.look
    top = drawing.y
    drawing.y += look.padding
    if rng.random() < 0.14:
        return
    text = rng.choice(CLAIM_HEADINGS)
    if rng.random() < 0.6:
        text += f" #{rng.randint(10000, 99999)}"
    size = rng.uniform(13, 17) if look.legend else rng.uniform(14, 22)
    face = style.face(size, bold=style.heading_bold)
    x = drawing.inner_left
    if look.legend and look.framed:
        half = face.height / 2
        gap = (x - 4, top - half, x + face.width(text) + 4, top + half)
        drawing.canvas.rectangle(gap, fill=style.panel)
        drawing.canvas.text(x, top, text, face, style.ink, "lm")
        drawing.canvas.element("heading", gap, text)
        drawing.y = top + half + style.px(4)
        return
    width = drawing.canvas.text(x, drawing.y, text, face, style.ink)
    box = (x, drawing.y, x + width, drawing.y + face.height)
    drawing.canvas.element("heading", box, text)
    drawing.y += style.px(size) * 1.6


def _columns(fields: list[FormField], count: int, rng: random.Random) -> list[list[FormField]]:
    """Splits the fields over columns, longer ones first or last as style sheets balance them."""
    base, rest = divmod(len(fields), count)
    lengths = [base + (1 if index < rest else 0) for index in range(count)]
    if rng.random() < 0.5:
        lengths.reverse()
    columns, start = [], 0
    for length in lengths:
        columns.append(fields[start : start + length])
        start += length
    return columns


def _fields(drawing: FormDrawing, fields: list[FormField]) -> list[Target]:
    """Draws the columns of fields and returns their targets, counted down the columns."""
    look, rng, style = drawing.look, drawing.rng, drawing.style
    gap = style.px(rng.uniform(8, 24)) if look.columns > 1 else 0
    width = (drawing.inner_right - drawing.inner_left + gap) / look.columns
    label_width = 0.0
    if look.label in ("left", "right"):
        widest = max(drawing.label_face.width(item.label + look.label_suffix) for item in fields)
        label_width = widest + style.px(8)
    top = drawing.y
    targets, lowest = [], top
    for index, column in enumerate(_columns(fields, look.columns, rng)):
        drawing.y = top + (style.px(rng.uniform(0, 5)) if look.ragged and index else 0)
        left = drawing.inner_left + index * width
        right = left + width - gap
        targets += [_row(drawing, item, left, right, label_width) for item in column]
        lowest = max(lowest, drawing.y)
    drawing.y = lowest
    drawing.targets += targets
    return targets


def _row(
    drawing: FormDrawing, item: FormField, left: float, right: float, label_width: float
) -> Target:
    """Draws one labelled field at the drawing's y, moves on, and returns the field's target."""
    look, rng, style, canvas = drawing.look, drawing.rng, drawing.style, drawing.canvas
    face, top = drawing.label_face, drawing.y
    height = look.input_height
    if item.kind == "area" and look.columns == 1:
        height += style.px(30)
    shown = item.label + look.label_suffix
    if look.label == "above":
        canvas.text(left, top, shown, face, style.ink)
        top += drawing.label_height
    elif look.label == "left":
        canvas.text(left, top + look.input_height / 2, shown, face, style.ink, "lm")
    elif look.label == "right":
        edge = left + label_width - style.px(8)
        canvas.text(edge, top + look.input_height / 2, shown, face, style.ink, "rm")
    start = min(left + label_width, right - style.px(40))
    share = 1.0 if look.even_widths else rng.uniform(0.6, look.widest)
    box = (start, top, start + (right - start) * share, top + height)
    draw_input(drawing, item, box, shown)
    drawing.y = top + height + look.row_gap
    if look.helper:
        hint = f"{rng.choice(FILLER).capitalize()} {rng.choice(FILLER)}"
        canvas.text(start, top + height + 1, hint, style.face(10), style.muted)
        drawing.y += style.px(14)
    return Target("field", box, {"field": item.label})


def _button_look(drawing: FormDrawing, index: int, primary_only: bool) -> ButtonLook:
    look = drawing.look.button
    if primary_only and index:
        return replace(look, kind="grey" if look.kind == "fill" else look.kind)
    return look


def _buttons(drawing: FormDrawing, labels: list[str]) -> None:
    """Draws the group of buttons at the drawing's y and moves below it."""
    look, rng, style, canvas = drawing.look, drawing.rng, drawing.style, drawing.canvas
    primary_only = rng.random() < 0.35
    drawing.y += style.px(rng.uniform(0, 8))
    height = style.px(look.button.height)
    widths = [look.button.width(style, label) for label in labels]
    room = drawing.inner_right - drawing.inner_left
    if look.place == "wide":
        share = (room - look.button_gap * (len(labels) - 1)) / len(labels)
        if share >= max(widths):
            widths = [share] * len(labels)
    total = sum(widths) + look.button_gap * (len(labels) - 1)
    gap, x = look.button_gap, drawing.inner_left
    if total < room:
        x += {"right": room - total, "centre": (room - total) / 2}.get(look.place, 0)
        if look.place == "spread":
            gap += (room - total) / max(1, len(labels) - 1)
    start = x
    for index, (label, width) in enumerate(zip(labels, widths, strict=True)):
        if x + width > drawing.inner_right + 2 and x > start:
            x, drawing.y = drawing.inner_left, drawing.y + height + look.button_gap
            start = x
        button = _button_look(drawing, index, primary_only)
        box = draw_button(canvas, style, button, x, drawing.y, label, width)
        drawing.targets.append(Target("button", box, {"button": label}))
        x += width + gap
    drawing.y += height + style.px(6)
