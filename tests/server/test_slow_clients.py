"""Clients that write a byte a second, or never read: they are cut off, and others are unharmed."""

import json
import select
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pointsman.server.connections import CONNECTIONS
from pointsman.server.options import ServerOptions
from support.server import CALENDAR, Server, screen, serve, user

SECONDS = 3
COUNT = 200
HEAD = b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-long: " + b"a" * 1000
BODY = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"content-length: 1000\r\n\r\n"
)
MOST = max(CONNECTIONS, 2 * (4 + ServerOptions.max_waiting))
PIPELINED = b"GET /page.js HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    table = {"head_seconds": SECONDS, "body_seconds": SECONDS, "deadline": SECONDS, "slots": 4}
    with serve(tmp_path_factory.mktemp("slow") / "log", table=table) as found:
        yield found


def connect(server: Server) -> socket.socket:
    place = urlsplit(server.url)
    return socket.create_connection((str(place.hostname), place.port), timeout=30)


def is_closed(each: socket.socket) -> bool:
    """Whether the server has closed a connection; what it answered before is read."""
    try:
        while select.select([each], [], [], 0)[0]:
            if not each.recv(65_536):
                return True
    except OSError:
        return True
    return False


def sockets_of(server: Server) -> int:
    """Open sockets of the server's process."""
    found = 0
    for path in Path(f"/proc/{server.process.pid}/fd").iterdir():
        try:
            found += path.readlink().name.startswith("socket:")
        except OSError:  # closed meanwhile
            continue
    return found


def wait_for_sockets(server: Server, most: int) -> int:
    until = time.monotonic() + 20
    while sockets_of(server) > most and time.monotonic() < until:
        time.sleep(0.05)
    return sockets_of(server)


class Honest:
    """A client that asks while others trickle, from its start to its end."""

    def __init__(self, server: Server) -> None:
        self.answers: list[str] = []
        self.faults: list[Exception] = []
        self._server, self._stop = server, threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        with self._server.client() as client:
            while not self._stop.is_set():
                try:
                    found = client.chat.completions.create(
                        model="auto", messages=[user(CALENDAR, screen())]
                    )
                    self.answers.append(str(found.choices[0].message.content))
                except Exception as fault:
                    self.faults.append(fault)
                    return

    def __enter__(self) -> "Honest":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)


def trickle(server: Server, begin: bytes, text: bytes) -> list[float]:
    """Opens connections that send ``text`` at a byte a second; how long each one lasted."""
    lasted: list[float] = []
    slow = [(connect(server), time.monotonic()) for _ in range(COUNT)]
    for each, _ in slow:
        each.sendall(begin)
    until = time.monotonic() + 10 * SECONDS
    for byte in text:
        for each, began in list(slow):
            if is_closed(each):
                lasted.append(time.monotonic() - began)
                slow.remove((each, began))
                each.close()
            else:
                try:
                    each.send(bytes([byte]))
                except OSError:
                    continue  # it was closed between the two; the next round sees it
        if not slow or time.monotonic() > until:
            break
        time.sleep(1)
    for each, _ in slow:
        each.close()
    return lasted


@pytest.mark.parametrize(
    ("begin", "text"), [(b"", HEAD), (BODY, b" " * 1000)], ids=["head", "body"]
)
def test_a_byte_a_second(server: Server, begin: bytes, text: bytes) -> None:
    before = sockets_of(server)
    with Honest(server) as honest:
        lasted = trickle(server, begin, text)
    assert len(lasted) == COUNT  # the server closed every one
    assert max(lasted) < 3 * SECONDS
    assert min(lasted) > SECONDS - 1
    assert honest.faults == []
    assert len(honest.answers) > 2
    assert len({*honest.answers}) == 1
    assert wait_for_sockets(server, before) <= before
    with urllib.request.urlopen(f"{server.url}/load", timeout=30) as response:
        assert json.loads(response.read()) == {"server_load": 0}


def test_a_body_that_goes_on_after_its_refusal(server: Server) -> None:
    """The answer came at once, and the rest of the body keeps no connection open."""
    refused = BODY.replace(b"application/json", b"text/plain").replace(b"1000", b"9999")
    with connect(server) as slow:
        slow.sendall(refused)
        assert b"415" in slow.recv(1000)
        began = time.monotonic()
        while not is_closed(slow) and time.monotonic() < began + 5 * SECONDS:
            slow.send(b" ")
            time.sleep(0.5)
        assert time.monotonic() - began < 3 * SECONDS


def test_a_client_that_never_reads(server: Server) -> None:
    before = sockets_of(server)
    with connect(server) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(0.5)
        try:
            for _ in range(2000):
                slow.sendall(PIPELINED)
        except OSError:
            pass  # the server reads no more of them
        assert wait_for_sockets(server, before) <= before


def test_the_oldest_idle_connection_makes_room(server: Server) -> None:
    crowd = [connect(server) for _ in range(MOST)]
    try:
        time.sleep(0.2)
        with connect(server) as last:
            last.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert b"200" in last.recv(1000)
        assert is_closed(crowd[0])
        assert not is_closed(crowd[-1])
    finally:
        for each in crowd:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()
