"""Fetch: images from hosts that the options allow, never from inside the own network.

Each hop's host must be allowed and resolve to public addresses alone, and the connection goes to
an address that was checked: a name that resolves differently the second time gains nothing.
"""

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Collection
from urllib.parse import SplitResult, urljoin, urlsplit

from pointsman.errors import RequestError

_HOPS = 4
_SECONDS = 10.0
_UNICAST = ipaddress.ip_network("2000::/3")
"""All of IPv6 that was ever given out; Python calls much of the rest global"""
_RESERVED = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("3fff::/20"))
"""Older versions of Python call some of them global: IETF protocols, documentation"""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""They reach IPv4 hosts"""
_REDIRECTS = (301, 302, 303, 307, 308)


def fetch_image(url: str, hosts: Collection[str], most: int) -> bytes:
    """The bytes behind an HTTPS address.

    Args:
        hosts: names of the allowed hosts.
        most: the largest number of bytes.

    Raises:
        RequestError: the address is not allowed, or gives no image in time.
    """
    until = time.monotonic() + _SECONDS
    for _ in range(_HOPS):
        place = _allowed(url, hosts)
        status, target, content = _get(place, most, until)
        if status == 200:
            return content
        if status not in _REDIRECTS or not target:
            raise RequestError(f"image_url: {place.hostname} answered with status {status}")
        url = urljoin(url, target)
    raise RequestError(f"image_url: more than {_HOPS} redirects; give the final address")


def _allowed(url: str, hosts: Collection[str]) -> SplitResult:
    try:
        place = urlsplit(url)
        port = place.port
    except ValueError:
        raise RequestError("image_url: not an address; send a data URL") from None
    name = (place.hostname or "").rstrip(".").lower()
    if place.scheme != "https" or name not in hosts or place.username or port not in (None, 443):
        raise RequestError(
            "image_url: images are not fetched from there; send a data URL, or allow the host in "
            "[server] image_hosts (https, port 443)"
        )
    return place


def _get(place: SplitResult, most: int, until: float) -> tuple[int, str | None, bytes]:
    """Status, redirect and content."""
    name = str(place.hostname)
    address = _public_address(name)
    left = max(0.1, until - time.monotonic())
    try:
        plain = socket.create_connection((address, 443), timeout=left)
        with ssl.create_default_context().wrap_socket(plain, server_hostname=name) as secure:
            connection = http.client.HTTPConnection(name, 443)
            connection.sock = secure
            path = place.path or "/"
            connection.request("GET", f"{path}?{place.query}" if place.query else path)
            response = connection.getresponse()
            return response.status, response.getheader("location"), _read(response, most, until)
    except (OSError, http.client.HTTPException) as error:
        reason = type(error).__name__
        raise RequestError(f"image_url: {name} could not be read ({reason})") from None


def _public_address(name: str) -> str:
    try:
        found = socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise RequestError(f"image_url: {name} is not known") from None
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not _is_public(ipaddress.ip_address(address.partition("%")[0])):
            raise RequestError(f"image_url: {name} is inside a private network")
    return addresses[0]


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is not None:
            return _is_public(inner)
        if address in _NAT64:
            return _is_public(ipaddress.ip_address(int(address) & 0xFFFFFFFF))
        if address not in _UNICAST:
            return False
    is_reserved = any(address in network for network in _RESERVED)
    return address.is_global and not address.is_multicast and not is_reserved


def _read(response: http.client.HTTPResponse, most: int, until: float) -> bytes:
    parts, size = [], 0
    while part := response.read(1 << 16):
        parts.append(part)
        size += len(part)
        if size > most:
            raise RequestError(f"image_url: an image of more than {most >> 20} MB")
        if time.monotonic() > until:
            raise RequestError(f"image_url: no image within {_SECONDS:g} s")
    return b"".join(parts)
