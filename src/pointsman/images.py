"""Images: opened and decoded in one place, as other tools see them, checked at the boundary."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pointsman.errors import ImageError

MAX_PIXELS = 64_000_000
MIN_SIDE = 8
MAX_ASPECT = 200
"""Qwen3-VL's image processor refuses anything longer than this times its width."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""What is opened, whatever a file's name says: Pillow starts Ghostscript for EPS, for example."""
Source = Path | str | bytes | Image.Image | NDArray[np.uint8]
_KNOWN = "PNG, JPEG, WebP, GIF, BMP or TIFF"
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by its EXIF orientation; from 5 on, width and height change."""
_METADATA = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
"""Where a PNG may hold its orientation."""


def load_image(source: Source, name: str | None = None) -> Image.Image:
    """Decodes an image to upright RGB.

    The EXIF orientation is applied; transparency is laid over white, as browsers do. Of an
    animation, the first frame is read. 16 bits a channel are scaled to 8.

    Args:
        source: a path, the bytes of an image file, a PIL image, or a uint8 array in the order
            RGB: (height, width), (height, width, 3) or (height, width, 4).
        name: what to call the image in an error.

    Raises:
        ImageError: the image is missing, empty, corrupt or of a format or kind that is not read,
            or its size is not that of any screen.
    """
    name = name or (str(source) if isinstance(source, Path | str) else "image")
    image = source if isinstance(source, Image.Image) else open_image(source, name)
    kept: Image.Image | None = source if image is source else None
    try:
        check_size(image.size, name)
        if image.mode in ("I", "F"):
            raise ImageError(
                f"{name}: has 32 bits a channel, which no range of brightness belongs to; "
                "save it with 8 or 16"
            )
        image.load()
        turn = _turn(image)
        if image is not source and turn is None and _is_plain(image):
            kept = rgb = image  # a copy would take a fifth of the time that decoding takes
        else:
            rgb = _to_rgb(image)
            rgb = rgb if turn is None else rgb.transpose(turn)
        rgb.info.clear()  # or the result would be turned again
        return rgb
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise almost anything on a broken file
        reason = str(error) or type(error).__name__
        raise ImageError(f"{name}: the image is corrupt or cut off ({reason})") from None
    finally:
        if image is not kept:
            image.close()


def image_size(source: Path | bytes, name: str | None = None) -> tuple[int, int]:
    """(width, height) in pixels of the upright image, without decoding it. Raises ``ImageError``.

    Args:
        source: a path, or the bytes of an image file.
        name: what to call the image in an error.
    """
    name = name or (str(source) if isinstance(source, Path) else "image")
    with open_image(source, name) as image:
        width, height = image.size
        check_size(image.size, name)
        # Pillow decodes a PNG to see whether metadata follow the pixels.
        if image.format == "PNG" and not _holds_metadata(source, image):
            return width, height
        turn = _turn(image)
    return (height, width) if turn in list(_TURNS.values())[3:] else (width, height)


def check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if min(size) < MIN_SIDE:
        raise ImageError(f"{name}: {width}x{height} pixels; each side needs at least {MIN_SIDE}")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name}: {width}x{height} pixels is more than {MAX_PIXELS // 10**6} million; "
            "scale it down"
        )
    if max(size) >= MAX_ASPECT * min(size):
        raise ImageError(
            f"{name}: {width}x{height} pixels is {MAX_ASPECT} times as long as wide or longer; "
            "crop it"
        )


def open_image(source: Path | str | bytes | NDArray[np.uint8], name: str) -> Image.Image:
    """An image whose header alone has been read, of one of ``FORMATS``. Raises ``ImageError``."""
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    if not isinstance(source, Path | str | bytes):
        raise ImageError(
            f"{name}: a value of type {type(source).__name__} is no image; give a path, "
            "the bytes of a file, a PIL image or a uint8 array"
        )
    file = io.BytesIO(source) if isinstance(source, bytes) else Path(source)
    try:
        if (isinstance(file, Path) and file.stat().st_size == 0) or source == b"":
            raise ImageError(f"{name}: the image file is empty (0 bytes)")
        with warnings.catch_warnings():
            # Of "decompression bombs" under our own limit, which is checked next; of odd metadata.
            warnings.simplefilter("ignore")
            return Image.open(file, formats=FORMATS)
    except FileNotFoundError:
        raise ImageError(f"{name}: no such image") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: the image is huge; scale it down") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image that is read; give {_KNOWN}") from None
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        # Without the file's name, which may be long.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"{name}: cannot be read as an image ({reason})") from None


def _from_array(array: NDArray[Any], name: str) -> Image.Image:
    channels = array.shape[2:]
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in ((), (3,), (4,)):
        raise ImageError(
            f"{name}: an array of {array.dtype} and shape {array.shape}; give uint8 of shape "
            "(height, width), (height, width, 3) or (height, width, 4)"
        )
    check_size((array.shape[1], array.shape[0]), name)
    return Image.fromarray(array)


def _is_plain(image: Image.Image) -> bool:
    """Whether a decoded image is RGB and has no file that is still open."""
    is_open = getattr(image, "fp", None) is not None
    return image.mode == "RGB" and not image.has_transparency_data and not is_open


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would clip all above 255 to white
        return _scaled(image).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        flat = Image.new("RGB", layer.size, "white")
        flat.paste(layer, mask=layer.getchannel("A"))
        return flat
    return image.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """8 bits of 16 bits, or of the 12 that a TIFF may have, which may count from white to black."""
    tags = getattr(image, "tag_v2", {})
    factor = 255 / (2 ** tags.get(258, (16,))[0] - 1)
    grey = image.convert("I").point(lambda value: value * factor + 0.5).convert("L")
    return ImageOps.invert(grey) if tags.get(262) == 0 else grey


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What turns the picture upright; Pillow itself turns a TIFF. Broken metadata turn nothing."""
    if image.format == "TIFF":
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow's readers of EXIF raise almost anything
        return None


def _holds_metadata(source: Path | bytes, image: Image.Image) -> bool:
    if "exif" in image.info:
        return True
    content = source if isinstance(source, bytes) else source.read_bytes()
    return any(mark in content for mark in _METADATA)
