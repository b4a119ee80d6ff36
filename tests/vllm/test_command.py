"""The commands for vLLM, with a real one: the line that they print, what they refuse, the start."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from pointsman.pocket import pocket_folder
from support.tiny import ADAPTERS, REPOSITORY
from support.vllm_server import ENVIRONMENT, NEEDS_VLLM, START_SECONDS, VLLM

pytestmark = NEEDS_VLLM
SETTINGS = {"PYTHONPATH": str(ENVIRONMENT), "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the pocket model that a test may spoil."""
    with pocket_folder() as folder:
        return Path(shutil.copytree(folder, tmp_path / "model"))


def run(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """``pointsman vllm``, of an environment that is not activated, in a folder of its own."""
    return subprocess.run(
        [VLLM / "bin/pointsman", "vllm", *arguments],
        cwd=folder,
        env={**os.environ, **SETTINGS, **environment},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def refused(*arguments: str, folder: Path) -> str:
    """The one line that the command is refused with."""
    done = run(*arguments, folder=folder)
    assert done.returncode == 1, done
    assert done.stdout == ""
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.stderr.endswith(f"{line}\n")
    return line.removeprefix("error: ")


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_line_for_the_pocket(tmp_path: Path) -> None:
    done = run("command", "--max-model-len", "2048", "-tp", "2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no --config: using the embedded pocket model\n" in done.stderr
    assert "plan in-pass: no adapter changes the 1 layers below the router's\n" in done.stderr

    words = shlex.split(done.stdout)
    with pocket_folder() as folder:
        base = str(folder / "base")
        assert words[:6] == [
            f"POINTSMAN_CONFIG={folder / 'pointsman.toml'}",
            "VLLM_USE_V2_MODEL_RUNNER=0",
            "VLLM_CPU_KVCACHE_SPACE=1",
            "vllm",
            "serve",
            base,
        ]
        modules = [f"{name}={folder / 'adapters' / name}" for name in ADAPTERS]
        modules = [f"auto={folder / 'router'}", *modules]
    flags = " ".join(words[6:])
    assert re.match(r"--enable-lora --max-loras [5-9] --max-lora-rank 32 ", flags)
    assert f"--no-enable-chunked-prefill --lora-modules {' '.join(modules)} --" in flags
    assert flags.endswith(f"--served-model-name {base} base --max-model-len 2048 -tp 2")


def test_the_project_in_the_current_folder_as_json(model: Path) -> None:
    given = ("--served_model_name=mine", "--", "--config", "vllm.yaml")
    plugins = {"VLLM_PLUGINS": "lora_filesystem_resolver", "VLLM_LOGGING_LEVEL": "DEBUG"}
    done = run("command", "--json", "--quiet", *given, folder=model, **plugins)
    assert done.returncode == 0, done.stderr
    assert "pointsman.toml" not in done.stderr
    line: dict[str, Any] = json.loads(done.stdout)  # nothing else, whatever vLLM logs
    assert line["environment"] == {
        "POINTSMAN_CONFIG": str(model / "pointsman.toml"),
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        "VLLM_PLUGINS": "lora_filesystem_resolver,pointsman",
    }
    assert line["command"][:3] == ["vllm", "serve", str(model / "base")]
    assert line["command"][-3:] == ["--served_model_name=mine", "--config", "vllm.yaml"]
    assert "--served-model-name" not in line["command"]


def test_a_changed_adapter_is_refused(model: Path) -> None:
    path = model / "adapters/claim-window/adapter_model.safetensors"
    flip_last_byte(path)
    message = refused("command", folder=model)
    assert message.startswith(f"adapter claim-window: {path} is not the file that the router seal")


def test_a_changed_base_is_refused(model: Path) -> None:
    flip_last_byte(model / "base/model.safetensors")
    message = refused("serve", "--config", str(model / "pointsman.toml"), folder=model)
    assert f"({model / 'base'}) differ in their weights" in message


def test_a_fallback_that_does_not_exist_is_refused(model: Path) -> None:
    config = model / "pointsman.toml"
    config.write_text('fallback = "nobody"\n' + config.read_text())
    assert "fallback is 'nobody'; give base, error, calendar, " in refused("command", folder=model)


def test_serve_passes_options_on_to_a_vllm_that_has_the_plugin(tmp_path: Path) -> None:
    done = run("serve", "--pipeline-parallel-size", "2", folder=tmp_path)
    assert done.returncode == 1
    last = (done.stdout + done.stderr).splitlines()
    assert any(line.startswith("error: --pipeline-parallel-size does not go with") for line in last)


def test_serve_needs_no_option_for_the_pocket(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    log = tmp_path / "log"
    command = ["setpriv", "--pdeathsig", "TERM", str(VLLM / "bin/pointsman"), "vllm", "serve"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", port],
            cwd=tmp_path,
            env={**os.environ, **SETTINGS},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its engine is a process of its own
        )
    try:
        url = f"http://127.0.0.1:{port}"
        latest = time.monotonic() + START_SECONDS
        while not is_up(url):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < latest, log.read_text()[-3000:]
            time.sleep(0.5)
        for model in ("auto", "base", "calendar"):
            answer = ask(url, model)
            assert answer["choices"][0]["message"]["content"]
            assert ("pointsman" in answer) == (model == "auto")
        check_the_guide(port, tmp_path / "guide.py")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def check_the_guide(port: str, program: Path) -> None:
    """Runs the guide's Python, but for its offline part, as one program."""
    page = (REPOSITORY / "docs/guide/vllm.md").read_text("utf-8").split("## Other launchers")[0]
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    program.write_text("\n".join(blocks).replace("localhost:8000", f"127.0.0.1:{port}"))
    command = [VLLM / "bin/python", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    adapter, headers, probabilities, decision = done.stdout.splitlines()[-4:]
    assert "[270,392]" in done.stdout  # as the page says
    assert adapter == "calendar"
    assert headers == "calendar 1.0000"
    assert probabilities.startswith("{'calendar': 0.99")
    assert decision.startswith("calendar 0.99")


def is_up(url: str) -> bool:
    try:
        urllib.request.urlopen(url + "/health", timeout=5).close()
    except OSError:
        return False
    return True


def ask(url: str, model: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Click December 3 in the calendar"}]
    body = {"model": model, "messages": messages, "max_tokens": 8}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(
        url + "/v1/chat/completions", json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return dict(json.loads(response.read()))
