"""Options of all commands, and what the operating system refuses."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pointsman.cli import console, options
from support.commands import refused, run, succeeds
from support.tiny import ADAPTERS


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("train f --adapter-names a b c --out o", "train f --adapter-names|a b c|--out o"),
        ("train f --adapter-names a,b --out o", "train f --adapter-names|a,b|--out o"),
        ("train --adapter-names a,b f --out o", "train --adapter-names|a,b|f --out o"),
        ("train --adapter-names a, b, c --out o f", "train --adapter-names|a, b, c|--out o f"),
        (
            "adopt f --adapter-names a --adapter-names b",
            "adopt f --adapter-names|a|--adapter-names|b",
        ),
        ("train f --adapter-names=a b c --out o", "train f --adapter-names|a b c|--out o"),
        ("train f --adapter-names=a,b", "train f --adapter-names|a,b|"),
        ("train f --adapter-names --out o", "train f --adapter-names --out o"),
        ("train f --adapter-names", "train f --adapter-names"),
        ("route -- --adapter-names a b", "route -- --adapter-names a b"),
        ("route a b", "route a b"),
    ],
)
def test_names_are_gathered(arguments: str, expected: str) -> None:
    words = [
        word
        for at, part in enumerate(expected.split("|"))
        for word in ([part] if at % 2 else part.split())
    ]
    assert options.gathered(arguments.split()) == words


@pytest.mark.parametrize(
    "names",
    [
        [*ADAPTERS],
        [",".join(ADAPTERS)],
        [", ".join(ADAPTERS)],
        [" ".join(ADAPTERS)],
        [ADAPTERS[0], "--adapter-names", *ADAPTERS[1:]],
        [ADAPTERS[0], "--adapter-names", ",".join(ADAPTERS[1:])],
    ],
)
def test_names_of_a_router(names: list[str], router: Path, tmp_path: Path) -> None:
    import torch

    nameless, out = tmp_path / "nameless.pt", tmp_path / "named.pt"
    torch.save({"state_dict": load_file(router / "router.safetensors")}, nameless)
    succeeds("adopt", nameless, "--adapter-names", *names, "--out", out)
    assert json.loads(succeeds("inspect", out, "--json").out)["adapters"] == list(ADAPTERS)
    succeeds("adopt", "--out", out, nameless, "--adapter-names", *names)
    succeeds("adopt", "--adapter-names", *names, "--out", out, nameless)


def test_train_takes_names_after_its_features(features: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "router")
    line = refused("train", features, "--adapter-names", *reversed(ADAPTERS), *out)
    assert "--adapter-names has the labels [0=provider-select, 1=claim-window" in line
    succeeds("train", features, "--adapter-names", *ADAPTERS, *out, "--layers", "2")


def test_training_says_how_many_samples_a_percentage_is_of(features: Path, tmp_path: Path) -> None:
    out = succeeds("train", features, "--out", tmp_path / "router", "--layers", "2").out
    assert "accuracy (n=9)" in out
    assert "of validation (n=9)" in out


@pytest.mark.parametrize(
    "command", ["route", "generate", "preprocess", "evaluate", "adapters train", "adapters check"]
)
def test_commands_that_load_a_model_take_device_and_dtype(command: str) -> None:
    words = command.split()
    shown = succeeds(*words, "--help").out
    assert "--device" in shown
    assert "--dtype" in shown
    result = run(*words, "x", "--dtype", "int8")
    assert result.code == 2
    assert "float16" in result.err


def test_the_dtype_reaches_the_model(config: Path, tiny_base_folder: Path, tmp_path: Path) -> None:
    asked = ("route", "Pick day 3", "--config", config, "--json")
    same = succeeds(*asked, "--dtype", "float32").out
    assert same == succeeds(*asked).out
    other = run(*asked, "--dtype", "bfloat16")
    # Its features differ: a little, and the route with them, or too much.
    assert other.out != same or "use the same dtype" in other.err


def test_quiet_and_debug_stand_anywhere(dataset: Path, tiny_base_folder: Path) -> None:
    command = ("preprocess", dataset, "--base", tiny_base_folder, "--layers", "1")
    out = ("--out", dataset.parent / "out")
    shown = succeeds(*command, *out)
    assert shown.progress[-1].startswith("features 36/36 (100%), ")
    shutil.rmtree(dataset.parent / "out")
    for arguments in (("--quiet", *command, *out), (*command, *out, "--quiet")):
        quiet = succeeds(*arguments)
        assert (quiet.err, quiet.progress) == ("", [])
        assert quiet.out == shown.out
        shutil.rmtree(dataset.parent / "out")
    assert succeeds(*command, *out).progress  # quiet was for that command alone
    text = ["route", "--", "--quiet"]
    assert options.without_flags(text) == (text, set())


POINTSMAN = [sys.executable, "-m", "pointsman"]


def test_progress_in_a_pipe_is_plain_lines(
    dataset: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    arguments = ["--base", str(tiny_base_folder), "--layers", "1", "--out", str(tmp_path / "out")]
    command = [*POINTSMAN, "preprocess", str(dataset), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    first, *_, last = result.stderr.splitlines()
    assert first.startswith("features: images 1/36 ")
    assert first.endswith(" s left")
    assert last.startswith("features 36/36 (100%), ")
    assert last.endswith(" s")


def test_shell_completion() -> None:
    environment = os.environ | {
        "_POINTSMAN_COMPLETE": "complete_bash",
        "COMP_WORDS": "pointsman pre",
        "COMP_CWORD": "1",
    }
    result = subprocess.run(POINTSMAN, capture_output=True, text=True, env=environment, check=False)
    assert result.stdout.strip() == "preprocess"
    assert "--install-completion" in succeeds("--help").out


def test_a_name_that_is_too_long_is_one_line(
    dataset: Path, features: Path, router: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    out = ("--out", tmp_path / ("x" * 300))
    for command in (
        ("preprocess", dataset, "--base", tiny_base_folder),
        ("train", features),
        ("export", router),
        ("evaluate", "--data", dataset),
        ("data", "generate", f"--source=calendar={dataset}"),
    ):
        assert "File name too long" in refused(*command, *out)
    assert "File name too long" in refused("inspect", "x" * 300)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "arguments", [("--version",), ("--help",), ("inspect", "ROUTER", "--json")]
)
def test_a_full_standard_output_is_one_line(arguments: tuple[str, ...], router: Path) -> None:
    command = [*POINTSMAN, *(str(router) if word == "ROUTER" else word for word in arguments)]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    expected = "the output cannot be written (No space left on device); free some space, or"
    assert result.stderr.startswith(f"error: {expected}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", ["--version", "--help", "inspect {router} --json"])
def test_a_closed_standard_output_is_no_error(arguments: str, router: Path) -> None:
    words = [word.format(router=router) for word in arguments.split()]
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *POINTSMAN, *words]
    result = subprocess.run(shell, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_an_error_of_the_network_is_one_line_that_blames_no_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails() -> None:
        raise ConnectionError("the server has closed the connection\nsecond line")

    assert console.run(fails, debug=False) == 1
    assert capsys.readouterr() == ("", "error: the server has closed the connection\n")


def test_an_error_of_the_system_shows_its_traceback_with_debug() -> None:
    with pytest.raises(OSError, match="too long"):
        console.run(lambda: Path("x" * 300).stat(), debug=True)
