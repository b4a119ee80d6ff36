"""Overlays: a screenshot with the right box, the click and the typed text drawn on it."""

import io
import textwrap

from PIL import Image, ImageDraw, ImageFont

from pointsman.sample import Box, is_inside

_QUALITY = 72
"""JPEG quality: about 20 kB at a width of 440 pixels"""
GREEN, RED, INK = (22, 163, 74), (220, 38, 38), (31, 41, 55)


def draw_overlay(
    image: Image.Image,
    point: tuple[float, float] | None,
    box: Box | None,
    typed: str | None = None,
) -> Image.Image:
    """The screenshot with the right box in green and the click as a cross, red if it missed.

    The typed text is below the cross.
    """
    picture = image.copy()
    draw = ImageDraw.Draw(picture)
    if box is not None:
        draw.rectangle(box, outline=GREEN, width=2)
    if point is not None:
        color = GREEN if box is not None and is_inside(point, box) else RED
        x, y = point
        for reach, width, shade in ((13, 6, (255, 255, 255)), (12, 3, color)):
            draw.line((x - reach, y, x + reach, y), fill=shade, width=width)
            draw.line((x, y - reach, x, y + reach), fill=shade, width=width)
        if typed is not None:
            _write_label(draw, point, typed, picture.size)
    return picture


def overlay_jpeg(
    image: Image.Image,
    point: tuple[float, float] | None,
    box: Box | None,
    typed: str | None,
    width: int,
) -> bytes:
    """The same as a JPEG of at most this width in pixels; lines keep their thickness."""
    scale = min(1.0, width / image.width)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(size, Image.Resampling.LANCZOS)
    if point is not None:
        point = point[0] * scale, point[1] * scale
    if box is not None:
        box = box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale
    buffer = io.BytesIO()
    drawn = draw_overlay(small, point, box, typed)
    drawn.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()


def _write_label(
    draw: ImageDraw.ImageDraw, point: tuple[float, float], text: str, size: tuple[int, int]
) -> None:
    """Writes a text below a point, moved if needed to fit in a picture of this size."""
    shown = textwrap.shorten(repr(text), 48)
    font = ImageFont.load_default(13)
    _, _, width, height = draw.textbbox((0, 0), shown, font)
    x = max(0, min(point[0] - width / 2, size[0] - width - 3))
    y = min(point[1] + 16, size[1] - height - 3)
    draw.rectangle((x - 3, y - 2, x + width + 3, y + height + 3), fill=(255, 255, 255), outline=INK)
    draw.text((x, y), shown, fill=INK, font=font)
