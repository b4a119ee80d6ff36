"""The identity of an image file: one digest of its bytes, one of its pixels; and its check."""

import hashlib
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pointsman.data.dataset import IMAGES, Dataset, read_manifest
from pointsman.data.near_duplicates import alike, look_of
from pointsman.data.readers import image_content
from pointsman.errors import MismatchError
from pointsman.files import digest_bytes, digest_json
from pointsman.images import load_image, open_image
from pointsman.progress import Progress

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
    look: bytes
    """What ``near_duplicates`` compares."""


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
        look=look_of(image),
    )


def pixel_digest(image: Image.Image) -> str:
    """SHA-256 of the size and the RGB bytes of an image."""
    rgb = image.convert("RGB")
    return hashlib.sha256(b"%dx%d:" % rgb.size + rgb.tobytes()).hexdigest()


def near_duplicates(pictures: Iterable[Picture]) -> dict[str, list[str]]:
    """For each picture, by the digest of its pixels, the earlier ones that look the same."""
    return alike((picture.pixels, picture.look, picture.size) for picture in pictures)


def is_changed(path: str, digest: str) -> bool:
    """Whether an image's name in a dataset is that of another content."""
    stem = Path(path).stem
    return bool(re.fullmatch(r"[0-9a-f]{16}", stem)) and not digest.startswith(stem)


def sealed_images(dataset: Dataset, progress: Progress) -> dict[str, str]:
    """SHA-256 by path of every image of a dataset, all of which are read.

    Raises:
        ImageError: an image is missing.
        MismatchError: an image is not the one that the dataset was made with.
    """
    samples = [sample for split in dataset.splits.values() for sample in split]
    paths = sorted({path for sample in samples for path in sample.images})
    digests: dict[str, str] = {}
    with ThreadPoolExecutor(8) as pool:  # hashing releases the GIL
        for path, digest in zip(paths, pool.map(_digest_of, paths), strict=True):
            if is_changed(path, digest):
                raise _changed(path)
            digests[path] = digest
            progress(len(digests), len(paths), IMAGES)
    _, manifest = read_manifest(dataset.path)
    if paths and digest_json(sorted(set(digests.values()))) != manifest["images"]["sha256"]:
        raise _changed(f"{dataset.path / IMAGES}")
    return digests


def load_sealed(path: str, digest: str) -> Image.Image:
    """An image of this SHA-256, see ``load_image``. Raises ``MismatchError`` if it is another."""
    name, content = image_content(path, Path())
    if digest_bytes(content) != digest:
        raise _changed(path)
    return load_image(content, name)


def _digest_of(path: str) -> str:
    return digest_bytes(image_content(path, Path())[1])


def _changed(where: str) -> MismatchError:
    return MismatchError(
        f"{where}: was changed after the dataset was made; restore it, or run the same "
        "`pointsman data generate` again"
    )
