"""Drawing primitives: a canvas with cached text, smooth corners, shadows and arrows."""

from __future__ import annotations

import math
from functools import lru_cache

from PIL import Image, ImageDraw

from .marks import Box as Box
from .marks import Element, Fill, Mark, Writing
from .typefaces import Face

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` of the way from the first to the second."""
    red, green, blue = (
        int(start + (end - start) * share) for start, end in zip(first, second, strict=True)
    )
    return red, green, blue


def distance(first: Colour, second: Colour) -> int:
    return sum(abs(one - other) for one, other in zip(first, second, strict=True))


def readable_on(background: Colour) -> Colour:
    """White or black, whichever stands out from the background."""
    red, green, blue = background
    return WHITE if 0.3 * red + 0.59 * green + 0.11 * blue < 160 else BLACK


def centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def inset(box: Box, margin: float) -> Box:
    return box[0] + margin, box[1] + margin, box[2] - margin, box[3] - margin


@lru_cache(maxsize=512)
def _corner_masks(radius: int, width: int) -> tuple[Image.Image, ...]:
    """Smooth quarter discs (width 0) or rings, for the corners in the order lt, rt, rb, lb."""
    factor = 4
    side = radius * 2 * factor
    disc = Image.new("L", (side, side))
    draw = ImageDraw.Draw(disc)
    draw.ellipse((0, 0, side - 1, side - 1), fill=255)
    if width:
        margin = width * factor
        draw.ellipse((margin, margin, side - 1 - margin, side - 1 - margin), fill=0)
    small = disc.reduce(factor)
    middle, end = radius, radius * 2
    boxes = (
        (0, 0, middle, middle),
        (middle, 0, end, middle),
        (middle, middle, end, end),
        (0, middle, middle, end),
    )
    return tuple(small.crop(box) for box in boxes)


class Canvas:
    """A picture being drawn. Coordinates may be fractional; edges are snapped as browsers do."""

    def __init__(self, width: int, height: int, background: Colour) -> None:
        self.width = width
        self.height = height
        self.image = Image.new("RGB", (width, height), background)
        self.draw = ImageDraw.Draw(self.image)
        self.marks: list[Mark] = []

    def contains(self, box: Box) -> bool:
        inside_x = box[0] >= 0 and box[2] <= self.width
        return inside_x and box[1] >= 0 and box[3] <= self.height

    def text(
        self, x: float, y: float, text: str, face: Face, colour: Colour, anchor: str = "lt"
    ) -> float:
        """Write one line and return its width.

        The anchor is l, m or r for x, then t (top of the line) or m (its middle) for y.
        """
        width = face.width(text)
        pen = x - width * {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]]
        top = y if anchor[1] == "t" else y - face.height / 2
        baseline = round(top + face.ascent)
        if face.hinted:
            pen = float(round(pen))
        self.marks.append(Writing(text, pen, top, face))
        bitmap, glyph = self.draw.bitmap, face.glyph
        for character in text:
            if character != " ":
                column = math.floor(pen)
                found = glyph(character, int((pen - column) * 4))
                if found.mask is not None:
                    bitmap((column + found.left, baseline + found.top), found.mask, colour)
            pen += face.advance(character)
        return width

    def element(self, kind: str, box: Box, label: str = "") -> None:
        """Notes that a thing of this kind was drawn here; draws nothing."""
        self.marks.append(Element(kind, box, label))

    def rectangle(
        self,
        box: Box,
        fill: Colour | None = None,
        outline: Colour | None = None,
        radius: float = 0,
        width: int = 1,
    ) -> None:
        """A rectangle whose far edges are exclusive, with smooth corners when rounded."""
        left, top, right, bottom = (round(edge) for edge in box)
        if right - left < 2 or bottom - top < 2:
            return
        if fill is not None:
            self.marks.append(Fill(box))
        corner = int(min(radius, (right - left) / 2, (bottom - top) / 2))
        if corner < max(2, width + 1):
            self.draw.rectangle(
                (left, top, right - 1, bottom - 1), fill=fill, outline=outline, width=width
            )
            return
        if fill is not None:
            self._round_fill((left, top, right, bottom), fill, corner)
        if outline is not None:
            self._round_outline((left, top, right, bottom), outline, corner, width)

    def _round_fill(self, box: tuple[int, int, int, int], fill: Colour, corner: int) -> None:
        left, top, right, bottom = box
        rectangle = self.draw.rectangle
        if bottom - top > 2 * corner:
            rectangle((left, top + corner, right - 1, bottom - corner - 1), fill=fill)
        if right - left > 2 * corner:
            rectangle((left + corner, top, right - corner - 1, top + corner - 1), fill=fill)
            rectangle((left + corner, bottom - corner, right - corner - 1, bottom - 1), fill=fill)
        self._corners(box, fill, corner, 0)

    def _round_outline(
        self, box: tuple[int, int, int, int], colour: Colour, corner: int, width: int
    ) -> None:
        left, top, right, bottom = box
        rectangle = self.draw.rectangle
        if right - left > 2 * corner:
            span = (left + corner, right - corner - 1)
            rectangle((span[0], top, span[1], top + width - 1), fill=colour)
            rectangle((span[0], bottom - width, span[1], bottom - 1), fill=colour)
        if bottom - top > 2 * corner:
            rise = (top + corner, bottom - corner - 1)
            rectangle((left, rise[0], left + width - 1, rise[1]), fill=colour)
            rectangle((right - width, rise[0], right - 1, rise[1]), fill=colour)
        self._corners(box, colour, corner, width)

    def _corners(
        self, box: tuple[int, int, int, int], colour: Colour, corner: int, width: int
    ) -> None:
        left, top, right, bottom = box
        places = (
            (left, top),
            (right - corner, top),
            (right - corner, bottom - corner),
            (left, bottom - corner),
        )
        for place, mask in zip(places, _corner_masks(corner, width), strict=True):
            self.draw.bitmap(place, mask, colour)

    def shadow(self, box: Box, ground: Colour, radius: float, depth: int) -> None:
        """A soft shadow below and around a box, to be drawn before the box itself."""
        left, top, right, bottom = box
        for step in range(depth, 0, -1):
            shade = mix(ground, BLACK, 0.09 * (1 - step / (depth + 1)) ** 2)
            spread = (left - step, top - step / 2, right + step, bottom + step)
            self.rectangle(spread, outline=shade, radius=radius + step, width=2)

    def line(self, points: list[tuple[float, float]], colour: Colour, width: int = 1) -> None:
        self.draw.line(points, fill=colour, width=width)

    def horizontal(self, left: float, right: float, y: float, colour: Colour) -> None:
        self.draw.line([(round(left), round(y)), (round(right) - 1, round(y))], fill=colour)

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        self.rectangle((x - radius, y - radius, x + radius, y + radius), fill, radius=radius)

    def chevron(
        self, x: float, y: float, size: float, direction: str, colour: Colour, width: int = 1
    ) -> None:
        """An open arrow head pointing left, right, up or down."""
        self._stamp(x, y, _arrow_mask(round(size * 2) / 2, direction, max(1, width)), colour)

    def triangle(self, x: float, y: float, size: float, direction: str, colour: Colour) -> None:
        self._stamp(x, y, _arrow_mask(round(size * 2) / 2, direction, 0), colour)

    def _stamp(self, x: float, y: float, mask: Image.Image, colour: Colour) -> None:
        self.draw.bitmap((round(x - mask.width / 2), round(y - mask.height / 2)), mask, colour)

    def arrow(self, x: float, y: float, size: float, direction: str, colour: Colour) -> None:
        """An arrow with a shaft, pointing left or right."""
        sign = -1 if direction == "left" else 1
        self.line([(x - sign * size, y), (x + sign * size, y)], colour)
        self.chevron(x + sign * size * 0.6, y, size * 0.6, direction, colour)


@lru_cache(maxsize=512)
def _arrow_mask(size: float, direction: str, width: int) -> Image.Image:
    """A smooth arrow head, open with lines of the width, or filled when it is 0."""
    factor = 4
    side = (math.ceil(size) * 2 + 4) * factor
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    points = _arrow_head(side / 2, side / 2, size * factor, direction)
    if width:
        draw.line(points, fill=255, width=round((width + 0.3) * factor), joint="curve")
    else:
        draw.polygon(points, fill=255)
    return mask.reduce(factor)


def _arrow_head(x: float, y: float, size: float, direction: str) -> list[tuple[float, float]]:
    half = size / 2
    if direction == "left":
        return [(x + half, y - size), (x - half, y), (x + half, y + size)]
    if direction == "right":
        return [(x - half, y - size), (x + half, y), (x - half, y + size)]
    if direction == "up":
        return [(x - size, y + half), (x, y - half), (x + size, y + half)]
    return [(x - size, y - half), (x, y + half), (x + size, y - half)]
