"""What is refused before any route sees it, and what goes away."""

import asyncio
import http.client
import json
import os
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pointsman.errors import ConfigError
from pointsman.server.options import ServerOptions
from pointsman.server.run import listen
from support.server import CALENDAR, Server, screen, serve, user

BODY = {"model": "auto", "messages": [user(CALENDAR, screen())]}


def raw(server: Server, headers: dict[str, str], body: bytes = b"{}") -> int:
    place = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=30)
    connection.putrequest("POST", "/v1/chat/completions", skip_host="host" in headers)
    for name, value in {"content-length": str(len(body)), **headers}.items():
        connection.putheader(name, value)
    with suppress(BrokenPipeError):  # it may answer before it has read all; clients read the answer
        connection.endheaders(body)
    status = connection.getresponse().status
    connection.close()
    return status


def load_of(server: Server) -> int:
    with urllib.request.urlopen(f"{server.url}/load", timeout=30) as response:
        return int(json.loads(response.read())["server_load"])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with narrow limits."""
    table = {"max_body_mb": 1, "body_seconds": 2, "max_pixels": 1000, "deadline": 2, "slots": 1}
    table |= {"max_waiting": 2}
    with serve(tmp_path_factory.mktemp("small") / "log", table=table) as found:
        yield found


def test_other_hosts_and_kinds(server: Server) -> None:
    kind = {"content-type": "application/json"}
    assert raw(server, {**kind, "host": "evil.example"}) == 403
    assert raw(server, {**kind, "host": "localhost:1"}) == 400
    assert raw(server, {"content-type": "text/plain"}) == 415
    assert raw(server, {}) == 415


@pytest.mark.parametrize(
    "sent",
    [
        b"SSH-2.0-client\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\na b: c\r\n\r\n",
        b"POST /v1/route HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_as_anything_else_is(server: Server, sent: bytes) -> None:
    place = urlsplit(server.url)
    with socket.create_connection((str(place.hostname), place.port), timeout=30) as plug:
        plug.sendall(sent)
        response = http.client.HTTPResponse(plug)
        response.begin()
        body = json.loads(response.read())
    assert (response.status, response.headers["x-should-retry"]) == (400, "false")
    assert response.headers["connection"] == "close"
    assert body["error"]["code"] == 400
    assert "Send HTTP/1.1" in body["error"]["message"]


def test_sizes(small: Server) -> None:
    kind = {"content-type": "application/json"}
    assert raw(small, kind, b" " * (2 << 20)) == 413
    assert raw(small, {**kind, "content-length": "99999999999999999999999"}) in (400, 413)
    assert raw(small, kind, json.dumps(BODY).encode()) == 400  # more pixels than it reads


def test_bodies_that_are_here_have_a_bound_together(small: Server) -> None:
    """Many clients whose bodies do not end hold no more memory than a few of the largest."""
    place, size = urlsplit(small.url), 1 << 20
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size}\r\n"
    begun = f"{head}content-type: application/json\r\n\r\n".encode() + b" " * (size - 1)
    slow = [
        socket.create_connection((str(place.hostname), place.port), timeout=30) for _ in range(18)
    ]
    answers = []
    for each in slow:
        each.sendall(begun)
    for each in slow:
        answers.append(each.recv(1000))
        each.close()
    assert sum(answer.startswith(b"HTTP/1.1 429 ") for answer in answers) == 2
    assert sum(answer.startswith(b"HTTP/1.1 408 ") for answer in answers) == 16
    body = json.dumps({**BODY, "messages": [{"role": "user", "content": " " * (size // 2)}]})
    assert raw(small, {"content-type": "application/json"}, body.encode()) == 400  # it was read


def test_slow_bodies_end(small: Server) -> None:
    place = urlsplit(small.url)
    began = time.monotonic()
    with socket.create_connection((place.hostname, place.port), timeout=30) as slow:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n"
        slow.sendall(head + b"content-type: application/json\r\n\r\n{")
        assert b"408" in slow.recv(1000)
    assert 1.5 < time.monotonic() - began < 10


def test_a_client_that_goes_away_costs_nothing(server: Server) -> None:
    content = json.dumps({**BODY, "max_tokens": 2000, "ignore_eos": True})
    place = urlsplit(server.url)
    for stream in (True, False):
        body = json.dumps({**json.loads(content), "stream": stream}).encode()
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=30)
        connection.request(
            "POST", "/v1/chat/completions", body, {"content-type": "application/json"}
        )
        until = time.monotonic() + 20
        while load_of(server) == 0 and time.monotonic() < until:
            time.sleep(0.02)
        connection.close()
        gone = time.monotonic()
        while load_of(server) and time.monotonic() < gone + 10:
            time.sleep(0.02)
        assert time.monotonic() - gone < 5  # a second, where no other test takes the cores


def test_deadline_and_full_queue(small: Server) -> None:
    text = {"model": "base", "messages": [{"role": "user", "content": "Count"}]}
    body = {**text, "max_tokens": 4000, "ignore_eos": True}
    found: list[tuple[int, Any]] = []

    def ask() -> None:
        request = urllib.request.Request(
            f"{small.url}/v1/chat/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        try:
            urllib.request.urlopen(request, timeout=60).read()
        except urllib.error.HTTPError as error:
            found.append((error.code, dict(error.headers)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    statuses = [status for status, _ in found]
    assert {*statuses} == {429, 504}
    full = next(headers for status, headers in found if status == 429)
    assert int(full["retry-after-ms"]) > 0
    until = time.monotonic() + 5
    while load_of(small) and time.monotonic() < until:
        time.sleep(0.05)
    assert load_of(small) == 0


def test_sigterm_lets_requests_end(tmp_path: Path) -> None:
    with serve(tmp_path / "log") as server, server.client() as client:
        events = client.chat.completions.create(
            model="auto",
            messages=[user(CALENDAR, screen())],
            max_tokens=100,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        said = [next(events)]  # type: ignore[call-overload]
        os.kill(server.process.pid, signal.SIGTERM)
        said += list(events)
        assert said[-1].choices[0].finish_reason == "length"
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_small_packets_are_sent_at_once(host: str) -> None:
    """Without this, a client that keeps its connection waits 40 ms for each response's body."""

    async def delay_is_off(place: socket.socket) -> bool:
        found = asyncio.get_running_loop().create_future()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            plug = writer.get_extra_info("socket")
            found.set_result(bool(plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
            writer.close()

        async with await asyncio.start_server(connected, sock=place):
            _, writer = await asyncio.open_connection(*place.getsockname()[:2])
            writer.close()
            return await asyncio.wait_for(found, 10)

    assert asyncio.run(delay_is_off(listen(ServerOptions(host=host, port=0))))


def test_log_lines_cannot_be_forged(server: Server) -> None:
    place = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=30)
    connection.request("GET", "/x%0d%0aINFO%20forged%1b[31m")
    assert connection.getresponse().status == 404
    connection.close()
    until = time.monotonic() + 5
    while "forged" not in server.log.read_text() and time.monotonic() < until:
        time.sleep(0.05)
    lines = server.log.read_text().splitlines()
    assert not any(line.startswith("INFO forged") for line in lines)
    assert any('"/x\\r\\nINFO forged\\u001b[31m"' in line for line in lines)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org"])
def test_an_open_address_needs_a_key(host: str) -> None:
    with pytest.raises(ConfigError, match="POINTSMAN_API_KEY"):
        ServerOptions(host=host)
    assert ServerOptions(host=host, api_key="k").host == host
    assert "secret" not in repr(ServerOptions(host=host, api_key="secret"))


def test_health_and_metrics(server: Server) -> None:
    for path in ("/health", "/ready", "/version", "/load", "/metrics", "/openapi.json"):
        with urllib.request.urlopen(server.url + path, timeout=30) as response:
            text = response.read().decode()
            assert response.status == 200
        if path == "/metrics":
            assert "vllm:lora_requests_info{" in text
            assert "pointsman_routed_requests_total" in text
