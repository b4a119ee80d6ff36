"""Changes pictures after drawing, so that what learns from them holds on other screens.

Screens are zoomed, dark, compressed, or part of a larger window; the variations combine.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image, ImageOps

from .canvas import Box
from .screen import Screen, click

SHARES = {"scaled": 0.35, "padded": 0.12, "inverted": 0.12, "compressed": 0.12}
"""How many of the pictures each variation changes; they are drawn independently."""
_ZOOM, _STRETCH = (0.72, 1.55), (0.96, 1.04)
_QUALITY = (50, 80)
_LARGEST = (1280, 800)


def vary(rng: random.Random, screens: Sequence[Screen]) -> list[Screen]:
    """Changes the one picture of some screens; their boxes and clicks go with it."""
    drawn = image = screens[0].image
    if _chosen(rng, "scaled"):
        image = scaled(rng, image)
    scale = image.width / drawn.width, image.height / drawn.height
    shift = (0, 0)
    if _chosen(rng, "padded"):
        image, shift = padded(rng, image)
    if _chosen(rng, "inverted"):
        image = ImageOps.invert(image)
    # Last, as a screenshot is compressed with all that is on it.
    if _chosen(rng, "compressed"):
        image = compressed(rng, image)
    return [_moved(screen, image, scale, shift) for screen in screens]


def _chosen(rng: random.Random, variation: str) -> bool:
    return rng.random() < SHARES[variation]


def scaled(rng: random.Random, image: Image.Image) -> Image.Image:
    """Zooms in or out, a little more along one axis than along the other."""
    zoom = rng.uniform(*_ZOOM)
    width, height = (round(side * zoom * rng.uniform(*_STRETCH)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def padded(rng: random.Random, image: Image.Image) -> tuple[Image.Image, tuple[int, int]]:
    """Puts the picture anywhere on a canvas of its own ground; also tells where."""
    width, height = (
        rng.randint(side, max(side, largest))
        for side, largest in zip(image.size, _LARGEST, strict=True)
    )
    shift = rng.randint(0, width - image.width), rng.randint(0, height - image.height)
    canvas = Image.new(image.mode, (width, height), image.getpixel((1, 1)))
    canvas.paste(image, shift)
    return canvas, shift


def compressed(rng: random.Random, image: Image.Image) -> Image.Image:
    """What JPEG leaves of the picture."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=rng.randint(*_QUALITY))
    with Image.open(buffer) as lossy:
        return lossy.convert(image.mode)


def _moved(
    screen: Screen, image: Image.Image, scale: tuple[float, float], shift: tuple[int, int]
) -> Screen:
    if screen.bbox is None or screen.action is None:
        return replace(screen, image=image)
    left, top, right, bottom = screen.bbox
    box: Box = (
        left * scale[0] + shift[0],
        top * scale[1] + shift[1],
        right * scale[0] + shift[0],
        bottom * scale[1] + shift[1],
    )
    typed = screen.action.removeprefix(click(screen.bbox, screen.image.size))
    return replace(screen, image=image, bbox=box, action=click(box, image.size) + typed)
