"""What surrounds the widgets of a screen: bars, a foot, text that nobody asks about."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .canvas import BLACK, WHITE, Canvas, Colour, mix, readable_on
from .style import Style
from .words import NAVIGATION, sentence, title


@dataclass
class Surface:
    """A screen under way."""

    canvas: Canvas
    rng: random.Random
    style: Style
    left: float = 0.0
    top: float = 0.0
    bottom: float = 0.0
    bars: bool = False


def draw_bars(screen: Surface) -> None:
    """Bars around the content, as pages have them; their words are no targets."""
    rng = screen.rng
    if rng.random() < 0.2:
        _navigation_bar(screen)
    if rng.random() < 0.1:
        _side_bar(screen)
    if rng.random() < 0.12:
        _foot(screen)


def _navigation_bar(screen: Surface) -> None:
    rng, style, canvas = screen.rng, screen.style, screen.canvas
    height = rng.randint(24, 52)
    fill: Colour = rng.choice((style.accent, mix(style.ground, style.ink, 0.08), (40, 44, 52)))
    canvas.rectangle((0, 0, canvas.width, height), fill=fill)
    face = style.face(rng.uniform(11, 15) / style.scale)
    x = 10.0
    for name in rng.sample(NAVIGATION, rng.randint(1, 6)):
        if x + face.width(name) > canvas.width:
            break
        x += canvas.text(x, height / 2, name, face, readable_on(fill), "lm") + rng.randint(12, 30)
    screen.top, screen.bars = height, True


def _side_bar(screen: Surface) -> None:
    rng, style, canvas = screen.rng, screen.style, screen.canvas
    width = rng.randint(80, 140)
    canvas.rectangle((0, screen.top, width, canvas.height), fill=mix(style.ground, style.ink, 0.06))
    face = style.face(rng.uniform(11, 13) / style.scale)
    y = screen.top + 10
    for name in rng.sample(NAVIGATION, rng.randint(3, 9)):
        if face.width(name) < width - 10:
            canvas.text(8, y, name, face, style.ink)
        y += rng.randint(20, 34)
    screen.left, screen.bars = width, True


def _foot(screen: Surface) -> None:
    rng, style, canvas = screen.rng, screen.style, screen.canvas
    height = rng.randint(20, 44)
    top = canvas.height - height
    canvas.rectangle((0, top, canvas.width, canvas.height), mix(style.ground, style.ink, 0.05))
    text = rng.choice(("© 2025 ", "Privacy · Terms · ", "")) + title(rng)
    canvas.text(12, top + height / 2, text, style.face(11 / style.scale), style.muted, "lm")
    screen.bottom, screen.bars = top, True


def draw_below(screen: Surface, y: float) -> None:
    """What lies below the widget: often nothing, else the bare page or some text."""
    rng, canvas, style = screen.rng, screen.canvas, screen.style
    roll = rng.random()
    start = y + rng.uniform(4, 40)
    if roll < 0.25:
        draw_bare_foot(screen, start)
    elif roll < 0.42:
        face = style.face(rng.uniform(11, 15))
        left = screen.left + rng.uniform(4, 50)
        for _ in range(rng.randint(1, 7)):
            if start + face.height > screen.bottom:
                return
            text = sentence(rng, rng.randint(2, 9))
            if left + face.width(text) < canvas.width:
                canvas.text(left, start, text, face, rng.choice((style.muted, style.ink)))
            start += face.height * 1.25


def draw_bare_foot(screen: Surface, y: float) -> None:
    """White from y down, as where the page's own background ends with its content."""
    canvas = screen.canvas
    if not screen.bars and readable_on(screen.style.ground) == BLACK:
        canvas.rectangle((0, y, canvas.width, canvas.height), fill=WHITE)
