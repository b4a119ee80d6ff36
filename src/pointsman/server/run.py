"""Run: the server process."""

import asyncio
import ctypes
import logging
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import uvicorn

from pointsman.errors import ConfigError
from pointsman.server.connections import TimedProtocol
from pointsman.server.options import ServerOptions

_HEADER_BYTES = 65_536
_SWITCH_SECONDS = 2e-4
_TRIM_SECONDS = 20
_THREADS = 64
"""Requests whose pictures are read, or that wait for their turn to be"""


def listen(options: ServerOptions) -> socket.socket:
    """A socket that listens. Raises ``ConfigError`` if the address is not to be had."""
    is_v6 = ":" in options.host
    # asyncio turns off the delay of small packets only where the protocol is named.
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    place = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind((options.host.strip("[]"), options.port))
        place.listen(1024)
    except OSError as error:
        place.close()
        raise ConfigError(
            f"cannot listen on {options.host}:{options.port} ({error.strerror}); give another "
            "--port or --host"
        ) from None
    return place


def run(app: Any, place: socket.socket, options: ServerOptions, ready: Callable[[], None]) -> None:
    """Serves until SIGTERM or SIGINT; then running requests end, at most ``drain`` seconds.

    Args:
        place: from ``listen``.
        ready: called when requests are answered.
    """
    protocol: Any = partial(TimedProtocol, options=options)  # uvicorn calls it like the class
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        log_config=None,
        server_header=False,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_keep_alive=options.head_seconds,
        timeout_graceful_shutdown=options.drain,
    )
    # Threads that read pictures would keep the event loop from a refusal for 5 ms each.
    sys.setswitchinterval(_SWITCH_SECONDS)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    for kind in (signal.SIGTERM, signal.SIGINT):
        # uvicorn drains on them, and then sends them again to the handlers that were there.
        signal.signal(kind, lambda *_: None)
    asyncio.run(_serve(uvicorn.Server(config), place, ready))


async def _serve(server: uvicorn.Server, place: socket.socket, ready: Callable[[], None]) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "pointsman-http"))
    serving = asyncio.create_task(server.serve(sockets=[place]))
    trimming = asyncio.create_task(_trim())
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if server.started:
        ready()
    await serving
    trimming.cancel()


async def _trim() -> None:
    """Gives memory that threads freed back to the system, now and then.

    glibc keeps it in heaps of its own for each of many threads, so that a server which reads
    pictures seems to grow for hours. Other C libraries have no such call.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await asyncio.sleep(_TRIM_SECONDS)
        await asyncio.to_thread(trim, 0)
