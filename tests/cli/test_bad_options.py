"""Options and project files that cannot be right: one line, status 1, no half-written file."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.commands import refused
from support.inputs import shot


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--layers abc", "--layers 'abc': give whole numbers, such as 9,18,27"),
        ("--layers 99", "base0 has layers 1 to 4"),
        ("--layers 0", "layers [0]: give ascending depths from 1"),
        ("--pooling first", "position 0 of a causal base or model attends only to itself"),
        ("--pooling odd", "unknown pooling 'odd'; known are last, mean, image-mean"),
        ("--device potato", "device 'potato' is not there; leave it out"),
        ("--device meta", "device 'meta' is not there"),
        ("--max-pixels 10", "max_pixels 10 is less than the least size"),
    ],
)
def test_options_of_preprocess(
    options: str, message: str, dataset: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    given = ("--base", tiny_base_folder, "--out", tmp_path / "out")
    assert message in refused("preprocess", dataset, *given, *options.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--layers abc", "--layers 'abc': give whole numbers"),
        ("--layers 99", "layer 99 is not among the features' [1, 2, 3]"),
        ("--coverage 2", "coverage is 2.0; give more than 0 and at most 1"),
        ("--coverage nan", "coverage is nan; give more than 0"),
        ("--seed 99999999999999999999", "seed is 99999999999999999999; give 0 or more"),
        ("--adapter-names a,b", "--adapter-names has the labels [0=a, 1=b]"),
        ("--log-dir {file}", "choose another --log-dir"),
    ],
)
def test_options_of_train(options: str, message: str, features: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    given = options.format(file=tmp_path / "file").split()
    assert message in refused("train", features, "--out", tmp_path / "out", *given)
    assert not (tmp_path / "out").exists()


def test_options_of_the_engine(config: Path, dataset: Path, tmp_path: Path) -> None:
    asked = (shot(tmp_path), "Pick day 3", "--config", config)
    assert "unknown adapter 'nobody': the label map is [0=calendar" in refused(
        "generate", *asked, "--adapter", "nobody"
    )
    assert "device 'potato' is not there" in refused("route", *asked, "--device", "potato")
    line = refused("evaluate", "--data", dataset, "--config", config, "--by", "nothing")
    assert "no sample has the field 'nothing'; there are adapter, label, stratum" in line
    line = refused("route", tmp_path / "shot.png", "caf\udce9", "--config", config)
    assert "half a character" in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base = ", "not TOML (Invalid value (at "),
        ('bsae = "x"\n', "unknown key 'bsae'; known are base, revision"),
        ('base = "x"\n', "needs [adapters]"),
        ('base = "x"\n[adapters]\n', "[adapters]: a label map needs at least one"),
        ('base = "x"\n[adapters]\ny = "z"\n', 'needs router = "folder"; train one'),
        (None, "no such project file"),
    ],
)
def test_the_project_file(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "pointsman.toml"
    if text is not None:
        path.write_text(text)
    line = refused("route", "shot.png", "x", "--config", path)
    assert line.startswith(f"{path}: ")
    assert message in line


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    code = "from pointsman.cli.app import main; main()"
    command = [sys.executable, "-c", code, "inspect", str(tmp_path / "none")]
    assert refused("inspect", tmp_path / "none") == f"{tmp_path / 'none'}: no such router"
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True)
    assert debug.returncode == 1
    assert debug.stderr.startswith("Traceback (most recent call last)")
    assert debug.stderr.endswith("none: no such router\n")
