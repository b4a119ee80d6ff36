"""How a page looks: typefaces, colours, corners and spacing, drawn once per screen."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .canvas import BLACK, WHITE, Box, Canvas, Colour, distance, mix, readable_on
from .typefaces import Face, Family, face, families

# Primary colours of well-known style sheets; the rest of the accents are drawn at random.
_KNOWN_ACCENTS: tuple[Colour, ...] = (
    (13, 110, 253),
    (1, 114, 173),
    (32, 107, 196),
    (86, 156, 245),
    (0, 123, 255),
    (40, 167, 69),
    (220, 53, 69),
    (0, 209, 178),
    (72, 95, 199),
    (23, 121, 186),
    (38, 166, 154),
    (155, 77, 202),
    (79, 70, 229),
    (25, 118, 210),
    (33, 133, 208),
    (98, 0, 238),
    (51, 51, 51),
)
_KNOWN_GROUNDS: tuple[Colour, ...] = (
    (255, 255, 255),
    (255, 255, 255),
    (250, 250, 250),
    (244, 247, 251),
    (248, 249, 250),
    (238, 240, 242),
)
_KNOWN_INKS: tuple[Colour, ...] = (BLACK, (33, 37, 41), (55, 60, 68), (74, 74, 74), (17, 24, 39))


@dataclass(frozen=True)
class Style:
    """Everything the parts of one screen share. Lengths are pixels before `scale`."""

    family: Family
    widget_family: Family
    hinted: bool
    ground: Colour
    panel: Colour
    ink: Colour
    accent: Colour
    line: Colour
    muted: Colour
    faint: Colour
    text_size: float
    radius: float
    button: str
    button_upper: bool
    button_bold: bool
    heading_bold: bool
    shadow: bool
    scale: float

    def px(self, length: float) -> float:
        return length * self.scale

    def scaled(self, factor: float) -> Style:
        return replace(self, scale=self.scale * factor)

    def face(self, size: float, *, bold: bool = False) -> Face:
        """The page's face at `size` before scaling."""
        return face(self.family, size * self.scale, bold=bold, hinted=self.hinted)

    def widget_face(self, size: float, *, bold: bool = False) -> Face:
        return face(self.widget_family, size * self.scale, bold=bold, hinted=self.hinted)

    @property
    def corner(self) -> float:
        return self.radius * self.scale

    @property
    def link(self) -> Colour:
        """The accent where it can be read on the panel, else the ink."""
        return self.accent if distance(self.accent, self.panel) > 200 else self.ink

    @property
    def tint(self) -> Colour:
        return mix(self.panel, self.ink, 0.07)


def draw_style(rng: random.Random, scale: float, font_folders: Sequence[Path] = ()) -> Style:
    """Draws a look; about one page in twelve is dark."""
    choices = families(font_folders)
    family = rng.choice(choices)
    ground, panel, ink = _dark_colours(rng) if rng.random() < 0.08 else _light_colours(rng)
    return Style(
        family=family,
        widget_family=family if rng.random() < 0.65 else rng.choice(choices),
        hinted=rng.random() < 0.45,
        ground=ground,
        panel=panel,
        ink=ink,
        accent=_accent(rng),
        line=mix(ground, ink, rng.uniform(0.12, 0.5)),
        muted=mix(ground, ink, rng.uniform(0.45, 0.75)),
        faint=mix(ground, ink, rng.uniform(0.14, 0.32)),
        text_size=rng.uniform(11.5, 16.5),
        radius=rng.choice((0, 0, 2, 3, 4, 4, 6, 8, 12, 24)),
        button=rng.choice(("fill", "fill", "fill", "outline", "grey", "grey", "tint", "link")),
        button_upper=rng.random() < 0.06,
        button_bold=rng.random() < 0.15,
        heading_bold=rng.random() < 0.6,
        shadow=rng.random() < 0.3,
        scale=scale,
    )


def _dark_colours(rng: random.Random) -> tuple[Colour, Colour, Colour]:
    ground = _random_colour(rng, 10, 50)
    return ground, mix(ground, WHITE, rng.uniform(0, 0.12)), _random_colour(rng, 200, 255)


def _light_colours(rng: random.Random) -> tuple[Colour, Colour, Colour]:
    known = rng.random() < 0.88
    ground = rng.choice(_KNOWN_GROUNDS) if known else _random_colour(rng, 222, 255)
    ink = rng.choice(_KNOWN_INKS) if rng.random() < 0.75 else _random_colour(rng, 0, 90)
    return ground, WHITE if rng.random() < 0.55 else ground, ink


def _random_colour(rng: random.Random, low: int, high: int) -> Colour:
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def _accent(rng: random.Random) -> Colour:
    if rng.random() < 0.55:
        return rng.choice(_KNOWN_ACCENTS)
    hue, saturation, value = rng.random(), rng.uniform(0.4, 1), rng.uniform(0.35, 0.9)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return int(255 * red), int(255 * green), int(255 * blue)


@dataclass(frozen=True)
class ButtonLook:
    """How the buttons of one group look. Lengths are pixels before scaling."""

    kind: str
    text_size: float
    padding: float
    height: float

    @classmethod
    def draw(cls, rng: random.Random, style: Style) -> ButtonLook:
        size = rng.uniform(11, 14.5)
        return cls(style.button, size, rng.uniform(5, 14), size * rng.uniform(1.6, 2.4))

    def shown(self, style: Style, label: str) -> str:
        return label.upper() if style.button_upper else label

    def width(self, style: Style, label: str) -> float:
        text = style.face(self.text_size, bold=style.button_bold).width(self.shown(style, label))
        return text + 2 * style.px(self.padding)


def draw_button(
    canvas: Canvas,
    style: Style,
    look: ButtonLook,
    x: float,
    y: float,
    label: str,
    width: float | None = None,
) -> Box:
    """Draws a button, as wide as its label unless told, from its top left; returns its box."""
    box = (x, y, x + (width or look.width(style, label)), y + style.px(look.height))
    colour = _button_ground(canvas, style, look.kind, box)
    canvas.element("button", box, look.shown(style, label))
    middle_x, middle_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    text_face = style.face(look.text_size, bold=style.button_bold)
    canvas.text(middle_x, middle_y, look.shown(style, label), text_face, colour, "mm")
    return box


def _button_ground(canvas: Canvas, style: Style, kind: str, box: Box) -> Colour:
    """Draws what lies under a button's label and returns the label's colour."""
    if kind == "fill":
        canvas.rectangle(box, fill=style.accent, radius=style.corner)
        return readable_on(style.accent)
    if kind == "outline":
        canvas.rectangle(box, outline=style.link, radius=style.corner)
    elif kind == "grey":
        ground = mix(style.panel, style.ink, 0.08)
        canvas.rectangle(box, fill=ground, outline=style.line, radius=style.corner)
        return style.ink
    elif kind == "tint":
        canvas.rectangle(box, fill=mix(style.panel, style.accent, 0.16), radius=style.corner)
    return style.link


def heading(
    canvas: Canvas, rng: random.Random, style: Style, x: float, y: float, choices: Sequence[str]
) -> float:
    """Draws one of the headings, or none, and returns where the content below starts."""
    if rng.random() < 0.2:
        return y
    size = rng.uniform(14, 24)
    text_face = style.face(size, bold=style.heading_bold)
    text = rng.choice(choices)
    if x + text_face.width(text) > canvas.width:
        return y
    canvas.text(x, y, text, text_face, style.ink)
    canvas.element("heading", (x, y, x + text_face.width(text), y + text_face.height), text)
    return y + style.px(size) * rng.uniform(1.35, 2.0)
