"""Small training sets and images for the tests of the data modules."""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image


def png(color: int, size: tuple[int, int] = (12, 10), kind: str = "png", **options: Any) -> bytes:
    image = Image.new("RGB", size, (color % 256, color // 256 % 256, 9))
    image.putpixel((0, 0), (1, 2, 3))
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def record(text: str, image: str | None, **more: Any) -> dict[str, Any]:
    prompt = f"<image>\n{text}" if image else text
    turns = [{"from": "human", "value": prompt}, {"from": "gpt", "value": f"answer {text}"}]
    return {"conversations": turns} | ({"image": image} if image else {}) | more


def write(file: Path, records: Iterable[Any]) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    file.write_text("\n".join(lines))
    return str(file)


def make_source(folder: Path, name: str, images: Sequence[int], start: int = 0) -> str:
    records = []
    for number, color in enumerate(images, start):
        (folder / "shots").mkdir(parents=True, exist_ok=True)
        (folder / f"shots/{color}.png").write_bytes(png(color))
        records.append(record(f"{name} {number}", f"shots/{color}.png"))
    return write(folder / f"{name}-{start}.jsonl", records)


def two_sources(folder: Path, n: int = 20) -> dict[str, list[str]]:
    return {
        "calendar": [make_source(folder, "calendar", range(n))],
        "claim-window": [make_source(folder, "claim", range(100, 100 + n))],
    }


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
