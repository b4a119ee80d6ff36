"""Requests of ``auto``: the session that one belongs to, and which ones are none for the router."""

from collections.abc import Mapping
from typing import Any

from pointsman.errors import RequestError

SESSION_HEADER = "x-session-id"
_FIELDS = ("session_id", "prompt_cache_key")


def session_of(header: str | None, body: Mapping[str, Any]) -> str | None:
    """The session of a request: its header's, or that of the first of the fields.

    Args:
        header: the value of ``SESSION_HEADER``, if there is one.

    Raises:
        RequestError: a field is no string.
    """
    fields = [(name, body.get(name)) for name in _FIELDS]
    for name, value in fields:
        if not isinstance(value, str | None):
            raise RequestError(f"{name}: {repr(value)[:80]} names no session; give a string")
    return header or next((value for _, value in fields if value), None)


def is_background(
    session: str | None, *, has_images: bool, reads_images: bool, route_text: bool
) -> bool:
    """Whether a request without an image is none for a router of images, which then abstains.

    Chat front ends send such requests of their own, for titles and tags. In a session it is no
    such request: there, it may follow one with an image.

    Args:
        reads_images: whether the router reads images; a router of text reads every request.
        route_text: the project's option.
    """
    return reads_images and not (has_images or route_text or session)
