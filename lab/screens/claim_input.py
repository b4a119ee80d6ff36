"""Draws the input of one field of a form."""

from __future__ import annotations

from .canvas import Box, Colour, mix
from .claim_look import FormDrawing, FormField


def _input_ground(drawing: FormDrawing, box: Box) -> Colour:
    look, style, canvas = drawing.look, drawing.style, drawing.canvas
    radius = min(style.corner, 8 if look.inputs == "box" else 4)
    if look.inputs == "box":
        canvas.rectangle(box, fill=style.panel, outline=style.line, radius=radius)
        return style.panel
    if look.inputs == "line":
        canvas.rectangle((box[0], box[3] - 1.5, box[2], box[3] + 0.5), fill=style.line)
        return style.panel if look.framed else style.ground
    fill = mix(style.panel, style.ink, 0.08)
    canvas.rectangle(box, fill=fill, radius=0 if look.inputs == "fill-line" else radius)
    if look.inputs == "fill-line":
        canvas.rectangle((box[0], box[3] - 2, box[2], box[3]), fill=style.muted)
    return fill


def draw_input(drawing: FormDrawing, item: FormField, box: Box, label: str) -> None:
    """Draws the box of a field with its value, and the label where it belongs inside."""
    look, style, canvas = drawing.look, drawing.style, drawing.canvas
    ground = _input_ground(drawing, box)
    value_face = style.widget_face(look.label_size * 0.92)
    x, middle = box[0] + style.px(6), (box[1] + box[3]) / 2
    if item.kind == "area":
        middle = min(middle, box[1] + look.input_height / 2)
    value = item.value
    if look.label == "inside":
        inner = style.face(look.label_size)
        shown = inner.clipped(label, box[2] - x - 2)
        canvas.text(x, middle, shown, inner, style.muted, "lm")
        value = ""
    elif look.label == "floating":
        small = style.face(max(look.label_size * 0.72, 7 / style.scale))
        canvas.text(x, box[1] + style.px(2), label, small, style.muted)
        middle += style.px(look.label_size * 0.45)
    elif look.label == "notched":
        small = style.face(max(look.label_size * 0.74, 7 / style.scale))
        gap = (x - 2, box[1] - 2, x + small.width(label) + 2, box[1] + 3)
        canvas.rectangle(gap, fill=ground)
        canvas.text(x, box[1], label, small, style.muted, "lm")
    if value and value_face.width(value) < box[2] - x - style.px(14):
        canvas.text(x, middle, value, value_face, style.ink, "lm")
    _mark(drawing, item, box, middle)
    canvas.element("field", box, item.label)


def _mark(drawing: FormDrawing, item: FormField, box: Box, middle: float) -> None:
    """The arrow of a select, or the little calendar of a date field."""
    style, canvas = drawing.style, drawing.canvas
    if box[2] - box[0] < style.px(60):
        return
    x = box[2] - style.px(10)
    if item.kind == "select":
        draw = canvas.triangle if drawing.look.inputs == "line" else canvas.chevron
        draw(x, middle, style.px(3.5), "down", style.muted)
    elif item.kind == "date":
        half = style.px(5)
        canvas.rectangle((x - half, middle - half, x + half, middle + half), outline=style.muted)
        canvas.horizontal(x - half, x + half, middle - half / 3, style.muted)
