import io
import random
import re
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pointsman.conversation import make_prompt
from pointsman.errors import ImageError, SampleError
from pointsman.images import check_size, image_size, load_image
from support.bad_pictures import png


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


CORNERS = {1: 0, 2: 1, 3: 3, 4: 2, 5: 0, 6: 1, 7: 3, 8: 2}
"""By EXIF orientation: where the stored top left corner is seen, of the corners in reading order"""


def exif(orientation: int) -> Image.Exif:
    value = Image.Exif()
    value[0x0112] = orientation
    return value


def marked() -> Image.Image:
    """Grey, with a red top left corner."""
    image = Image.new("RGB", (48, 32), (90, 90, 90))
    image.paste((255, 0, 0), (0, 0, 16, 16))
    return image


def red_corner(image: Image.Image) -> int:
    width, height = image.size
    places = [(4, 4), (width - 5, 4), (4, height - 5), (width - 5, height - 5)]
    return max(range(4), key=lambda i: image.getpixel(places[i])[0])  # type: ignore[index]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", CORNERS)
def test_pictures_are_turned_upright(kind: str, orientation: int, tmp_path: Path) -> None:
    content = encoded(marked(), kind, exif=exif(orientation))
    (tmp_path / "shot").write_bytes(content)
    size = (32, 48) if orientation > 4 else (48, 32)
    for source in (content, Image.open(io.BytesIO(content))):
        loaded = load_image(source)
        assert loaded.size == size
        assert red_corner(loaded) == CORNERS[orientation]
        assert load_image(loaded).tobytes() == loaded.tobytes()  # not turned twice
    assert image_size(content) == image_size(tmp_path / "shot") == size


def late(content: bytes, chunk: bytes) -> bytes:
    """The PNG with one more chunk after its pixels, where exiftool puts metadata."""
    size, crc = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    end = content.rindex(b"IEND") - 4
    return content[:end] + size + chunk + crc + content[end:]


XMP = b"<x xmlns:tiff='t'><rdf:Description tiff:Orientation=\"6\"/></x>"


@pytest.mark.parametrize(
    "chunk",
    [
        b"eXIf" + exif(6).tobytes().removeprefix(b"Exif\0\0"),
        b"iTXtXML:com.adobe.xmp\0\0\0\0\0" + XMP,
    ],
)
def test_metadata_after_the_pixels_of_a_png_count(chunk: bytes, tmp_path: Path) -> None:
    content = late(encoded(marked()), chunk)
    (tmp_path / "shot.png").write_bytes(content)
    assert load_image(content).size == (32, 48)
    assert image_size(tmp_path / "shot.png") == image_size(content) == (32, 48)


def test_broken_metadata_turn_nothing() -> None:
    for value in (b"Exif\0\0MM", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12", exif(9).tobytes(), b"?"):
        content = encoded(marked(), "JPEG", exif=value)
        assert load_image(content).size == image_size(content) == (48, 32)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK", "YCbCr", "HSV", "LAB"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    assert load_image(Image.new(mode, (9, 9))).mode == "RGB"


@pytest.mark.parametrize("dtype", ["float32", "int32", "int16", "uint32"])
def test_a_tiff_without_a_known_white_is_refused(dtype: str) -> None:
    page = tiff(np.linspace(0, 255, 300).reshape(15, 20).astype(dtype))
    with pytest.raises(ImageError, match=r"^scan: has 32 bits a channel.*; save it with 8 or 16$"):
        load_image(page, "scan")


def tiff(values: "np.ndarray[Any, Any]", white_is_zero: bool = False, bits: int = 0) -> bytes:
    """A grey TIFF of one strip, of types that Pillow does not write."""
    form = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    height, width = values.shape
    tags = {
        256: width,
        257: height,
        258: bits or values.dtype.itemsize * 8,
        259: 1,
        262: 0 if white_is_zero else 1,
        273: 8,
        277: 1,
        278: height,
        279: values.nbytes,
        339: form,
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    return struct.pack("<2sHI", b"II", 42, 8 + values.nbytes) + values.tobytes() + directory


def test_sixteen_bits_may_count_from_white() -> None:
    values = np.array([[0, 257, 32896, 65535] * 4] * 16, np.uint16)
    loaded = np.asarray(load_image(tiff(values, white_is_zero=True)))
    assert loaded[0, :4, 0].tolist() == [255, 254, 127, 0]


def test_only_the_formats_of_the_list_are_opened(tmp_path: Path) -> None:
    """Pillow starts Ghostscript for an EPS, whatever the file's name says."""
    for kind in ("EPS", "PPM", "TGA", "PCX", "ICO", "ICNS", "SGI", "DDS", "PDF", "JPEG2000", "XBM"):
        path = tmp_path / f"{kind}.png"
        mode = "1" if kind == "XBM" else "RGB"
        path.write_bytes(encoded(Image.new(mode, (64, 64), 1), kind))
        for read in (load_image, image_size, lambda p: load_image(p.read_bytes(), str(p))):
            with pytest.raises(ImageError, match=r"not an image that is read; give PNG, JPEG, "):
                read(path)


@pytest.mark.parametrize("shape", [(16, 20), (16, 20, 3), (16, 20, 4)])
def test_an_array_is_read(shape: tuple[int, ...]) -> None:
    values = np.full(shape, 255, np.uint8)
    values[:8, :, ...] = 0
    if len(shape) == 3:
        values[..., 3:] = 255
    loaded = np.asarray(load_image(values))
    assert loaded.shape == (16, 20, 3)
    assert loaded[[0, 15], 0].tolist() == [[0, 0, 0], [255, 255, 255]]
    flipped = np.asarray(load_image(values[::-1]))  # negative strides
    assert (flipped == loaded[::-1]).all()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((9, 9, 3), np.float32), "an array of float32 and shape (9, 9, 3); give uint8 of"),
        (np.zeros((3, 9, 9), np.uint8), "an array of uint8 and shape (3, 9, 9); give uint8 of"),
        (np.zeros((1, 9, 9, 3), np.uint8), "an array of uint8 and shape (1, 9, 9, 3); give uint8"),
        (np.zeros(9, np.uint8), "an array of uint8 and shape (9,); give uint8"),
        (np.zeros((0, 0), np.uint8), "0x0 pixels; each side needs at least 8"),
        (np.zeros((2, 9, 3), np.uint8), "9x2 pixels; each side needs at least 8"),
        (
            torch.zeros(9, 9, 3, dtype=torch.uint8),
            "a value of type Tensor is no image; give a path, the bytes",
        ),
        (io.BytesIO(), "a value of type BytesIO is no image; give a path, the bytes of a file"),
        ([[1]], "a value of type list is no image; give a path"),
        (5, "a value of type int is no image; give a path"),
    ],
)
def test_a_value_that_is_no_picture(source: Any, message: str) -> None:
    for read in (load_image, lambda value: make_prompt(value, "Click Save")):
        with pytest.raises(ImageError, match=f"^image: {re.escape(message)}"):
            read(source)


def test_a_value_that_is_no_text() -> None:
    with pytest.raises(
        SampleError, match=r"^a value of type int is given as the text; give a string$"
    ):
        make_prompt(None, 5)  # type: ignore[arg-type]


def test_a_name_that_is_too_long_is_one_short_line() -> None:
    with pytest.raises(ImageError, match=r"n: cannot be read as an image \(File name too long\)$"):
        load_image("n" * 300)


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


def test_what_pillow_asserts_is_an_error_of_the_picture() -> None:
    with pytest.raises(ImageError, match=r"^shot: the image is corrupt or cut off \(Assertion"):
        load_image(png(random.Random(220)), "shot")


def test_what_is_there_but_no_image(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("<html>not found</html>")
    (tmp_path / "cut.png").write_bytes(encoded(noise())[:200])
    for name, message in (
        ("empty.png", "the image file is empty"),
        ("text.png", "not an image that is read"),
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
