import pytest
from PIL import Image

from pointsman.evaluation.overlay import GREEN, INK, RED, draw_overlay
from pointsman.sample import is_inside


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


def test_overlay_shows_what_is_typed() -> None:
    white = Image.new("RGB", (200, 120), "white")
    plain = draw_overlay(white, (100, 40), None)
    for typed, point in (("4711-A", (100, 40)), ("x" * 500, (100, 119)), ("\ud800 é 字", (0, 0))):
        shown = draw_overlay(white, point, None, typed)
        assert shown.tobytes() != draw_overlay(white, point, None).tobytes()
    labelled = draw_overlay(white, (100, 40), None, "4711-A")
    assert {colour for _, colour in below(plain)} == {(255, 255, 255)}
    assert INK in {colour for _, colour in below(labelled)}


def below(picture: Image.Image) -> list[tuple[int, tuple[int, ...]]]:
    return picture.crop((0, 54, 200, 120)).getcolors(66 * 200)  # type: ignore[return-value]
