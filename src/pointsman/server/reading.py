"""Reading: bodies of requests as JSON that can be written again."""

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute

_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Half of a surrogate pair, which is only text beside the other half"""


class JsonRequest(Request):  # type: ignore[misc]
    """A request whose body is JSON as it was standardised.

    Python's own reader also takes NaN and halves of surrogate pairs, which no response can hold.
    """

    async def json(self) -> Any:
        try:
            text = (await self.body()).decode("utf-8-sig")
            found = json.loads(text, parse_constant=_no_number)
            if _HALF.search(text):
                json.dumps(found, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as fault:
            what = "text" if isinstance(fault, UnicodeError) else "JSON"
            raise json.JSONDecodeError(f"the body is no {what}", "", 0) from None
        return found


class JsonRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def read(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return read


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
