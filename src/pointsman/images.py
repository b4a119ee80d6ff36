"""Images: decoded once, checked at the boundary."""

import io
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from pointsman.errors import ImageError

MAX_PIXELS = 64_000_000
MIN_SIDE = 8
MAX_ASPECT = 200
"""Qwen3-VL's image processor refuses anything longer than this times its width."""
Source = Path | str | bytes | Image.Image


def load_image(source: Source, name: str | None = None) -> Image.Image:
    """Decodes an image to RGB; transparency is laid over white, as browsers do.

    Args:
        source: a path, the bytes of an image file, or a PIL image.
        name: what to call the image in an error.

    Raises:
        ImageError: the image is missing, empty or corrupt, or its size is not that of any screen.
    """
    name = name or (str(source) if isinstance(source, Path | str) else "image")
    image = source if isinstance(source, Image.Image) else _open(source, name)
    try:
        check_size(image.size, name)
        if image.mode.startswith("I;16"):  # Pillow would clip all above 255 to white
            image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
            return image.convert("RGB")
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            flat = Image.new("RGB", layer.size, "white")
            flat.paste(layer, mask=layer.getchannel("A"))
            return flat
        return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, RuntimeError) as error:
        raise ImageError(f"{name}: the image is corrupt or cut off ({error})") from None
    finally:
        if image is not source:
            image.close()


def image_size(source: Path, name: str | None = None) -> tuple[int, int]:
    """(width, height) in pixels, from the header alone. Raises ``ImageError``."""
    name = name or str(source)
    with _open(source, name) as image:
        check_size(image.size, name)
        return image.size


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


def _open(source: Path | str | bytes, name: str) -> Image.Image:
    file = io.BytesIO(source) if isinstance(source, bytes) else Path(source)
    try:
        if (isinstance(file, Path) and file.stat().st_size == 0) or source == b"":
            raise ImageError(f"{name}: the image file is empty (0 bytes)")
        with warnings.catch_warnings():
            # Pillow warns of "decompression bombs" under our own limit, which is checked next.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(file)
    except FileNotFoundError:
        raise ImageError(f"{name}: no such image") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: the image is huge; scale it down") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image that Pillow can read") from None
    except (OSError, ValueError, SyntaxError, RuntimeError) as error:
        raise ImageError(f"{name}: cannot be read as an image ({error})") from None
