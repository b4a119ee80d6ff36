from pathlib import Path

import pytest
from PIL import Image

from pointsman.demo import GREEN, RED, demo_samples, draw_overlay, run_demo
from pointsman.sample import is_inside


def test_shipped_screens_cover_every_adapter() -> None:
    with demo_samples() as samples:
        counts: dict[str | None, int] = {}
        for sample in samples:
            counts[sample.adapter] = counts.get(sample.adapter, 0) + 1
    assert all(counts[name] >= 3 for name in ("calendar", "claim-window", "provider-select"))
    assert counts[None] >= 2


@pytest.mark.parametrize(
    ("point", "inside"),
    [((10, 20), True), ((30, 40), True), ((9.9, 25), False), ((20, 40.1), False), (None, False)],
)
def test_is_inside(point: tuple[float, float] | None, inside: bool) -> None:
    assert is_inside(point, (10, 20, 30, 40)) is inside


def test_overlay_shows_box_and_click() -> None:
    white = Image.new("RGB", (100, 80), "white")
    hit = draw_overlay(white, (30, 30), (10, 20, 60, 60))
    assert hit.getpixel((10, 40)) == GREEN
    assert hit.getpixel((30, 30)) == GREEN
    missed = draw_overlay(white, (80, 70), (10, 20, 60, 60))
    assert missed.getpixel((80, 70)) == RED
    assert white.getpixel((10, 40)) == (255, 255, 255)


def test_demo_writes_pictures_and_a_page(tmp_path: Path) -> None:
    result = run_demo(tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert len(result.entries) >= 11
    for entry in result.entries:
        assert f'src="{entry.picture}"' in page
        with Image.open(tmp_path / entry.picture) as picture:
            assert picture.size == tuple(entry.sample.extra["size"])
    assert len(result.rows()[0]) == len(result.COLUMNS)
    assert result.summary() in page
    json_row = result.to_json()[0]
    assert sum(json_row["probabilities"].values()) == pytest.approx(1, abs=1e-4)
