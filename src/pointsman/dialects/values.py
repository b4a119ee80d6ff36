"""Values of a record: what counts as empty, JSON in text, and images in all their forms."""

import base64
import binascii
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from pointsman.errors import ImageError

Image = str | bytes
"""The path of an image file, or the content of one."""
_URL = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+://")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_IMAGE_FILE = re.compile(r"\.(png|jpe?g|webp|bmp|gif|tiff?)$", re.IGNORECASE)
_LONGEST_PATH = 4096


def is_empty(value: Any) -> bool:
    """Whether a value says nothing: null, empty, or made of such values."""
    if isinstance(value, Mapping):
        return all(map(is_empty, value.values()))
    if isinstance(value, list):
        return all(map(is_empty, value))
    return value is None or value == ""


def is_turn(value: Any) -> bool:
    """Whether a value names the role that a turn has."""
    return isinstance(value, Mapping) and bool({"from", "role"} & value.keys())


def decoded(value: Any) -> Any:
    """The list or object that a text holds as JSON, as tables store it; else the value itself."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def images_of(value: Any) -> list[Image]:
    """The images of a column: one, a list or none. Raises ``ImageError``."""
    value = decoded(value)
    if isinstance(value, list):
        return [image_of(item) for item in value if not is_empty(item)]
    return [] if is_empty(value) else [image_of(value)]


def image_of(value: Any) -> Image:
    """An image as its path, or as its content if that is part of the record.

    Args:
        value: a path, a ``file:`` or ``data:`` URL, the content of a file, or an object with
            ``bytes`` and ``path`` (Hugging Face) or ``url`` (OpenAI).

    Raises:
        ImageError: the image is elsewhere, or the value is of another kind.
    """
    if isinstance(value, Mapping):
        if isinstance(value.get("bytes"), str):
            return _from_base64(value["bytes"])
        value = value.get("bytes") or value.get("path") or value.get("url") or dict(value)
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value:
        raise ImageError(f"an image is given as {short(value)}; give its path")
    return _located(value)


def looks_like_image(value: Any) -> bool:
    """Whether a value is an image by its form: a path of an image file, or embedded content."""
    value = decoded(value)
    if isinstance(value, list):
        return bool(value) and all(map(looks_like_image, value))
    if isinstance(value, Mapping):
        return bool({"bytes", "path"} & set(value)) and not is_empty(dict(value))
    if isinstance(value, str):
        return value.startswith("data:image/") or bool(_IMAGE_FILE.search(value))
    return isinstance(value, bytes)


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _located(text: str) -> Image:
    if text.startswith("data:"):
        return _from_base64(text.partition("base64,")[2])
    if len(text) > _LONGEST_PATH:
        raise ImageError(
            f"an image is given as {short(text)}, too long for a path; give Base64 as "
            "data:image/png;base64,…"
        )
    if _URL.match(text):
        raise ImageError(f"image {short(text)} is a URL; download it first and give its path")
    if os.sep == "/" and (_DRIVE.match(text) or "\\" in text):
        raise ImageError(f"image {short(text)} is a Windows path; give a path of this system")
    return text.removeprefix("file://")


def _from_base64(text: str) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"image {text[:40]}: not Base64 ({error})") from None
    if not content:
        raise ImageError("an image is a data: URL without Base64; write data:image/png;base64,…")
    return content
