"""Near-duplicate pictures: what is found, what is merged wrongly, and how long it takes.

Usage: python benchmarks/bench_near_duplicates.py SCREENS_FOLDER [NUMBER]

SCREENS_FOLDER holds screenshots of different screens, among them pages of one widget with other
content. Of each a copy is made for every change below. NUMBER: pictures of the timing, 100000.
"""

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pointsman.data.near_duplicates import SIDE, alike, look_of
from pointsman.images import load_image

Change = Callable[[Image.Image], Image.Image]
_CURSOR = ((0, 0), (0, 16), (4, 13), (7, 19), (9, 18), (6, 12), (11, 12))


def cursor(image: Image.Image, scale: float = 1) -> Image.Image:
    rng = np.random.default_rng(image.width * image.height)
    image = image.copy()
    left, top = (int(rng.integers(0, side - 25 * scale)) for side in image.size)
    corners = [(left + x * scale, top + y * scale) for x, y in _CURSOR]
    ImageDraw.Draw(image).polygon(corners, fill="black", outline="white")
    return image


def encoded(image: Image.Image, kind: str, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, kind, quality=quality)
    return load_image(content.getvalue())


def resized(image: Image.Image, scale: float) -> Image.Image:
    return image.resize((round(image.width * scale), round(image.height * scale)))


CHANGES: dict[str, Change] = {
    "cursor": cursor,
    "large cursor": lambda image: cursor(image, 1.5),
    "JPEG 90": lambda image: encoded(image, "JPEG", 90),
    "JPEG 50": lambda image: encoded(image, "JPEG", 50),
    "JPEG 30": lambda image: encoded(image, "JPEG", 30),
    "WebP 50": lambda image: encoded(image, "WEBP", 50),
    "size x 0.75": lambda image: resized(image, 0.75),
    "size x 0.9": lambda image: resized(image, 0.9),
    "size x 1.25": lambda image: resized(image, 1.25),
    "cursor, JPEG 75": lambda image: encoded(cursor(image), "JPEG", 75),
}


def measure(images: dict[str, Image.Image]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """How many copies of each change are found, and the pairs of different screens merged."""
    screens = [(name, look_of(image), image.size) for name, image in images.items()]
    found = {}
    for what, change in CHANGES.items():
        copies = {f"{name} changed": change(image) for name, image in images.items()}
        looks = [(name, look_of(copy), copy.size) for name, copy in copies.items()]
        same = alike([*screens, *looks])
        found[what] = sum(name in same.get(f"{name} changed", ()) for name in images)
    merged = [(name, other) for name, others in alike(screens).items() for other in others]
    return found, merged


def seconds(images: dict[str, Image.Image], number: int) -> float:
    """Of ``alike`` for so many pictures: the screens, with random boxes drawn on them."""
    rng = np.random.default_rng(0)
    looks = [np.frombuffer(look, np.uint8) for image in images.values() if (look := look_of(image))]
    many = []
    for n in range(number):
        cells = looks[n % len(looks)].reshape(SIDE, SIDE).copy()
        left, top = rng.integers(0, SIDE - 12, 2)
        cells[top : top + 12, left : left + 12] = rng.integers(0, 256, (12, 12))
        many.append((str(n), cells.tobytes(), (800, 600)))
    started = time.perf_counter()
    alike(many)
    return time.perf_counter() - started


def main() -> None:
    files = sorted(Path(sys.argv[1]).glob("*.png"))
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    images = {file.name: load_image(file) for file in files}
    found, merged = measure(images)
    for what, count in found.items():
        print(f"{what}: {count} of {len(images)} found")
    pairs = len(images) * (len(images) - 1) // 2
    print(f"different screens merged: {len(merged)} of {pairs} pairs {merged}")
    print(f"{number} pictures compared in {seconds(images, number):.0f} s")


if __name__ == "__main__":
    main()
