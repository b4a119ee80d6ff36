"""A page under way, and what the pages that no adapter is for are made of."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .canvas import Box, Canvas, Colour, mix
from .style import ButtonLook, Style, draw_button
from .typefaces import Face
from .words import FILLER


@dataclass
class Page:
    """A page under way: a pen that moves down a column."""

    canvas: Canvas
    rng: random.Random
    style: Style
    left: float
    right: float
    y: float
    bottom: float

    @property
    def face(self) -> Face:
        return self.style.face(self.style.text_size)

    @property
    def width(self) -> float:
        return self.right - self.left

    def fits(self, height: float) -> bool:
        return self.y + height <= self.bottom

    def headline(self, text: str, size: float = 20) -> None:
        face = self.style.face(size, bold=self.style.heading_bold)
        shown = face.clipped(text, self.width)
        width = self.canvas.text(self.left, self.y, shown, face, self.style.ink)
        box = (self.left, self.y, self.left + width, self.y + face.height)
        self.canvas.element("heading", box, shown)
        self.y += self.style.px(size) * 1.7

    def panel(self, box: Box) -> None:
        self.canvas.rectangle(box, self.style.panel, self.style.line, min(self.style.corner, 12))

    def field(self, box: Box, label: str) -> None:
        """A panel to type into."""
        self.panel(box)
        self.canvas.element("field", box, label)

    def paragraph(self, left: float, right: float, lines: int, face: Face, colour: Colour) -> None:
        """Filler text, wrapped by width, until its lines or the page end."""
        for _ in range(lines):
            if not self.fits(face.height):
                return
            self.canvas.text(left, self.y, line_of_text(self.rng, face, right - left), face, colour)
            self.y += face.height * 1.2


def line_of_text(rng: random.Random, face: Face, room: float) -> str:
    words = [rng.choice(FILLER)]
    width = face.width(words[0])
    while True:
        word = rng.choice(FILLER)
        width += face.width(" " + word)
        if width > room:
            return " ".join(words) if face.width(words[0]) <= room else ""
        words.append(word)


def page_button(page: Page, x: float, y: float, label: str) -> Box:
    return draw_button(page.canvas, page.style, ButtonLook.draw(page.rng, page.style), x, y, label)


def picture(page: Page, box: Box) -> None:
    """A flat colour, or a landscape of a few shapes, standing for a photograph."""
    rng, canvas = page.rng, page.canvas
    ground = rng.randint(90, 240), rng.randint(90, 240), rng.randint(90, 240)
    canvas.rectangle(box, fill=ground)
    canvas.element("picture", box)
    if rng.random() < 0.6 or box[2] - box[0] < 12:
        return
    for _ in range(rng.randint(1, 3)):
        x, y = rng.uniform(box[0], box[2]), rng.uniform(box[1], box[3])
        radius = min(x - box[0], box[2] - x, y - box[1], box[3] - y)
        tone = mix(ground, (rng.randint(0, 255), 90, 60), rng.uniform(0.1, 0.6))
        canvas.disc(x, y, radius, tone)
