"""What makes a vLLM with this plugin refuse to start, each in one line."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pointsman.routing.router import Probes, Router
from support.vllm_projects import CONFIG, POCKET, copied_pocket
from support.vllm_server import NEEDS_VLLM, VLLM, settings

pytestmark = NEEDS_VLLM


def started(config: Path, base: Path, *options: str) -> str:
    """The line that a ``vllm serve`` refuses to start with."""
    command = [str(VLLM / "bin/vllm"), "serve", str(base), "--dtype", "float32", *options]
    return error_of(command, config)


def python(code: str, config: Path) -> str:
    """The line that a program fails with."""
    return error_of([str(VLLM / "bin/python"), "-c", code], config)


def error_of(command: list[str], config: Path) -> str:
    done = subprocess.run(
        command, env=settings(config), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return next(line for line in done.stderr.splitlines()[::-1] if line.startswith("error: "))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ("--enable-chunked-prefill",),
            "error: --enable-chunked-prefill does not go with auto: the first chunk of a prompt "
            "would be read before the adapter is known; give --no-enable-chunked-prefill",
        ),
        (
            ("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 2}'),
            "error: --speculative-config does not go with auto: a draft model does not know the "
            "chosen adapter; leave it out",
        ),
    ],
)
def test_options(options: tuple[str, ...], expected: str) -> None:
    assert started(POCKET / CONFIG, POCKET / "base", *options) == expected


def test_another_base(tmp_path: Path) -> None:
    other = copied_pocket(tmp_path / "pocket").parent / "base"
    config = json.loads((other / "config.json").read_text())
    config["text_config"]["rms_norm_eps"] = 1e-5
    (other / "config.json").write_text(json.dumps(config))
    line = started(POCKET / CONFIG, other)
    assert line.startswith("error: the router's base")
    assert f"the base that vLLM is to serve ({other})" in line


def test_an_adapter_that_was_changed(tmp_path: Path) -> None:
    config = copied_pocket(tmp_path / "pocket")
    path = config.parent / "adapters/calendar/adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": 1}))
    assert "is not the file that the router sealed" in started(config, config.parent / "base")


def test_another_version() -> None:
    code = (
        "import vllm; vllm.__version__ = '0.31.0'\n"
        "from pointsman.vllm.plugin import register; register()"
    )
    expected = "vLLM 0.31.0: this version of pointsman routes inside vLLM 0.23.0 and 0.32.0"
    assert python(code, POCKET / CONFIG).startswith(f"error: {expected}")


def test_changed_internals() -> None:
    code = (
        "from vllm.v1.core.sched.scheduler import Scheduler\n"
        "Scheduler.update_from_output = lambda self, output: None\n"
        "from pointsman.vllm.plugin import register; register()"
    )
    expected = "Scheduler.update_from_output has no 'scheduler_output'"
    assert expected in python(code, POCKET / CONFIG)


def test_features_that_the_router_was_not_trained_on(tmp_path: Path) -> None:
    """vLLM replays the probes when its engine is up."""
    config = copied_pocket(tmp_path / "pocket")
    router = Router.load(config.parent / "router")
    with torch.inference_mode():
        features = router.probes.features * 1.25
        probes = Probes(features, *router.scorer(router.head, features))
    replace(router, probes=probes).save(config.parent / "router")
    options = ("--enforce-eager", "--max-model-len", "2048", "--skip-mm-profiling", "--port", "0")
    line = started(config, config.parent / "base", *options)
    assert line.startswith("error: vLLM computes features that differ by 20.0% from those")
