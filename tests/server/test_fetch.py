"""Images from elsewhere: no address inside the own network is ever connected to."""

import ipaddress
import socket
from typing import Any

import pytest

from pointsman.errors import RequestError
from pointsman.server import fetch
from pointsman.server.fetch import fetch_image
from support.audit import audited
from support.hostile import ADDRESSES, URLS

HOSTS = ("pictures.example", "other.example")


@pytest.fixture
def packets(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every attempt to connect; none gets through."""
    tried: list[Any] = []

    def connect(address: Any, *_: Any, **__: Any) -> Any:
        tried.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "create_connection", connect)
    return tried


@pytest.mark.parametrize("url", URLS, ids=range(len(URLS)))
def test_addresses_that_are_not_allowed(url: str) -> None:
    """Not even their names are looked up."""
    with audited() as events, pytest.raises(RequestError, match="image_url"):
        fetch_image(url, HOSTS, 1 << 20)
    assert [event for event in events if event[0] != "open"] == []


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("others", [[], ["93.184.215.14"], ["2606:2800:220:1::1", "8.8.8.8"]])
def test_names_that_lead_inside(
    address: str, others: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, or behind public ones."""
    answer = [(0, 0, 0, "", (each, 443)) for each in [*others, address]]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    with audited() as events, pytest.raises(RequestError, match="private network"):
        fetch_image("https://pictures.example/a.png", HOSTS, 1 << 20)
    assert [event for event in events if event[0] != "open"] == []


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


@pytest.mark.parametrize("hops", [0, 1, 3])
@pytest.mark.parametrize(
    "target",
    [
        "http://pictures.example/",
        "https://evil.example/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://2130706433/",
        "https://pictures.example:8443/",
        "https://user@pictures.example/",
        "//evil.example/",
        "//127.0.0.1/",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
    ],
)
def test_each_hop_is_checked(
    target: str, hops: int, packets: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any number of allowed ones."""
    answers = [(302, "https://other.example/b", b"")] * hops + [(302, target, b"")]
    left = iter(answers)
    monkeypatch.setattr(fetch, "_get", lambda *_: next(left))
    with pytest.raises(RequestError, match=r"not fetched from there|redirects"):
        fetch_image("https://pictures.example/a.png", HOSTS, 1 << 20)
    assert packets == []


def test_endless_redirects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_get", lambda *_: (302, "https://other.example/", b""))
    with pytest.raises(RequestError, match="redirects"):
        fetch_image("https://pictures.example/a.png", HOSTS, 1 << 20)


def test_public_addresses_are_public() -> None:
    for address in ("93.184.215.14", "2606:2800:220:1::1", "8.8.8.8"):
        assert fetch._is_public(ipaddress.ip_address(address))
