"""What the commands for vLLM do without one; tests/vllm runs them with it."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from pointsman.cli.vllm import Line, settings_of_vllm
from support.commands import refused, succeeds

COMMANDS = ("serve", "command")


@pytest.mark.parametrize("command", COMMANDS)
def test_without_vllm_they_say_how_to_install_it(command: str) -> None:
    before = dict(os.environ)
    message = refused("vllm", command, "--max-model-len", "2048")
    assert message == "vLLM is not installed; run: pip install 'pointsman[vllm]'"
    assert dict(os.environ) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_base_is_refused_before_anything_is_loaded(command: str) -> None:
    message = refused("vllm", command, "Qwen/Qwen3-VL-8B-Instruct", "--port", "8001")
    assert message.startswith("'Qwen/Qwen3-VL-8B-Instruct': the base is that of the project file")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_options_of_vllm(command: str) -> None:
    out = succeeds("vllm", command, "--help").out
    assert f"Usage: pointsman vllm {command} [OPTIONS] [OPTIONS OF vllm serve]" in out
    assert "--config" in out


def test_a_line_is_what_a_shell_reads(tmp_path: Path) -> None:
    odd = f'{tmp_path}/it\'s a $HOME; `x` "y"'
    line = Line({"POINTSMAN_CONFIG": odd}, ["printenv", "POINTSMAN_CONFIG"])
    done = subprocess.run(["sh", "-c", str(line)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{odd}\n"
    words = ["vllm", "serve", odd, "--limit-mm-per-prompt", '{"image": 1}']
    assert shlex.split(str(Line({}, words))) == words


def test_settings_of_vllm_are_added_and_never_changed() -> None:
    assert settings_of_vllm({}) == {"VLLM_USE_V2_MODEL_RUNNER": "0"}
    given = {"VLLM_USE_V2_MODEL_RUNNER": "1", "VLLM_CPU_KVCACHE_SPACE": "40"}
    assert settings_of_vllm(given, is_pocket=True) == given
    assert settings_of_vllm({}, is_pocket=True)["VLLM_CPU_KVCACHE_SPACE"] == "1"


@pytest.mark.parametrize(
    ("given", "expected"),
    [("", "pointsman"), ("others,more", "others,more,pointsman"), ("pointsman,a", "pointsman,a")],
)
def test_a_list_of_plugins_keeps_ours(given: str, expected: str) -> None:
    assert settings_of_vllm({"VLLM_PLUGINS": given})["VLLM_PLUGINS"] == expected
