"""Puts widgets and pages on a screen."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from pointsman.errors import ConfigError

from .calendar_widget import draw_calendar
from .canvas import Box, Canvas
from .chrome import Surface, draw_bare_foot, draw_bars, draw_below
from .claim_widget import draw_claim_form
from .marks import Mark
from .pages import draw_page
from .provider_widget import draw_provider_list
from .style import Style, draw_style
from .widget import ADAPTERS, Widget

ONE_WIDGET = ("plain", "image-decides", "near-out-of-scope")


LEAST_OPTIONS = 4
"""That every widget on a screen has."""


_ATTEMPTS = 40


@dataclass(frozen=True)
class Scene:
    """A drawn picture and what is on it: widgets, or a page with its wishes."""

    image: Image.Image
    widgets: tuple[Widget, ...]
    page: str = ""
    wishes: tuple[str, ...] = ()
    marks: Sequence[Mark] = ()

    @property
    def name(self) -> str:
        return self.page or "+".join(widget.name for widget in self.widgets)

    @property
    def labels(self) -> frozenset[str]:
        return frozenset().union(*(widget.labels for widget in self.widgets))


def draw_size(rng: random.Random) -> tuple[int, int]:
    """A canvas size: most often that of a small window, any integers up to a large one."""
    if rng.random() < 0.7:
        return rng.randint(600, 840), rng.randint(430, 600)
    return rng.randint(512, 1280), rng.randint(400, 800)


def draw_scene(
    rng: random.Random,
    adapter: str | None,
    stratum: str,
    size: tuple[int, int] | None = None,
    font_folders: Sequence[Path] = (),
) -> Scene:
    """Draws a scene that questions of the stratum can be asked about.

    Drawings whose widgets turn out to lie too far outside the canvas are thrown away.
    """
    for _ in range(_ATTEMPTS):
        scene = _attempt(rng, adapter, stratum, size or draw_size(rng), font_folders)
        if not _apart(scene):
            continue
        enough = [len(widget.options) >= LEAST_OPTIONS for widget in scene.widgets]
        if scene.page or (enough and all(enough)):
            return scene
    raise ConfigError(f"no {stratum} screen fits into {size}: choose a larger size")


def _apart(scene: Scene) -> bool:
    """Whether no widget runs into another by more than a margin."""
    if len(scene.widgets) < 2:
        return True
    first, second = (widget.box for widget in scene.widgets)
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return width < 10 or height < 0


def _attempt(
    rng: random.Random,
    adapter: str | None,
    stratum: str,
    size: tuple[int, int],
    font_folders: Sequence[Path],
) -> Scene:
    screen = _start(rng, stratum, size, font_folders)
    if stratum == "out-of-scope":
        return _page_scene(screen)
    main = adapter or rng.choice(ADAPTERS)
    if stratum == "text-decides" or (adapter is None and rng.random() < 0.12):
        return _two_widgets(screen, main)
    return _one_widget(screen, main)


def _start(
    rng: random.Random, stratum: str, size: tuple[int, int], font_folders: Sequence[Path]
) -> Surface:
    width, height = size
    # Large windows show the same page at the same zoom more often than at a larger one.
    growth = (min(width / 640, height / 448)) ** rng.choice((0.0, 0.5, 1.0))
    low, high = (0.52, 0.85) if stratum == "text-decides" else (0.75, 1.25)
    if stratum != "text-decides" and rng.random() < 0.15:
        low, high = 0.55, 0.8
    style = draw_style(rng, rng.uniform(low, high) * growth, font_folders)
    screen = Surface(Canvas(width, height, style.ground), rng, style, bottom=height)
    draw_bars(screen)
    return screen


def _draw_widget(
    screen: Surface, adapter: str, area: Box, style: Style, excluded: frozenset[str]
) -> Widget:
    canvas, rng = screen.canvas, screen.rng
    if adapter == "calendar":
        return draw_calendar(canvas, rng, style, area)
    if adapter == "claim-window":
        return draw_claim_form(canvas, rng, style, area, LEAST_OPTIONS, excluded)
    return draw_provider_list(canvas, rng, style, area, LEAST_OPTIONS)


def _one_widget(screen: Surface, adapter: str) -> Scene:
    rng, canvas = screen.rng, screen.canvas
    room = canvas.width - screen.left
    near = rng.random() < 0.75
    left = screen.left + rng.uniform(2, 40 if near else room * 0.4)
    high = rng.random() < 0.7
    top = screen.top + rng.uniform(2, 40 if high else (screen.bottom - screen.top) * 0.3)
    area = (left, top, canvas.width - 8.0, screen.bottom - 4)
    widget = _draw_widget(screen, adapter, area, screen.style, frozenset())
    draw_below(screen, widget.box[3])
    return Scene(canvas.image, (widget,), marks=canvas.marks)


def _two_widgets(screen: Surface, main: str) -> Scene:
    rng, canvas, style = screen.rng, screen.canvas, screen.style
    other = rng.choice([name for name in ADAPTERS if name != main])
    order = [main, other]
    rng.shuffle(order)
    styles = [style, style]
    if rng.random() < 0.12:
        styles[1] = draw_style(rng, style.scale)
        # Only shapes and letters differ; colours of two pages would not meet on one.
        styles[1] = _recoloured(styles[1], style)
    excluded = frozenset({"Next", "Back", "Reset"})
    areas = _side_by_side(screen) if rng.random() < 0.78 else _stacked(screen)
    widgets = tuple(
        _draw_widget(screen, name, area, chosen, excluded)
        for name, area, chosen in zip(order, areas, styles, strict=True)
    )
    if rng.random() < 0.25:
        lowest = max(widget.box[3] for widget in widgets)
        draw_bare_foot(screen, lowest + rng.uniform(8, 40))
    return Scene(canvas.image, widgets, marks=canvas.marks)


def _recoloured(style: Style, like: Style) -> Style:
    return replace(
        style,
        ground=like.ground,
        panel=like.panel,
        ink=like.ink,
        line=like.line,
        muted=like.muted,
        faint=like.faint,
    )


def _side_by_side(screen: Surface) -> tuple[Box, Box]:
    rng, width = screen.rng, screen.canvas.width
    left, top = screen.left + rng.uniform(2, 20), screen.top + rng.uniform(2, 30)
    split = left + (width - left) * rng.uniform(0.36, 0.62)
    second_top = top if rng.random() < 0.7 else screen.top + rng.uniform(2, 30)
    return (
        (left, top, split - 12, screen.bottom - 4),
        (split, second_top, width - 6.0, screen.bottom - 4),
    )


def _stacked(screen: Surface) -> tuple[Box, Box]:
    rng, width = screen.rng, screen.canvas.width
    left, top = screen.left + rng.uniform(4, 60), screen.top + rng.uniform(2, 16)
    split = top + (screen.bottom - top) * rng.uniform(0.44, 0.56)
    return (left, top, width - 20.0, split - 8), (left, split, width - 20.0, screen.bottom - 2)


def _page_scene(screen: Surface) -> Scene:
    rng, canvas = screen.rng, screen.canvas
    left = screen.left + rng.uniform(4, 40)
    top = screen.top + rng.uniform(4, 40)
    area = (left, top, canvas.width - rng.uniform(6, 60), screen.bottom - rng.uniform(6, 60))
    kind, wishes = draw_page(canvas, rng, screen.style, area)
    return Scene(canvas.image, (), kind, wishes, canvas.marks)
