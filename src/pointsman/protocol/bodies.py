"""Bodies: what ASGI middleware needs to read a request before the application does."""

from typing import Any


def replayed(body: bytes, receive: Any) -> Any:
    """A ``receive`` that gives the body once, and then what the client does."""
    remaining = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Any:
        return remaining.pop() if remaining else await receive()

    return again
