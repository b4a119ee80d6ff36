"""Pictures changed after drawing: their boxes and clicks go with them."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lab.screens import Screen, draw_screens, write_screens
from lab.screens.canvas import Box
from lab.screens.screen import click, enter
from lab.screens.vary import SHARES, padded, vary
from lab.screens.widget import ADAPTERS
from pointsman.engine.answer import parse_actions
from pointsman.sample import is_inside

SIZE = (640, 448)
GROUND, TARGET = (236, 240, 228), (20, 30, 40)
EVERY = tuple(SHARES)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The variations of the parameter, always; the others never."""
    chosen: tuple[str, ...] = request.param
    for name in SHARES:
        monkeypatch.setitem(SHARES, name, float(name in chosen))
    return chosen


def screen_with(image: Image.Image, box: Box | None, typed: str = "") -> Screen:
    action = None if box is None else click(box, image.size) + typed
    return Screen(image, "Press it", action, 0, "calendar", box, "plain", "calendar")


def one_target(rng: random.Random) -> Screen:
    """A dark rectangle on light ground, whose box is found in the pixels again."""
    left, top = rng.randint(4, 560), rng.randint(4, 400)
    box = (left, top, left + rng.randint(12, 70), top + rng.randint(12, 40))
    image = Image.new("RGB", SIZE, GROUND)
    image.paste(TARGET, box)
    return screen_with(image, box)


def seen_box(image: Image.Image) -> tuple[float, ...]:
    """Left, top, right and bottom of what differs from the ground at the corner."""
    grey = np.asarray(image.convert("L")).astype(float)
    differs = np.abs(grey - grey[1, 1]) > 105  # about half of what lies between the two
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


@pytest.mark.parametrize("only", [*((name,) for name in EVERY), EVERY, ()], indirect=True)
def test_boxes_stay_tight(only: tuple[str, ...]) -> None:
    rng = random.Random(0)
    for _ in range(25):
        screen = one_target(rng)
        (changed,) = vary(rng, [screen])
        assert changed.bbox is not None
        assert np.abs(np.subtract(changed.bbox, seen_box(changed.image))).max() <= 0.75
        assert (changed.image.size != screen.image.size) == bool({"scaled", "padded"} & set(only))
        assert changed == screen or only


def crop_of(screen: Screen) -> Image.Image:
    assert screen.bbox is not None
    return screen.image.crop(tuple(round(edge) for edge in screen.bbox))  # type: ignore[arg-type]


def resampled(screen: Screen, changed: Screen) -> Image.Image:
    """What ``crop_of(changed)`` shows, from the screen before, where its pixels began elsewhere."""
    assert screen.bbox is not None
    assert changed.bbox is not None
    lengths = screen.image.size * 2
    part = []
    for edge in range(4):
        axis = edge % 2
        scale = (changed.bbox[axis + 2] - changed.bbox[axis]) / (
            screen.bbox[axis + 2] - screen.bbox[axis]
        )
        place = screen.bbox[edge] + (round(changed.bbox[edge]) - changed.bbox[edge]) / scale
        part.append(min(lengths[edge], max(0.0, place)))
    size = crop_of(changed).size
    return screen.image.resize(size, Image.Resampling.BICUBIC, box=tuple(part))  # type: ignore[arg-type]


def pixels(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image).astype(np.float64)


@pytest.mark.parametrize("only", [*((name,) for name in EVERY), EVERY], indirect=True)
def test_boxes_show_what_they_did(only: tuple[str, ...]) -> None:
    for seed, adapter in enumerate(ADAPTERS * 3):
        rng = random.Random(seed)
        screens = draw_screens(rng, adapter, "plain", 3, SIZE)
        for screen, changed in zip(screens, vary(rng, screens), strict=True):
            after, before = crop_of(changed), crop_of(screen)
            if only == ("padded",):
                assert after.tobytes() == before.tobytes()
                continue
            before = resampled(screen, changed)
            if "inverted" in only:
                before = ImageOps.invert(before)
            error = np.abs(pixels(after) - pixels(before)).mean()
            assert error <= (0 if only == ("inverted",) else 16 if "compressed" in only else 0.05)


@pytest.mark.parametrize("only", [(), EVERY], indirect=True)
def test_what_is_typed_stays(only: tuple[str, ...]) -> None:
    rng = random.Random(1)
    box, typed = (100.0, 90.0, 180.0, 110.0), "\n" + enter("4711-A")
    drawn = Image.new("RGB", SIZE, GROUND)
    screens = [screen_with(drawn, box, typed), screen_with(drawn, box), screen_with(drawn, None)]
    both, pressed, out_of_scope = vary(rng, screens)
    assert pressed.action == click(pressed.bbox or box, pressed.image.size)
    assert both.action == pressed.action + typed
    assert (out_of_scope.action, out_of_scope.bbox) == (None, None)
    assert both.image is pressed.image is out_of_scope.image
    assert (both.image is drawn) == (not only)


def test_padding_goes_on_in_the_ground_and_never_cuts() -> None:
    places = set()
    for seed, size in enumerate([(320, 256), (1280, 800), (1500, 300), (600, 1000)] * 5):
        image = Image.effect_noise(size, 90).convert("RGB")
        canvas, shift = padded(random.Random(seed), image)
        for side, drawn, largest in zip(canvas.size, size, (1280, 800), strict=True):
            assert drawn <= side <= max(drawn, largest)
        inside = (*shift, shift[0] + size[0], shift[1] + size[1])
        assert canvas.crop(inside).tobytes() == image.tobytes()
        ground = image.getpixel((1, 1))
        canvas.paste(ground, inside)
        assert canvas.getcolors() == [(canvas.width * canvas.height, ground)]
        places.add(shift)
    assert len(places) > 10


def test_each_variation_takes_its_share() -> None:
    noise = Image.effect_noise((64, 48), 90).convert("RGB")
    rng, count = random.Random(3), 600
    changed = [vary(rng, [screen_with(noise, None)])[0].image for _ in range(count)]
    same_size = [image for image in changed if image.size == noise.size]
    alike = sum(image.tobytes() == noise.tobytes() for image in same_size)
    turned = sum(image.tobytes() == ImageOps.invert(noise).tobytes() for image in same_size)
    large = sum(image.width > 64 * 1.55 * 1.04 or image.height > 48 * 1.7 for image in changed)
    # Within three standard deviations or so.
    assert alike / count == pytest.approx(0.65 * 0.88**3, abs=0.06)
    assert turned / count == pytest.approx(0.65 * 0.88**2 * 0.12, abs=0.03)
    assert large / count == pytest.approx(0.12, abs=0.04)
    assert len(same_size) / count == pytest.approx(0.65 * 0.88, abs=0.06)


def test_written_clicks_lie_in_their_boxes(tmp_path: Path) -> None:
    write_screens(tmp_path, 480, seed=6, per_image=8, vary=True)
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    in_scope = [sample for sample in samples if "bbox" in sample]
    assert len(in_scope) > 300
    for sample in samples:
        with Image.open(tmp_path / sample["image"]) as image:
            assert list(image.size) == sample["size"]
    for sample in in_scope:
        width, height = sample["size"]
        (x, y), box = (
            parse_actions(sample["conversations"][1]["value"])[0]["coordinate"],
            sample["bbox"],
        )
        assert is_inside((x / 1000 * width, y / 1000 * height), box)
        assert 0 <= box[0] < box[2] <= width
        assert 0 <= box[1] < box[3] <= height
