"""Draws provider lists that are tables."""

from __future__ import annotations

from dataclasses import replace

from .canvas import Box, readable_on
from .provider_look import ListDrawing, Provider


def _cell_text(drawing: ListDrawing, provider: Provider, column: str) -> str:
    if column == "name":
        return drawing.shown_name(provider)
    return {
        "specialty": provider.specialty,
        "distance": provider.distance,
        "rating": provider.rating,
    }[column]


def _table_widths(
    drawing: ListDrawing, providers: list[Provider], columns: list[str], pad: float
) -> list[float]:
    widths = []
    for column in columns:
        if column == "button":
            widths.append(drawing.button_width + 2 * pad)
            continue
        face = drawing.name_face if column == "name" else drawing.detail_face
        texts = [_cell_text(drawing, provider, column) for provider in providers]
        title = drawing.style.face(drawing.look.size, bold=True).width(column) * 1.1
        widths.append(max(title, *(face.width(text) for text in texts)) + 2 * pad)
    return widths


def draw_table(drawing: ListDrawing, providers: list[Provider]) -> list[Box]:
    look, rng, style = drawing.look, drawing.rng, drawing.style
    columns = ["button", "name"] if look.button_first else ["name"]
    columns += look.details
    if not look.button_first:
        columns.append("button")
    pad = style.px(rng.uniform(4, 9))
    room = drawing.right - drawing.left
    widths = _table_widths(drawing, providers, columns, pad)
    for _ in range(6):
        if sum(widths) <= room:
            break
        if len(columns) > 2 and drawing.look.size * style.scale < 9:
            columns = [column for column in columns if column not in look.details[-1:]]
            drawing.look = look = replace(look, details=look.details[:-1])
        drawing.look = look = replace(look, size=look.size * 0.93)
        widths = _table_widths(drawing, providers, columns, pad)
    if rng.random() < 0.5 and sum(widths) < room:
        widths = [width + (room - sum(widths)) / len(widths) for width in widths]
    drawing.right = drawing.left + sum(widths)
    height = max(style.px(look.size) * rng.uniform(1.7, 2.6), look.button_height + style.px(4))
    _table_header(drawing, columns, widths, pad, height)
    boxes = []
    for index, provider in enumerate(providers):
        boxes.append(_table_row(drawing, provider, columns, widths, pad, height, index))
        drawing.y += height
    return boxes


def _table_header(
    drawing: ListDrawing, columns: list[str], widths: list[float], pad: float, height: float
) -> None:
    look, canvas, style = drawing.look, drawing.canvas, drawing.style
    if look.header == "none":
        return
    band = (drawing.left, drawing.y, drawing.right, drawing.y + height)
    colour = style.ink
    if look.header == "tint":
        canvas.rectangle(band, fill=style.tint)
    elif look.header == "dark":
        canvas.rectangle(band, fill=style.accent)
        colour = readable_on(style.accent)
    face = style.face(look.size, bold=look.header == "bold")
    x = drawing.left
    for column, width in zip(columns, widths, strict=True):
        if look.lines == "all":
            canvas.rectangle((x, drawing.y, x + width + 1, band[3] + 1), outline=style.line)
        if column != "button":
            title = "Provider" if column == "name" else column.capitalize()
            canvas.text(x + pad, drawing.y + height / 2, title, face, colour, "lm")
        x += width
    drawing.y += height


def _table_row(
    drawing: ListDrawing,
    provider: Provider,
    columns: list[str],
    widths: list[float],
    pad: float,
    height: float,
    index: int,
) -> Box:
    look, canvas, style = drawing.look, drawing.canvas, drawing.style
    top, middle = drawing.y, drawing.y + height / 2
    ground = style.tint if look.striped and index % 2 == 0 else None
    if ground is not None:
        canvas.rectangle((drawing.left, top, drawing.right, top + height), fill=ground)
    if look.lines == "rows":
        canvas.horizontal(drawing.left, drawing.right, top, style.line)
    x = drawing.left
    box = (0.0, 0.0, 0.0, 0.0)
    for column, width in zip(columns, widths, strict=True):
        if look.lines == "all":
            canvas.rectangle((x, top, x + width + 1, top + height + 1), outline=style.line)
        if column == "button":
            box = drawing.button(x + pad, middle - look.button_height / 2)
        else:
            face = drawing.name_face if column == "name" else drawing.detail_face
            colour = style.ink if column == "name" else drawing.detail_colour
            text = _cell_text(drawing, provider, column)
            canvas.text(x + pad, middle, text, face, colour, "lm")
            if column == "specialty":
                drawing.described.add(text)
        x += width
    return box
