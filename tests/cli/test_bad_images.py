"""Images that cannot be used: one line, status 1, no half-written file."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from support.commands import refused
from support.inputs import write_samples
from test_images import header_only

IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such image"),
    "empty": (lambda path: path.touch(), "the image file is empty"),
    "corrupt": (lambda path: path.write_bytes(b"\x89PNG junk" * 9), "not an image that is read"),
    "truncated": (
        lambda path: (
            Image.effect_noise((64, 64), 99).save(path),
            path.write_bytes(path.read_bytes()[:900]),
        ),
        "corrupt or cut off",
    ),
    "huge": (lambda path: path.write_bytes(header_only(60_000, 60_000)), "huge; scale it down"),
    "one pixel": (lambda path: Image.new("RGB", (1, 1)).save(path), "1x1 pixels; each side needs"),
    "200 to 1": (lambda path: Image.new("RGB", (1600, 8)).save(path), "1600x8 pixels is 200"),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_to_route(kind: str, config: Path, tmp_path: Path) -> None:
    make, message = IMAGES[kind]
    make(tmp_path / "shot.png")
    line = refused("route", tmp_path / "shot.png", "Pick day 3", "--config", config)
    assert line.startswith(f"{tmp_path / 'shot.png'}: ")
    assert message in line


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_of_a_training_set(kind: str, tmp_path: Path) -> None:
    make, message = IMAGES[kind]
    make(tmp_path / "shot.png")
    source = write_samples(tmp_path / "a.jsonl", image="shot.png")
    line = refused("data", "generate", f"--source=calendar={source}", "--out", tmp_path / "out")
    assert line.startswith(f"{source}:1: ")
    assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_of_a_dataset(
    kind: str, dataset: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    make, message = IMAGES[kind]
    image = sorted((dataset / "images").iterdir())[0]
    image.unlink()
    make(image)
    line = refused("preprocess", dataset, "--out", tmp_path / "out", "--base", tiny_base_folder)
    assert (message if kind == "missing" else "was changed after the dataset was made") in line
    assert image.name in line
    assert not list(tmp_path.rglob("*.partial"))
    assert not (tmp_path / "out" / "metadata.json").exists()
