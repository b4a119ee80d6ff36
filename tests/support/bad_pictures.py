"""Picture files that are broken, lie about themselves or are merely rare, and odd data URLs."""

import base64
import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from urllib.parse import quote

from PIL import Image

from support.server import data_url, screen

_MODES = {
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
    "JPEG": ("RGB", "L", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("P", "L", "1"),
    "BMP": ("RGB", "L", "P", "1"),
    "TIFF": ("RGB", "RGBA", "L", "1", "P", "CMYK", "I;16", "I", "F", "LAB"),
    # Of these formats nothing is read.
    "PPM": ("RGB",),
    "ICO": ("RGBA",),
    "PCX": ("RGB",),
    "TGA": ("RGB",),
    "SGI": ("RGB",),
    "EPS": ("RGB",),
    "PDF": ("RGB",),
    "DDS": ("RGB",),
    "JPEG2000": ("RGB",),
}
_SIZES = ((96, 64), (8, 8), (7, 40), (33, 57), (200, 8))
_NUMBERS = (0, 1, 7, 8, 255, 256, 32_767, 65_535, 65_536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@cache
def _screens() -> tuple[Image.Image, ...]:
    pictures = [Image.open(io.BytesIO(screen(name))).convert("RGB") for name in ("0014", "0003")]
    return tuple(each.resize(size) for each in pictures for size in _SIZES)


def file(rng: random.Random) -> tuple[str, bytes]:
    """A whole file, of any format and kind that Pillow writes, with its name."""
    image, kind = rng.choice(_screens()), rng.choice((*_MODES, *list(_MODES)[:6] * 2))
    mode = rng.choice(_MODES[kind])
    image = image.convert("L").convert("I").convert(mode) if mode == "I;16" else _as(image, mode)
    options: dict[str, object] = {}
    if kind in ("GIF", "WEBP", "PNG", "TIFF") and rng.random() < 0.15:
        options |= {"save_all": True, "append_images": [image.rotate(90), image]}
    if kind in ("JPEG", "PNG", "WEBP", "TIFF") and rng.random() < 0.3:
        exif = Image.Exif()
        exif[0x0112] = rng.choice((0, 1, 3, 6, 8, 9, 65_535))
        options["exif"] = exif.tobytes()
    if kind == "JPEG":
        options |= {"progressive": rng.random() < 0.3, "quality": rng.choice((1, 75, 100))}
    if kind in ("PNG", "JPEG", "WEBP") and rng.random() < 0.1:
        options["icc_profile"] = rng.randbytes(200)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return f"{kind} {mode}", out.getvalue()


def _as(image: Image.Image, mode: str) -> Image.Image:
    if mode == "LAB":
        return Image.merge("LAB", image.split())
    return image.convert(mode)


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def flip(content: bytes, rng: random.Random) -> bytes:
    """A few bits, often in the head."""
    found, most = bytearray(content), rng.choice((64, len(content)))
    for _ in range(rng.choice((1, 3, 20))):
        found[rng.randrange(min(most, len(found)))] ^= 1 << rng.randrange(8)
    return bytes(found)


def splice(content: bytes, rng: random.Random) -> bytes:
    """Bytes that are left out, doubled or put in."""
    at, size = rng.randrange(len(content)), rng.choice((1, 4, 100))
    middle = rng.choice((b"", content[at : at + size] * 2, rng.randbytes(size)))
    return content[:at] + middle + content[at + size :]


def number(content: bytes, rng: random.Random) -> bytes:
    """One number of the head says something else: a size, a length, an offset, a count."""
    kind = rng.choice((">I", "<I", ">H", "<H"))
    size = struct.calcsize(kind)
    at = rng.randrange(min(len(content) - size, 80))
    value = rng.choice(_NUMBERS) & (256**size - 1)
    return content[:at] + struct.pack(kind, value) + content[at + size :]


def zeroes(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes(len(content) - at)


def more(content: bytes, rng: random.Random) -> bytes:
    return content + rng.choice((content, rng.randbytes(1000), bytes(1000)))


def other_head(content: bytes, rng: random.Random) -> bytes:
    """The head of one format on the body of another."""
    size = rng.choice((2, 8, 16))
    return file(rng)[1][:size] + content[size:]


MUTATORS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    cut,
    flip,
    splice,
    number,
    zeroes,
    more,
    other_head,
)


def chunk(kind: bytes, content: bytes, length: int | None = None, crc: int | None = None) -> bytes:
    """A chunk of a PNG, which may lie about its length and its sum."""
    size = len(content) if length is None else length
    check = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", size) + kind + content + struct.pack(">I", check)


def png(rng: random.Random) -> bytes:
    """A PNG with right sums and wrong contents: sizes, depths, palettes, bombs of text."""
    width, height = (rng.choice((8, 64, rng.choice(_NUMBERS))) for _ in range(2))
    depth, colour = rng.choice((1, 2, 4, 8, 16, 3, 255)), rng.choice((0, 2, 3, 4, 6, 1, 7))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, rng.choice((0, 0, 1, 9)))
    pixels = zlib.compress(bytes(rng.choice((0, 100, 64 * 65 * 8, 4_000_000))), 9)
    bomb = zlib.compress(bytes(20_000_000), 9)
    extra = {
        b"zTXt": b"a\0\0" + bomb,
        b"iCCP": b"a\0\0" + bomb,
        b"iTXt": b"a\0\1\0\0\0" + bomb,
        b"PLTE": rng.randbytes(rng.choice((0, 1, 768, 3000))),
        b"tRNS": rng.randbytes(rng.choice((0, 1, 6, 256))),
        b"eXIf": rng.randbytes(rng.choice((0, 6, 100))),
        b"acTL": struct.pack(">II", rng.choice(_NUMBERS), 0),
        b"fcTL": rng.randbytes(26),
        b"pHYs": rng.randbytes(rng.choice((0, 9))),
        b"cHRM": rng.randbytes(5),
        b"\0\0\0\0": b"",
        b"IHDR": head,
    }
    names = rng.sample(sorted(extra), rng.randrange(4))
    chunks = [chunk(b"IHDR", head), *(chunk(name, extra[name]) for name in names)]
    chunks += [chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    at = rng.randrange(len(chunks))
    if rng.random() < 0.3:
        chunks[at] = chunk(b"IDAT", pixels, rng.choice(_NUMBERS), rng.choice((None, 0)))
    if rng.random() < 0.2:
        chunks.pop(at)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def bomb(rng: random.Random) -> bytes:
    """A small file that says or holds very many pixels."""
    side = rng.choice((5_900, 8_100, 20_000, 65_000))
    if rng.random() < 0.5:
        head = struct.pack(">IIBBBBB", side, side, rng.choice((1, 8)), 0, 0, 0, 0)
        pixels = zlib.compress(bytes(1_000_000), 9)
        body = chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + body
    gif = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    return gif + b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x08\x02\x8c\x01\0\0;"


def url(content: bytes, rng: random.Random) -> str:
    """A data URL, often wrong or strange."""
    right = data_url(content)
    text = right.partition(",")[2]
    at = rng.randrange(len(text) + 1)
    choices: tuple[Callable[[], str], ...] = (
        lambda: text,
        lambda: "data:" + text,
        lambda: "data:,",
        lambda: "data:;base64,",
        lambda: "data:image/png," + quote(content),
        lambda: "data:image/png;base64," + right,
        lambda: "data:text/html;base64," + base64.b64encode(right.encode()).decode(),
        lambda: f"data:image/png;base64,{text[:at]}{rng.choice('=*-_é%')}{text[at:]}",
        lambda: f"data:image/png;base64,{text[:at]}",
        lambda: "DATA:image/svg+xml;charset=utf-8;BASE64," + text,
        lambda: "data:image/png;base64," + "\r\n".join(text[n : n + 76] for n in range(0, 999, 76)),
        lambda: "data:image/png;base64," + text.rstrip("=") + "=" * rng.randrange(5),
        lambda: "data:image/png;base64," + quote(text, safe=""),
        lambda: "data:image/png;base64," + base64.urlsafe_b64encode(content).decode(),
        lambda: f"data:{'x' * rng.choice((100, 199, 200, 5000))};base64,{text}",
        lambda: "data:image/png;base64," + "A" * rng.choice((1, 2, 3, 1_000_000)),
        lambda: " \t" + right + "\n\0",
        lambda: "file:///etc/passwd",
        lambda: "https://127.0.0.1/" + text[:20],
    )
    return rng.choice(choices)()


def bad_pictures(seed: int) -> Iterator[tuple[str, str]]:
    """Without end: what it is, and its URL."""
    rng = random.Random(seed)
    while True:
        kind = rng.choice(("mutated",) * 6 + ("png", "url", "whole", "bomb"))
        name, content = file(rng)
        if kind == "mutated":
            change = rng.choice(MUTATORS)
            yield f"{change.__name__} {name}", data_url(change(content, rng))
        elif kind == "png":
            yield "png", data_url(png(rng))
        elif kind == "bomb":
            yield "bomb", data_url(bomb(rng))
        elif kind == "url":
            yield f"url {name}", url(content, rng)
        else:
            yield f"whole {name}", data_url(content)
