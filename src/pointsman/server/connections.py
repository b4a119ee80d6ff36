"""Connections: each one ends in time, however slowly its client writes or reads."""

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pointsman.protocol.shown import error
from pointsman.server.faults import headers_of
from pointsman.server.options import ServerOptions

CONNECTIONS = 512
"""Connections that are kept at least: clients beyond the queue are to be told 429, not cut off"""


class TimedProtocol(H11Protocol):
    """uvicorn's protocol, which alone waits for ever for the head of a request.

    Between requests, a connection has ``head_seconds`` until the next head is complete; a byte now
    and then gains nothing. During one, the deadlines of body and answer hold, and here only what
    those cannot end: an answer that nobody reads. Where there are too many connections, the one
    without a request that waited longest makes room.
    """

    def __init__(self, *arguments: Any, options: ServerOptions, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._idle_seconds = options.head_seconds
        self._busy_seconds = options.head_seconds + options.body_seconds + options.deadline
        self._most = max(CONNECTIONS, 2 * (options.slots + options.max_waiting))
        self._is_timed_busy: bool | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a request is being read or answered."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def ends(self) -> float:
        """When the connection is closed, in the time of the event loop."""
        return 0.0 if self._timer is None else self._timer.when()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._time()
        if len(self.connections) > self._most:
            idle = [each for each in self.connections if not each.is_busy]  # type: ignore[union-attr]
            min(idle, key=lambda each: each.ends).end()  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._time()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._time()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is not HTTP as any other request is refused; uvicorn would send text."""
        body = json.dumps(error(f"{msg} Send HTTP/1.1.")).encode()
        headers = [("content-type", "application/json"), ("connection", "close")]
        headers += [*headers_of(400).items(), ("content-length", str(len(body)))]
        parts = (h11.Response(status_code=400, headers=headers), h11.Data(body), h11.EndOfMessage())
        for part in parts:
            self.transport.write(self.conn.send(part) or b"")
        self.transport.close()

    def end(self) -> None:
        """Cuts the connection; what was not sent is dropped, since nobody reads it."""
        self.connections.discard(self)
        self.transport.abort()

    def _time(self) -> None:
        """Starts the clock anew when a request begins or ends, and never in between."""
        if self.is_busy is self._is_timed_busy or self.transport.is_closing():
            return
        if self._timer is not None:
            self._timer.cancel()
        self._is_timed_busy = self.is_busy
        seconds = self._busy_seconds if self.is_busy else self._idle_seconds
        self._timer = self.loop.call_later(seconds, self.end)
