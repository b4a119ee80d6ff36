"""What both servers ask of a request before the router sees it."""

from itertools import product
from typing import Any

import pytest

from pointsman.errors import RequestError
from pointsman.protocol.conversations import shows_image
from pointsman.protocol.requests import is_background, session_of

FIELDS = {"session_id": "id", "prompt_cache_key": "key"}


@pytest.mark.parametrize(
    ("header", "body", "session"),
    [
        ("header", FIELDS, "header"),
        (None, FIELDS, "id"),
        ("", {**FIELDS, "session_id": ""}, "key"),
        (None, {**FIELDS, "session_id": None}, "key"),
        (None, {}, None),
    ],
)
def test_the_session_of_a_request(
    header: str | None, body: dict[str, Any], session: str | None
) -> None:
    assert session_of(header, body) == session


@pytest.mark.parametrize("value", [7, True, ["a"], {}])
def test_what_names_no_session(value: Any) -> None:
    with pytest.raises(RequestError, match=r"^session_id: .* names no session; give a string$"):
        session_of("header", {"session_id": value})


def test_background_requests() -> None:
    """One case of all: no image, no session, a router of images, and no option."""
    found = [
        case
        for case in product((None, "one"), (False, True), (False, True), (False, True))
        if is_background(case[0], has_images=case[1], reads_images=case[2], route_text=case[3])
    ]
    assert found == [(None, False, True, False)]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, True),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, True),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, True),
        ({"messages": [{"content": [{"type": "image_url"}]}, {"content": "Again"}]}, True),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "image"}]}]}, False),
        ({"messages": [{"role": "user", "content": "image_url"}], "input": "image"}, False),
        ({"messages": [None, {"content": [None, "image"]}, {"content": {}}]}, False),
        ({"prompt": "image"}, False),
    ],
)
def test_requests_with_an_image(request_: dict[str, Any], expected: bool) -> None:
    assert shows_image(request_) is expected
