"""Images from elsewhere: no address inside the own network is ever connected to."""

import ipaddress
import socket
from typing import Any

import pytest

from pointsman.errors import RequestError
from pointsman.server import fetch
from pointsman.server.fetch import fetch_image

HOSTS = ("pictures.example", "other.example")
PRIVATE = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.9.9",
    "192.168.0.1",
    "169.254.169.254",
    "169.254.0.1",
    "100.64.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2002:a00:1::",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "ff02::1",
    "2001:db8::1",
    "100::1",
]
SCHEMES = [
    "http",
    "ftp",
    "file",
    "gopher",
    "dict",
    "ldap",
    "jar",
    "ws",
    "javascript",
    "FILE",
    "HTTP",
]
PLACES = (
    "{scheme}://pictures.example/a.png",
    "{scheme}://169.254.169.254/latest/meta-data",
    "{scheme}:///etc/passwd",
    "{scheme}:/etc/passwd",
)
ADDRESSES = (
    "https://127.0.0.1/",
    "https://localhost/",
    "https://[::1]/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://pictures.example@127.0.0.1/",
    "https://pictures.example:secret@other.example/",
    "https://pictures.example.evil.example/",
    "https://evil.example/pictures.example",
    "https://evil.example#pictures.example",
    "https://evil.example?pictures.example",
    "https://pictures.example:22/",
    "https://pictures.example:8443/",
    "https://pictures.example:port/",
    "https://pictures.example\\@evil.example/",
    "https://evil.example\\.pictures.example/",
    "https://pictures。example/",
    "https:///a",
    "https://",
    "//pictures.example/a",
    "pictures.example/a",
    "/etc/passwd",
    "C:\\windows",
    "https://pictures.example\r\nHost: evil/",
    "https://[pictures.example/",
    "\x00",
    "",
    "https://" + "a" * 10_000,
)
CORPUS = [
    *ADDRESSES,
    *(place.format(scheme=scheme) for scheme in SCHEMES for place in PLACES),
]


@pytest.fixture
def packets(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every attempt to connect; none gets through."""
    tried: list[Any] = []

    def connect(address: Any, *_: Any, **__: Any) -> Any:
        tried.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "create_connection", connect)
    return tried


@pytest.mark.parametrize("url", CORPUS)
def test_addresses_that_are_not_allowed(url: str, packets: list[Any]) -> None:
    with pytest.raises(RequestError, match="image_url"):
        fetch_image(url, HOSTS, 1 << 20)
    assert packets == []


@pytest.mark.parametrize("address", PRIVATE)
def test_names_that_lead_inside(
    address: str, packets: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for found in ([address], ["93.184.215.14", address]):
        answer = [(0, 0, 0, "", (each, 443)) for each in found]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, answer=answer, **__: answer)
        with pytest.raises(RequestError, match="private network"):
            fetch_image("https://pictures.example/a.png", HOSTS, 1 << 20)
    assert packets == []


def test_a_public_address_is_connected_to_as_it_was_checked(
    packets: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])  # the name moves between two questions

    def resolve(*_: Any, **__: Any) -> Any:
        return [(0, 0, 0, "", (each, 443)) for each in next(answers)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(RequestError, match="could not be read"):
        fetch_image("https://pictures.example/a.png", HOSTS, 1 << 20)
    assert packets == [("93.184.215.14", 443)]


@pytest.mark.parametrize(
    "target",
    [
        "http://pictures.example/",
        "https://evil.example/",
        "https://127.0.0.1/",
        "file:///etc/passwd",
    ],
)
def test_each_hop_is_checked(
    target: str, packets: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_get", lambda *_: (302, target, b""))
    with pytest.raises(RequestError, match="not fetched from there"):
        fetch_image("https://pictures.example/a.png", HOSTS, 1 << 20)
    assert packets == []


def test_endless_redirects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_get", lambda *_: (302, "https://other.example/", b""))
    with pytest.raises(RequestError, match="redirects"):
        fetch_image("https://pictures.example/a.png", HOSTS, 1 << 20)


def test_public_addresses_are_public() -> None:
    for address in ("93.184.215.14", "2606:2800:220:1::1", "8.8.8.8"):
        assert fetch._is_public(ipaddress.ip_address(address))
