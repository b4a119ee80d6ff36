"""The identity of an image file: one digest of its bytes, one of its pixels."""

import hashlib
from dataclasses import dataclass

from PIL import Image

from pointsman.files import digest_bytes
from pointsman.images import load_image, open_image

_SUFFIX = {"jpeg": "jpg", "mpo": "jpg", "tiff": "tif"}


@dataclass(frozen=True)
class Picture:
    """An image file that has been decoded once."""

    digest: str
    """SHA-256 of the file."""
    pixels: str
    """SHA-256 of size and decoded RGB: the same for two encodings of one picture."""
    name: str
    """The file's name in a dataset: the start of its digest and its format."""
    size: tuple[int, int]
    """Width and height in pixels of the upright picture."""
    blank: bool
    """True if every pixel has the same colour."""


def decode(content: bytes, name: str) -> Picture:
    """Decodes an image file in memory. Raises ``ImageError``, which names the image ``name``."""
    image = load_image(content, name)
    with open_image(content, name) as header:
        kind = str(header.format).lower()
    digest = digest_bytes(content)
    return Picture(
        digest=digest,
        pixels=pixel_digest(image),
        name=f"{digest[:16]}.{_SUFFIX.get(kind, kind)}",
        size=image.size,
        blank=all(low == high for low, high in image.getextrema()),  # type: ignore[misc]
    )


def pixel_digest(image: Image.Image) -> str:
    """SHA-256 of the size and the RGB bytes of an image."""
    rgb = image.convert("RGB")
    return hashlib.sha256(b"%dx%d:" % rgb.size + rgb.tobytes()).hexdigest()
