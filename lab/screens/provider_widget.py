"""Draws lists of providers, each row with the button that chooses it."""

from __future__ import annotations

import random
from dataclasses import replace

from .canvas import Box, Canvas, mix, readable_on
from .provider_look import ListDrawing, Provider, draw_look, draw_providers, row_values
from .provider_table import draw_table
from .style import Style, heading
from .widget import Target, Widget
from .words import PROVIDER_HEADINGS


def draw_provider_list(
    canvas: Canvas,
    rng: random.Random,
    style: Style,
    area: Box,
    least_options: int,
) -> Widget:
    """Draws a provider list into the area, from its top left."""
    left, top, right, bottom = area
    start = top
    top = heading(canvas, rng, style, left, top, PROVIDER_HEADINGS)
    look = draw_look(rng, style, right - left)
    providers = draw_providers(rng, least_options)
    wanted = min(right - left, style.px(rng.uniform(400, 660)))
    drawing = ListDrawing(canvas, rng, style, look, left, left + wanted, top)
    _fit(drawing, len(providers), bottom - top)
    draw = {"table": draw_table, "grid": _grid}.get(look.form, _cards)
    boxes = draw(drawing, providers)
    targets = [
        Target("row", box, values)
        for box, values in zip(boxes, row_values(providers, drawing.described), strict=True)
    ]
    shown = tuple(target for target in targets if canvas.contains(target.box))
    return Widget(
        adapter="provider-select",
        name=f"providers-{look.form}",
        box=(left, start, drawing.right, drawing.y),
        targets=shown,
        options=shown,
        complete=len(shown) == len(targets),
        labels=frozenset({look.word}),
    )


def _card_height(drawing: ListDrawing) -> float:
    look, style = drawing.look, drawing.style
    line = style.px(look.size) * 1.4
    if look.form in ("centre", "under"):
        return line * (2 if look.two_lines else 1) + look.button_height + 2 * look.padding + 3
    text = line * (1.9 if look.two_lines else 1)
    return max(text, look.button_height) + 2 * look.padding


def _fit(drawing: ListDrawing, count: int, room: float) -> None:
    """Tightens cards while the list is taller than its room; some lists stay cut off."""
    if drawing.rng.random() < 0.08:
        return
    for _ in range(4):
        look = drawing.look
        if count * (_card_height(drawing) + look.gap) <= room:
            return
        drawing.look = replace(
            look,
            padding=look.padding * 0.6,
            gap=look.gap * 0.6,
            two_lines=False,
            form="right" if look.form in ("centre", "under") else look.form,
        )


def _cards(drawing: ListDrawing, providers: list[Provider]) -> list[Box]:
    boxes = []
    look, canvas, style = drawing.look, drawing.canvas, drawing.style
    height = _card_height(drawing)
    for provider in providers:
        card = (drawing.left, drawing.y, drawing.right, drawing.y + height)
        if look.framed:
            if style.shadow:
                canvas.shadow(card, style.ground, style.corner, 3)
            canvas.rectangle(card, style.panel, style.line, min(style.corner, 12))
        else:
            canvas.horizontal(card[0], card[2], card[3], style.line)
        draw = _stacked_card if look.form in ("centre", "under") else _side_card
        boxes.append(draw(drawing, provider, card))
        drawing.y += height + look.gap
    return boxes


def _details(drawing: ListDrawing, provider: Provider) -> str:
    separator = "  " if drawing.look.size < 14 else " "
    shown = provider.specialty
    return f"{shown}{separator}{provider.distance}" if drawing.look.distance_shown else shown


def _stacked_card(drawing: ListDrawing, provider: Provider, card: Box) -> Box:
    """Name and details above the button, in the middle or at the left edge."""
    look, style = drawing.look, drawing.style
    room = card[2] - card[0] - 2 * look.padding
    name, details = drawing.shown_name(provider), _details(drawing, provider)
    face = drawing.narrowed(name, room)
    gap = style.px(look.size) * 0.4
    total = face.width(name) + gap + drawing.detail_face.width(details)
    centred = look.form == "centre"
    anchor, x = ("mt", (card[0] + card[2]) / 2) if centred else ("lt", card[0] + look.padding)
    y = card[1] + look.padding
    if look.two_lines or total > room:
        drawing.canvas.text(x, y, name, face, style.ink, anchor)
        if look.two_lines:
            drawing.describe(x, y + style.px(look.size) * 1.4, details, provider, anchor)
    else:
        start = x - total / 2 if centred else x
        width = drawing.canvas.text(start, y, name, face, style.ink)
        drawing.describe(start + width + gap, y, details, provider, "lt")
    top = card[3] - look.padding - look.button_height
    return drawing.button(x - drawing.button_width / 2 if centred else x, top)


def _side_card(drawing: ListDrawing, provider: Provider, card: Box) -> Box:
    """Name and details beside the button."""
    look, style = drawing.look, drawing.style
    middle = (card[1] + card[3]) / 2
    top = middle - look.button_height / 2
    x = card[0] + look.padding
    room_right = card[2] - look.padding
    if look.form == "left":
        box = drawing.button(x, top)
        x = box[2] + style.px(8)
    else:
        box = drawing.button(room_right - drawing.button_width, top)
        room_right = box[0] - style.px(6)
    if look.avatar:
        x = _avatar(drawing, provider, x, middle, (card[3] - card[1]) / 2 - look.padding * 0.6)
    _card_text(drawing, provider, x, room_right, card)
    return box


def _avatar(
    drawing: ListDrawing, provider: Provider, x: float, middle: float, half: float
) -> float:
    style = drawing.style
    box = (x, middle - half, x + 2 * half, middle + half)
    fill = mix(style.panel, style.accent, 0.3)
    radius = half if drawing.look.avatar == "circle" else min(style.corner, half / 2)
    drawing.canvas.rectangle(box, fill=fill, radius=radius)
    initials = provider.first[0] + provider.last[0]
    face = style.face(half * 0.8 / style.scale)
    drawing.canvas.text(x + half, middle, initials, face, readable_on(fill), "mm")
    return x + 2 * half + style.px(7)


def _card_text(
    drawing: ListDrawing, provider: Provider, left: float, right: float, card: Box
) -> None:
    look, style = drawing.look, drawing.style
    name, details = drawing.shown_name(provider), _details(drawing, provider)
    face, middle = drawing.narrowed(name, right - left), (card[1] + card[3]) / 2
    half = style.px(look.size) * 0.66 if look.two_lines else 0.0
    width = drawing.canvas.text(left, middle - half, name, face, style.ink, "lm")
    x = left if look.two_lines else left + width + style.px(look.size) * 0.4
    for shown in (details, provider.specialty):
        if x + drawing.detail_face.width(shown) <= right:
            drawing.describe(x, middle + half, shown, provider, "lm")
            return


def _grid(drawing: ListDrawing, providers: list[Provider]) -> list[Box]:
    look, canvas, style, rng = drawing.look, drawing.canvas, drawing.style, drawing.rng
    room = drawing.right - drawing.left
    columns = 3 if room > style.px(480) and rng.random() < 0.5 else 2
    width = room / columns
    line = style.px(look.size) * 1.35
    height = 2 * line + look.button_height + 2 * look.padding + style.px(8)
    centred = rng.random() < 0.3
    boxes = []
    for index, provider in enumerate(providers):
        left = drawing.left + index % columns * width
        top = drawing.y + index // columns * height
        card = (left, top, left + width - look.gap, top + height - look.gap)
        canvas.rectangle(card, style.panel, style.line, min(style.corner, 12))
        anchor, x = ("mt", (card[0] + card[2]) / 2) if centred else ("lt", left + look.padding)
        name, y = drawing.shown_name(provider), top + look.padding
        face = drawing.narrowed(name, width - 2 * look.padding - look.gap)
        canvas.text(x, y, name, face, style.ink, anchor)
        drawing.describe(x, y + line, provider.specialty, provider, anchor)
        button_x = x - drawing.button_width / 2 if centred else x
        bottom = card[3] - look.padding - look.button_height
        boxes.append(drawing.button(button_x, bottom))
    drawing.y += ((len(providers) - 1) // columns + 1) * height
    return boxes
