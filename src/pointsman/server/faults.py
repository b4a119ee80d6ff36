"""Faults: errors as responses, in OpenAI's form."""

import logging
import re
from typing import Any

import torch
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from pointsman.errors import (
    AbstainedError,
    EngineClosedError,
    LabelError,
    PointsmanError,
    QueueFullError,
    RequestError,
    SampleError,
)
from pointsman.protocol.shown import REFUSED, error

_STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (AbstainedError, REFUSED, "AbstainedError"),
    (LabelError, 404, "NotFoundError"),
    (SampleError, 400, "BadRequestError"),
    (RequestError, 400, "BadRequestError"),
    (QueueFullError, 429, "RateLimitError"),
    (EngineClosedError, 503, "ServiceUnavailableError"),
)
RETRY_MS = 500
"""When a client may try again: in this time some of what waits has ended"""
_PARAM = re.compile(r"([a-z_]+)(?:: | is )")
_log = logging.getLogger("pointsman.server")


class DeadlineError(Exception):
    """A request took longer than the server allows."""


class ClientGone(Exception):
    """Nobody waits for the answer."""


def deadline_passed(seconds: float) -> DeadlineError:
    return DeadlineError(
        f"no complete answer within {seconds:g} s; ask for fewer tokens, or raise [server] deadline"
    )


def status_of(fault: Exception) -> tuple[int, str]:
    """Status and type of an error."""
    for kind, status, name in _STATUS:
        if isinstance(fault, kind):
            return status, name
    if isinstance(fault, DeadlineError):
        return 504, "TimeoutError"
    if _is_out_of_memory(fault):
        return 503, "ServiceUnavailableError"
    return 500, "InternalServerError"


def _is_out_of_memory(fault: Exception) -> bool:
    """Whether a device or this machine had no memory. The CPU's allocator has no class for it."""
    is_on_cpu = isinstance(fault, RuntimeError) and "DefaultCPUAllocator: can't" in str(fault)
    return is_on_cpu or isinstance(fault, torch.OutOfMemoryError | MemoryError)


def body_of(fault: Exception) -> dict[str, Any]:
    """The body of an error. What is not meant for clients is only logged."""
    status, kind = status_of(fault)
    message = str(fault).partition("\n")[0]
    if status == 500:
        _log.error("a request failed", exc_info=fault)
        message = "the server failed on this request; its log says why"
    elif status == 503 and not isinstance(fault, PointsmanError):
        message = "the device is out of memory for this request; send a smaller one, or later"
    param = _PARAM.match(message) if status == 400 else None
    return error(message, kind, status, param.group(1) if param else None)


def headers_of(status: int) -> dict[str, str]:
    """What tells a client whether to try again."""
    if status in (429, 503):
        return {"retry-after-ms": str(RETRY_MS), "retry-after": "1"}
    return {"x-should-retry": "false"}


def attach_faults(app: FastAPI) -> None:
    """Answers every error of a route in OpenAI's form."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_route)
    for kind in (PointsmanError, DeadlineError, ClientGone, torch.OutOfMemoryError, Exception):
        app.add_exception_handler(kind, _refuse)


async def _refuse(_: Request, fault: Exception) -> Response:
    if isinstance(fault, ClientGone):
        return Response(status_code=499)  # it is only logged
    status, _name = status_of(fault)
    return JSONResponse(body_of(fault), status, headers=headers_of(status))


async def _invalid(_: Request, fault: Any) -> Response:
    """Pydantic's first complaint as one line that names the field."""
    first = fault.errors()[0]
    if first["type"] == "json_invalid":
        return JSONResponse(error(first["ctx"]["error"]), 400, headers=headers_of(400))
    place = ".".join(str(part) for part in first["loc"][1:]) or "body"
    value = "" if first["type"] == "missing" else f" ({str(first.get('input'))[:80]!r})"
    content = error(f"{place}: {first['msg']}{value}", param=place)
    return JSONResponse(content, 400, headers=headers_of(400))


async def _no_route(request: Request, fault: Any) -> Response:
    content = error(
        f"{fault.detail}: {request.method} {request.url.path}", "NotFoundError", fault.status_code
    )
    found = {**headers_of(fault.status_code), **(fault.headers or {})}
    return JSONResponse(content, fault.status_code, headers=found)
