"""Guard: ASGI middleware in front of every route: keys, hosts, sizes and slow bodies."""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pointsman.protocol.bodies import replayed
from pointsman.protocol.shown import error
from pointsman.server.faults import headers_of
from pointsman.server.metrics import Metrics
from pointsman.server.options import ServerOptions
from pointsman.server.tracing import TRACED, Tracing

OPEN = ("/health", "/", "/page.css", "/page.js")
"""Paths without a key: they show nothing but that the server is there"""
ADMIN = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/router")
QUEUED = ("/v1/chat/completions", "/chat/completions")
"""Paths of requests that wait for a place"""
HELD = 16
"""Bodies of the largest size that the requests which are here may hold together"""
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_log = logging.getLogger("pointsman.server")


class Refused(Exception):
    """A request that is answered before any route sees it."""

    def __init__(self, status: int, message: str, kind: str = "BadRequestError") -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


class Guard:
    """Refuses what no route should see; logs, counts and traces each request."""

    def __init__(
        self, app: Any, options: ServerOptions, metrics: Metrics, tracing: Tracing | None
    ) -> None:
        self._app, self._options, self._metrics = app, options, metrics
        self._tracing = tracing
        self._most, self._is_local = options.max_body_mb << 20, options.is_local
        self._inside = self._held = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, at, status = time.perf_counter(), time.time_ns(), 0

        async def sent(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            headers = dict(scope["headers"])
            self._check_host(headers)
            self._check_key(scope["path"], headers)
            with self._memory() as take:
                if scope["method"] in ("POST", "PUT", "PATCH"):
                    self._check_kind(headers)
                    receive = replayed(await self._body(headers, receive, take), receive)
                with self._place(scope["path"]):
                    await self._app(scope, receive, sent)
        except Refused as fault:
            await _answer(sent, fault)
        finally:
            self._tell(scope, status, time.perf_counter() - began)
            if self._tracing is not None and scope["path"] in TRACED:
                self._tracing.record(scope, status, at)

    @contextmanager
    def _place(self, path: str) -> Iterator[None]:
        """Refuses at once what would wait for too long, before its pictures cost anything."""
        if path not in QUEUED:
            yield
            return
        most = self._options.slots + self._options.max_waiting
        if self._inside >= most:
            raise Refused(429, f"{most} requests are here already; try again", "RateLimitError")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @contextmanager
    def _memory(self) -> Iterator[Callable[[int], None]]:
        """Counts the bytes of a body from the first one to the end of its request."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            taken, self._held = taken + size, self._held + size
            if taken > self._most:
                raise self._too_large()
            if self._held > HELD * self._most:
                most = HELD * self._options.max_body_mb
                raise Refused(
                    429, f"requests of {most} MB are here already; try again", "RateLimitError"
                )

        try:
            yield take
        finally:
            self._held -= taken

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        """A page elsewhere may lead a name of its own to this machine (DNS rebinding)."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self._is_local and name not in _LOCAL_HOSTS:
            raise Refused(403, "this server answers on localhost alone; use that name")

    def _check_key(self, path: str, headers: dict[bytes, bytes]) -> None:
        use, admin = self._options.api_key, self._options.admin_key
        if path in OPEN:
            return
        given = _given(headers)
        is_admin = admin is not None and hmac.compare_digest(given, admin.encode())
        if path in ADMIN:
            if admin is None:
                raise Refused(403, "no admin key is set: set POINTSMAN_ADMIN_KEY to change models")
            if not is_admin:
                raise Refused(401, "this needs the admin key", "AuthenticationError")
        elif use is not None and not (is_admin | hmac.compare_digest(given, use.encode())):
            raise Refused(401, "the API key is missing or wrong", "AuthenticationError")

    def _check_kind(self, headers: dict[bytes, bytes]) -> None:
        """Only JSON: a form of a foreign page could be sent without the browser asking first."""
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise Refused(415, "send content-type: application/json")

    async def _body(
        self, headers: dict[bytes, bytes], receive: Any, take: Callable[[int], None]
    ) -> bytes:
        size = headers.get(b"content-length", b"0")
        if not size.isdigit() or int(size[:20]) > self._most:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._options.body_seconds):
                return await _read(receive, take)
        except TimeoutError:
            raise Refused(408, f"no whole body within {self._options.body_seconds} s") from None

    def _too_large(self) -> Refused:
        return Refused(413, f"a request of more than {self._options.max_body_mb} MB")

    def _tell(self, scope: Any, status: int, seconds: float) -> None:
        route = scope.get("route")  # its pattern: a path of the client's could be anything
        path = getattr(route, "path", "unknown") if status not in (404, 405) else "unknown"
        self._metrics.requests.labels(path, str(status)).inc()
        # As JSON, no line break or escape of the client's reaches the log.
        _log.info(
            "%s %s %d %.3f s",
            scope["method"][:16],
            json.dumps(scope["path"][:200]),
            status,
            seconds,
        )


async def _read(receive: Any, take: Callable[[int], None]) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the client has gone")
        parts.append(message.get("body", b""))
        take(len(parts[-1]))
        if not message.get("more_body"):
            return b"".join(parts)


def _given(headers: dict[bytes, bytes]) -> bytes:
    """The key of a request."""
    kind, _, key = headers.get(b"authorization", b"").partition(b" ")
    return key.strip() if kind.lower() == b"bearer" else b""


async def _answer(send: Any, fault: Refused) -> None:
    body = json.dumps(error(str(fault), fault.kind, fault.status)).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *((name.encode(), value.encode()) for name, value in headers_of(fault.status).items()),
    ]
    if fault.status in (408, 413):  # the rest of the body is not read
        headers.append((b"connection", b"close"))
    if fault.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
