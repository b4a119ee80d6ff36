"""Pictures: the images of a request, as data URLs or from allowed hosts."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from PIL import Image

from pointsman.errors import ImageError, RequestError
from pointsman.images import image_size, load_image
from pointsman.server.fetch import fetch_image
from pointsman.server.options import ServerOptions

# Clients write what they like before the comma, so the bytes alone say what it is.
_DATA = re.compile(r"data:([^,]{0,200}),", re.IGNORECASE)


def read_pictures(
    parts: Sequence[Mapping[str, Any]], options: ServerOptions
) -> tuple[tuple[bytes, ...], tuple[Image.Image, ...]]:
    """The files of a request's image parts, and the decoded images.

    Raises:
        RequestError: too many, or an address that is not read.
        ImageError: no image, or one that is too large.
    """
    if len(parts) > options.max_images:
        raise RequestError(f"messages: {len(parts)} images; send at most {options.max_images}")
    files: dict[str, tuple[bytes, Image.Image]] = {}
    found = []
    for number, part in enumerate(parts, 1):
        url = _url(part)
        if url not in files:  # the same screen may be sent with every turn
            content = _content(url, options)
            files[url] = (content, _decoded(content, f"image {number}", options))
        found.append(files[url])
    return tuple(content for content, _ in found), tuple(image for _, image in found)


def _url(part: Mapping[str, Any]) -> str:
    place = part.get("image_url")
    url = place.get("url") if isinstance(place, Mapping) else place
    if not isinstance(url, str) or not url:
        raise RequestError("image_url: give the address of an image, or a data URL")
    return url.strip()


def _content(url: str, options: ServerOptions) -> bytes:
    head = _DATA.match(url)
    if head is None:
        if url[:5].lower() == "data:":
            raise RequestError("image_url: a data URL without a comma")
        return fetch_image(url, options.image_hosts, options.max_body_mb << 20)
    text = url[head.end() :]
    if not head.group(1).rstrip().lower().endswith("base64"):
        return unquote_to_bytes(text)
    try:
        compact = re.sub(r"\s", "", unquote(text))
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise RequestError("image_url: the data URL is not valid base64") from None


def _decoded(content: bytes, name: str, options: ServerOptions) -> Image.Image:
    width, height = image_size(content, name)
    if width * height > options.max_pixels:
        raise ImageError(
            f"{name}: {width}x{height} pixels is more than the {options.max_pixels} that this "
            "server reads; scale it down"
        )
    return load_image(content, name)
