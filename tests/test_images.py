import io
import random
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pointsman.errors import ImageError
from pointsman.images import check_size, image_size, load_image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (20, 16)) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), np.uint8)
    return Image.fromarray(pixels.squeeze(), mode=None).convert(mode)


def header_only(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, with next to no pixels behind it."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [body, b"IDAT" + zlib.compress(b"\0" * 100), b"IEND"]
    parts = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_path_bytes_and_image_are_the_same(tmp_path: Path) -> None:
    image = noise()
    (tmp_path / "a.png").write_bytes(encoded(image))
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), encoded(image), image):
        loaded = load_image(source)
        assert loaded.mode == "RGB"
        assert loaded.tobytes() == image.tobytes()
    assert image_size(tmp_path / "a.png") == (20, 16)


def test_transparency_is_laid_over_white() -> None:
    image = Image.new("RGBA", (10, 10), (200, 0, 0, 0))
    image.putpixel((1, 0), (200, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 51))
    loaded = load_image(encoded(image))
    pixels = [loaded.getpixel((x, 0)) for x in range(3)]
    assert pixels == [(255, 255, 255), (200, 0, 0), (204, 204, 204)]


def test_a_palette_keeps_colours_and_transparency() -> None:
    image = Image.new("P", (10, 10), 0)
    image.putpalette([0, 0, 255, 9, 9, 9, 255, 0, 0])
    image.putpixel((0, 0), 2)
    assert load_image(encoded(image)).getpixel((0, 0)) == (255, 0, 0)
    assert load_image(encoded(image)).getpixel((1, 1)) == (0, 0, 255)
    clear = load_image(encoded(image, transparency=0))
    assert clear.getpixel((1, 1)) == (255, 255, 255)
    assert clear.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_cut_off(kind: str) -> None:
    values = np.array([[0, 257, 32896, 65535] * 4] * 16, np.uint16)
    loaded = np.asarray(load_image(encoded(Image.fromarray(values), kind)))
    assert loaded.shape == (16, 16, 3)
    assert loaded[0, :4, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    red, green, blue = load_image(content).getpixel((3, 3))  # type: ignore[misc]
    assert red > 240
    assert max(green, blue) < 15


def test_exif_orientation_is_left_alone() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a photograph to be turned; screenshots have none, boxes are of the pixels
    content = encoded(noise(size=(24, 16)), "JPEG", exif=exif)
    assert load_image(content).size == (24, 16)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK", "YCbCr", "HSV", "LAB", "F", "I"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    assert load_image(Image.new(mode, (9, 9))).mode == "RGB"


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((1, 1), "1x1 pixels; each side needs at least 8"),
        ((8, 7), "8x7 pixels; each side needs at least 8"),
        ((1600, 8), "1600x8 pixels is 200 times as long as wide or longer; crop it"),
        ((8, 1700), "8x1700 pixels is 200 times"),
        ((10_000, 10_000), "10000x10000 pixels is more than 64 million; scale it down"),
        ((60_000, 60_000), "the image is huge; scale it down"),
    ],
)
def test_impossible_sizes_are_refused_from_the_header(
    size: tuple[int, int], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(header_only(*size))
    for read in (load_image, image_size):
        with pytest.raises(ImageError, match=f"^{path}: {message}"):
            read(path)


def test_sizes_at_the_limit_are_let_through() -> None:
    for size in ((8, 8), (1599, 8), (8000, 8000)):
        check_size(size, "a")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_broken_file_is_an_image_or_one_clear_line(kind: str) -> None:
    content = encoded(noise(), kind)
    rng = random.Random(kind)
    refused = 0
    for turn in range(150):
        broken = bytearray(content[: rng.randrange(len(content)) if turn % 2 else None])
        for _ in range(3):
            if broken:
                broken[rng.randrange(len(broken))] = rng.randrange(256)
        message = "shot: fine"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert load_image(bytes(broken), "shot").mode == "RGB"
            except ImageError as error:
                message = str(error)
                refused += 1
        assert message.startswith("shot: ")
        assert "\n" not in message
    assert refused > 50


def test_what_is_there_but_no_image(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("<html>not found</html>")
    (tmp_path / "cut.png").write_bytes(encoded(noise())[:200])
    for name, message in (
        ("empty.png", "the image file is empty"),
        ("text.png", "not an image that Pillow can read"),
        ("cut.png", "the image is corrupt or cut off"),
        ("none.png", "no such image"),
        (".", "cannot be read as an image"),
    ):
        with pytest.raises(ImageError, match=message) as error:
            load_image(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path))
    with pytest.raises(ImageError, match=r"^image: the image file is empty"):
        load_image(b"")
    with pytest.raises(ImageError, match=r"^shot 3: "):
        load_image(b"nothing", "shot 3")


def test_a_callers_image_stays_open() -> None:
    image = Image.open(io.BytesIO(encoded(noise())))
    load_image(image)
    assert load_image(image).tobytes() == noise().tobytes()
