"""What drawing leaves beside the pixels: every line of text, every element, every fill, in order.

Nothing here changes a picture. Who trains a model to read screens gets from it what is written
where; who only wants the picture ignores it.
"""

from __future__ import annotations

from typing import NamedTuple

from .typefaces import Face

Box = tuple[float, float, float, float]


class Writing(NamedTuple):
    """One line of text: the pen on its first character, and the top of the line."""

    text: str
    left: float
    top: float
    face: Face

    @property
    def box(self) -> Box:
        right = self.left + self.face.width(self.text)
        return self.left, self.top, right, self.top + self.face.height

    def centres(self) -> list[float]:
        """The x of the middle of each character."""
        pen, middles = self.left, []
        for character in self.text:
            advance = self.face.advance(character)
            middles.append(pen + advance / 2)
            pen += advance
        return middles


class Element(NamedTuple):
    """A thing on the screen, its box in pixels, and what it is called there."""

    kind: str
    box: Box
    label: str


class Fill(NamedTuple):
    """A filled rectangle: what was drawn before it and lies inside can no longer be seen."""

    box: Box


Mark = Writing | Element | Fill
