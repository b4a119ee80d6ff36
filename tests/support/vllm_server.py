"""A real vLLM that serves a small base on the CPU, in the environment that ``make vllm`` makes."""

import base64
import io
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.tiny import REPOSITORY

VLLM = REPOSITORY / ".venv-vllm"
NEEDS_VLLM = pytest.mark.skipif(
    not VLLM.is_dir(), reason=f"{VLLM.name} is missing: make vllm makes it"
)
ENVIRONMENT = REPOSITORY / "tests/vllm/environment"
START_SECONDS = 300
BASE = "base"
"""The name under which the base itself is served"""
OPTIONS = (
    *("--host", "127.0.0.1", "--served-model-name", BASE, "--dtype", "float32"),
    *("--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", "8"),
    *("--limit-mm-per-prompt", '{"image": 1, "video": 0}', "--skip-mm-profiling"),
    *("--enable-lora", "--max-loras", "4"),
)
SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "KMP_BLOCKTIME": "0",
    # vLLM gathers a LoRA's matrices for every token; giving that memory back takes half the time.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "OMP_NUM_THREADS": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
}


def image_part(image: Image.Image) -> dict[str, Any]:
    """An image as a part of a message of chat completions."""
    file = io.BytesIO()
    image.save(file, "png")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


@dataclass(frozen=True)
class VllmServer:
    url: str

    def load(self, name: str, folder: Path, *, in_place: bool = False) -> str | None:
        """Adds an adapter, or replaces it; returns vLLM's reason if it refuses."""
        body = {"lora_name": name, "lora_path": str(folder), "load_inplace": in_place}
        try:
            self._post("/v1/load_lora_adapter", **body)
        except urllib.error.HTTPError as error:
            return str(json.loads(error.read())["error"]["message"])
        return None

    def unload(self, name: str) -> None:
        self._post("/v1/unload_lora_adapter", lora_name=name)

    def log_probabilities(self, model: str, text: str, image: Image.Image) -> dict[int, float]:
        """Those of the answer's 20 likeliest first tokens, by token id."""
        content = [image_part(image), {"type": "text", "text": text}]
        answer = self._post(
            "/v1/chat/completions",
            model=model,
            messages=[{"role": "user", "content": content}],
            max_tokens=1,
            temperature=0,
            logprobs=True,
            top_logprobs=20,
            return_tokens_as_token_ids=True,
        )
        likeliest = json.loads(answer)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return {int(one["token"].removeprefix("token_id:")): one["logprob"] for one in likeliest}

    def _post(self, path: str, **body: Any) -> bytes:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return bytes(response.read())


def settings(config: Path | None = None) -> dict[str, str]:
    """The environment of a process of vLLM's; ``config`` is the project that the plugin serves."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN")}
    if config is not None:
        variables["POINTSMAN_CONFIG"] = str(config)
    paths = os.pathsep.join([str(ENVIRONMENT), str(REPOSITORY / "src")])
    return {**variables, **SETTINGS, "PYTHONPATH": paths}


@contextmanager
def serve(
    base: Path, log: Path, *options: str, config: Path | None = None, threads: int = 1
) -> Iterator[VllmServer]:
    """Starts ``vllm serve`` on a free port, waits until it is ready, and stops it at the end.

    Args:
        log: the file that receives its output.
        options: further options of ``vllm serve``.
        config: a project file; the router then chooses for the model ``auto``.
        threads: of each operation on tensors.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # It ends with these tests, even where they are killed.
    command = ["setpriv", "--pdeathsig", "TERM", str(VLLM / "bin/vllm"), "serve", str(base)]
    command += ["--port", port, *OPTIONS, *options]
    environment = settings(config) | {"OMP_NUM_THREADS": str(threads)}
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its engine is a process of its own
        )
    try:
        server = VllmServer(f"http://127.0.0.1:{port}")
        _wait(server, process, log)
        yield server
    finally:
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(server: VllmServer, process: subprocess.Popen[bytes], log: Path) -> None:
    latest = time.monotonic() + START_SECONDS
    while time.monotonic() < latest and process.poll() is None:
        try:
            urllib.request.urlopen(server.url + "/health", timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise RuntimeError(f"vLLM did not start; the end of {log}:\n{log.read_text()[-3000:]}")
