import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.bench_near_duplicates import CHANGES, cursor, encoded, measure, seconds
from pointsman.data.check import check_dataset
from pointsman.data.generate import generate_dataset
from pointsman.data.near_duplicates import alike, look_of
from pointsman.images import load_image
from support.sources import record, write


def page(number: int, size: tuple[int, int] = (640, 448)) -> Image.Image:
    """A page of 12 lines of text, each page another text."""
    rng = np.random.default_rng(number)
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for line in range(12):
        words = "".join(rng.choice(list("abcdefghij  "), 40))
        draw.text((20, 20 + 34 * line), words, fill="black", font_size=20)
    return image


def test_real_screens_and_their_copies(screens: Path) -> None:
    """Among them are months of one calendar; two pages are too plain to compare."""
    images = {path.name: load_image(path) for path in sorted((screens / "images").glob("*.png"))}
    looks = [(name, look_of(image), image.size) for name, image in images.items()]
    assert alike(looks) == {}
    assert sum(look == b"" for _, look, _ in looks) == 2
    some = {name: images[name] for name, look, _ in looks[::8] if look}
    assert measure(some) == (dict.fromkeys(CHANGES, len(some)), [])


def test_pages_of_one_layout_are_told_apart() -> None:
    pages = {str(number): page(number) for number in range(20)}
    found, merged = measure(pages)
    assert merged == []
    # Of text alone, a very lossy encoding is another picture.
    assert {what for what, count in found.items() if count < 20} <= {"JPEG 50", "JPEG 30"}


def test_what_is_never_alike() -> None:
    plain = Image.new("RGB", (640, 448), "white")
    assert look_of(plain) == look_of(cursor(plain)) == b""
    looks = [("a", b"", (640, 448)), ("b", b"", (640, 448))]
    assert alike([]) == alike(looks) == alike([("a", look_of(page(1)), (640, 448))]) == {}
    wide = page(1).resize((640, 400))
    assert alike([("a", look_of(page(1)), (640, 448)), ("b", look_of(wide), wide.size)]) == {}


def test_the_time_grows_with_the_number_of_pictures() -> None:
    pages = {str(number): page(number) for number in range(50)}
    one, four = seconds(pages, 500), seconds(pages, 2000)
    assert four < 10 * one  # of each with each: 16


def source(folder: Path, name: str, start: int) -> str:
    """Each of 12 pages four times: with another cursor, encoded again, resized."""
    folder.mkdir(exist_ok=True)
    records = []
    for number in range(start, start + 12):
        screen = page(number)
        small = screen.resize((576, 403))
        copies = [screen, cursor(screen), encoded(screen, "JPEG", 60), small]
        for copy, image in enumerate(copies):
            image.save(folder / f"{number}-{copy}.png")
            records.append(record(f"{name} {number} {copy}", f"{number}-{copy}.png"))
    return write(folder / f"{name}.jsonl", records)


def test_copies_are_kept_in_one_split_and_reported_where_they_are_not(tmp_path: Path) -> None:
    sources = {
        name: [source(tmp_path / "src", name, start)]
        for start, name in ((0, "calendar"), (100, "claim-window"))
    }
    generate_dataset(sources, tmp_path / "data", val=0.25, test=0.25)
    assert "near-duplicate" not in {f.kind for f in check_dataset(tmp_path / "data").findings}
    pages: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        lines = (tmp_path / f"data/{split}.jsonl").read_text().splitlines()
        assert lines
        for line in lines:
            text = json.loads(line)["conversations"][0]["value"]
            pages.setdefault(text.split()[-2], set()).add(split)
    assert len(pages) == 24
    assert all(len(splits) == 1 for splits in pages.values())

    generate_dataset(sources, tmp_path / "apart", val=0.25, test=0.25, group_similar=False)
    (found,) = [
        finding
        for finding in check_dataset(tmp_path / "apart").warnings
        if finding.kind == "near-duplicate"
    ]
    assert "pairs of pictures look the same and are in two splits" in found.message
