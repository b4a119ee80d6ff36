"""Addresses and paths that must lead nowhere; each one is a trick of its own."""

# ruff: noqa: RUF001 (look-alikes are the point)

import ipaddress
from collections.abc import Iterator
from urllib.parse import quote

INSIDE = ("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "0.0.0.0")


def spellings(address: str) -> Iterator[str]:
    """An IPv4 address in every way in which a resolver or a URL may take it."""
    a, b, c, d = (int(part) for part in address.split("."))
    whole = int(ipaddress.ip_address(address))
    yield address
    yield address + "."
    yield str(whole)
    yield hex(whole)
    yield hex(whole).upper()
    yield f"0{whole:o}"
    yield f"{a:#x}.{b:#x}.{c:#x}.{d:#x}"
    yield f"0{a:o}.0{b:o}.0{c:o}.0{d:o}"
    yield f"000{a:o}.{b}.{c}.{d:#x}"
    yield f"{a}.{b}.{c * 256 + d}"
    yield f"{a}.{b * 65_536 + c * 256 + d}"
    yield f"{a + 256}.{b}.{c}.{d}"
    yield f"{whole + 2**32}"
    yield f"[::ffff:{address}]"
    yield f"[::ffff:{a * 256 + b:x}:{c * 256 + d:x}]"
    yield f"[::{address}]"
    yield f"[0:0:0:0:0:ffff:{address}]"
    yield f"[64:ff9b::{address}]"
    yield f"[2002:{a * 256 + b:x}:{c * 256 + d:x}::]"
    yield address.replace(".", "。")
    yield address.replace(".", "%2e")
    yield "".join(
        chr(0x2460 + int(digit) - 1) if digit in "123456789" else digit for digit in address
    )
    yield "".join(chr(0xFF10 + int(digit)) if digit.isdigit() else digit for digit in address)
    yield f"{address}.nip.example"
    yield f"pictures.example@{address}"
    yield f"pictures.example:443@{address}"
    yield f"{address}:443#@pictures.example"
    yield f"{address}\\@pictures.example"
    yield f"{address}%00.pictures.example"
    yield f"{address}\t.pictures.example"


NAMES = (
    *("localhost", "LOCALHOST", "localhost.", "localhost.localdomain", "ip6-localhost"),
    *("metadata.google.internal", "kubernetes.default.svc", "host.docker.internal"),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[fe80::1%25eth0]", "[fe80::1%eth0]", "[fd00::1]"),
    *("[::1]:443", "[v1.x]", "[::1", "::1", "[pictures.example]", "[]"),
    *("pictures.example:22", "pictures.example:8443", "pictures.example:0", "pictures.example:-1"),
    *("pictures.example:65536", "pictures.example:port", "pictures.example:４４３"),
    *("pictures.example:443:443", "pictures.example:80", "user@pictures.example"),
    *("user:secret@pictures.example", ":@evil.example", "a@b@evil.example"),
    *("pictures.example.evil.example", "evilpictures.example", "evil-pictures.example"),
    *("pictures.example,evil.example", "pictures.example evil.example", "*.example", "example"),
    *(".pictures.example", "pictures..example", "pictures%2eexample", "pictures%E3%80%82example"),
    *("pictures。example", "pictures．example", "pictures｡example", "ｐictures.example"),
    *("рictures.example", "pictures.exаmple", "xn--ictures-tsf.example", "pictureſ.example"),
    *("pictures.example\x00.evil.example", "pictures.example%00.evil.example"),
    *("pictures.example%0d%0aHost:evil", "pictures.example\u200b", "pictures\u00ad.example"),
    *("evil.example\\.pictures.example", "evil.example\\pictures.example", "evil.example;a"),
    *("", " ", ".", "..", "%", "a" * 300, "a" * 10_000, "😀.example", "\ud800.example", "/"),
)
SCHEMES = (
    *("http", "HTTP", "ftp", "ftps", "file", "FILE", "gopher", "dict", "ldap", "ldaps", "jar"),
    *("ws", "wss", "javascript", "tftp", "sftp", "scp", "smb", "netdoc", "php", "phar", "zip"),
    *("view-source", "blob", "about", "httpss", "https+http", "hhttps", "ht tps", "https\x00"),
)
FORMS = (
    "https:pictures.example/a",
    "https:/pictures.example/a",
    "https:///pictures.example/a",
    "https:\\\\pictures.example\\a",
    "//pictures.example/a",
    "/\\pictures.example/a",
    "pictures.example/a",
    "/etc/passwd",
    "../../etc/passwd",
    "C:\\windows",
    "\\\\evil.example\\share",
    "https",
    "https:",
    "https://",
    "\x00",
    "",
    "?https://pictures.example/",
    "#https://pictures.example/",
    "https://evil.example#pictures.example",
    "https://evil.example?pictures.example",
    "https://evil.example/https://pictures.example/",
    "url:https://pictures.example/",
    "https://https://pictures.example/",
)
URLS = list(
    dict.fromkeys(
        [
            *(f"https://{host}/a.png" for address in INSIDE for host in spellings(address)),
            *(f"https://{name}/a.png" for name in NAMES),
            *(f"{scheme}://pictures.example/a.png" for scheme in SCHEMES),
            *(f"{scheme}:/etc/passwd" for scheme in SCHEMES),
            *FORMS,
        ]
    )
)
"""None is allowed where pictures.example is"""

ADDRESSES = (
    *("127.0.0.1", "127.1.2.3", "127.255.255.255", "0.0.0.0", "0.1.2.3", "10.0.0.1"),
    *("10.255.255.255", "172.16.0.1", "172.31.9.9", "192.168.0.1", "192.168.255.255"),
    *("169.254.169.254", "169.254.0.1", "169.254.170.2", "100.64.0.1", "100.100.100.200"),
    *("100.127.255.254", "192.0.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.19.9.9"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::2", "::127.0.0.1", "::10.0.0.1", "::169.254.169.254", "::8.8.8.8"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:7f00:1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:1", "64:ff9b:1::7f00:1"),
    *("2002:7f00:1::", "2002:a00:1::", "2002:a9fe:a9fe::1", "2002:c0a8:1::"),
    *("2001:0:a00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:db8::1", "2001:2::1"),
    *("3fff::1", "5f00::1", "100::1", "200::1", "400::1", "4000::1", "fc00::1", "fd12:3456::1"),
    *("fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fe80::a9fe:a9fe%1", "fec0::1", "ff02::1"),
    *("ff0e::1", "ff05::2", "ffff::1"),
)
"""What a name may lead to, none of it on the Internet"""


def _ups() -> Iterator[str]:
    for up in ("..", "../..", "../../..", "./..", "calendar/../..", "calendar/./../.."):
        yield up
        yield f"{up}/"
        yield f"{up}/outside"
        yield f"{up}/outside/"
        yield f"/{up}/outside"
        yield up.replace("/", "//") + "//outside"
    yield "../" * 50 + "etc"
    yield "../" * 2000 + "etc"
    yield "calendar/" + "../" * 50 + "tmp"


LOOKALIKES = (
    "․․",
    "‥",
    "。。",
    "．．",
    "..\u200b",
    "\u2024.",
    "%2e%2e",
    "%252e%252e",
    "..%00",
    "\\.\\.",
)
SLASHES = ("\\", "∕", "⁄", "／", "%2f", "%5c", "%252f", "%c0%af", "\u29f8", ":", "\u2215")
PLACES = (
    *("/", "//", "///", "/etc", "/etc/", "//etc", "/etc/.", "/root", "/home", "/tmp", "/var/log"),
    *("/proc", "/proc/self", "/proc/self/cwd", "/proc/self/root", "/proc/1", "/proc/self/fd"),
    *("/dev", "/dev/null", "/dev/zero", "/dev/random", "/dev/stdin", "/dev/fd", "/dev/shm"),
    *("/sys", "/run", "/boot", "~", "~/", "~root", "~root/", "~nobody", "$HOME", "${HOME}"),
    *("%HOME%", "$(pwd)", "`pwd`", "-", "--help", "|id", ";id", "*", "?", "[a-z]*", "{a,b}"),
    *("\\\\evil.example\\share", "//evil.example/share", "\\\\?\\C:\\", "\\\\.\\pipe\\x", "C:\\"),
    *("C:", "C:/windows", "c:calendar", "file:///etc", "file:/etc", "http://127.0.0.1/"),
    *("https://evil.example/a", "s3://bucket/a", "hf://x/y", "org/model", "data:,x", "nul", "con"),
    *("\x00", "calendar\x00", "\x00calendar", "calendar\x00/../..", "calendar\n", "\ncalendar"),
    *(" calendar", "calendar ", "calendar.", "calendar/x", "calendar/adapter_config.json/x"),
    *(
        "CALENDAR",
        "calendar\u0301",
        "cal\u00adendar",
        "ｃalendar",
        "a" * 255,
        "a" * 256,
        "a" * 5000,
    ),
    *("a/" * 2000, "/" * 5000, "😀", "\udcff", "\x1b[31m", "calendar;../outside", "nothing"),
    *("calendar/adapter_config.json", "link", "link/", "link/.", "link/calendar", "folder-link"),
    *("folder-link/outside", "chain", "loop", "loop/x", "up", "up/outside", "file-link", "deep"),
    *("pipe", "root-link/etc", "proc-link", "device", "dangling"),
)
"""The links among them are made by the test."""
PATHS = list(
    dict.fromkeys(
        [
            *_ups(),
            *(f"{dots}/outside" for dots in LOOKALIKES),
            *(f"calendar/{dots}/{dots}/outside" for dots in LOOKALIKES),
            *(f"..{slash}outside" for slash in SLASHES),
            *(f"calendar{slash}..{slash}..{slash}outside" for slash in SLASHES),
            *(quote(f"../{name}", safe="") for name in ("outside", "etc", "a b")),
            *PLACES,
        ]
    )
)
