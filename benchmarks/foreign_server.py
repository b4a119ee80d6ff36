"""What foreign test suites start, in place of their own servers: ``pointsman serve`` on the pocket.

It is copied beside the tests, and runs in the environment that ``make vllm`` makes, without this
package: vLLM's tests get a ``RemoteOpenAIServer``, and SGLang's the few parts of ``sglang`` that
they import. ``TRIED_…`` in the environment is set by ``check_server_foreign``.
"""

import base64
import copy
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import openai
from PIL import Image
from transformers import AutoProcessor, AutoTokenizer

ADMIN = "admin"
BASE = "base"
START_SECONDS = 120


def start(port: int = 0, key: str | None = None) -> tuple["subprocess.Popen[bytes]", str]:
    """The server's process and address."""
    place = Path(tempfile.mkdtemp())
    (place / "pointsman.toml").write_text(os.environ["TRIED_PROJECT"])
    log = place / "log"
    environment = {
        **os.environ,
        "PYTHONPATH": os.environ["TRIED_PATH"],
        "POINTSMAN_ADMIN_KEY": ADMIN,
        "POINTSMAN_API_KEY": key or "",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [os.environ["TRIED_PYTHON"], "-m", "pointsman", "serve", "--port", str(port)],
            cwd=place,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    for _ in range(10 * START_SECONDS):
        if found := re.search(r"ready: (http://\S+)", log.read_text()):
            return process, found.group(1)
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")


def stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(60)


class RemoteOpenAIServer:
    """As vLLM's own."""

    DUMMY_API_KEY = ADMIN

    def __init__(self, model: str, args: list[str], **_: Any) -> None:
        self._process, url = start()
        self.url_root = url.replace("127.0.0.1", "localhost")
        for word in args:
            name, is_module, path = str(word).partition("=")
            if is_module and Path(path).is_dir():
                self._load(name, path)

    def _load(self, name: str, path: str) -> None:
        body = json.dumps({"lora_name": name, "lora_path": path}).encode()
        headers = {"content-type": "application/json", "authorization": f"Bearer {ADMIN}"}
        place = self.url_for("v1", "load_lora_adapter")
        urllib.request.urlopen(urllib.request.Request(place, body, headers)).close()

    def __enter__(self) -> "RemoteOpenAIServer":
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._process)

    def url_for(self, *parts: str) -> str:
        return "/".join([self.url_root, *parts])

    def get_client(self, **options: Any) -> openai.OpenAI:
        options = {"max_retries": 0, **options}
        return openai.OpenAI(base_url=self.url_for("v1"), api_key=ADMIN, **options)

    def get_async_client(self, **options: Any) -> openai.AsyncOpenAI:
        options = {"max_retries": 0, **options}
        return openai.AsyncOpenAI(base_url=self.url_for("v1"), api_key=ADMIN, **options)


SCREENS = {
    "boardwalk.jpg": "0014",
    "parrots.png": "0021",
    "venn.png": "0122",
    "gradient.png": "0014",
}
"""Screens of the demo for vLLM's pictures, which are on its own servers"""


class Screens:
    """As the server of vLLM's pictures."""

    def get_image_asset(self, name: str) -> Image.Image:
        return Image.open(Path(os.environ["TRIED_SCREENS"]) / f"{SCREENS[name]}.png")

    def url_for(self, name: str) -> str:
        file = io.BytesIO()
        self.get_image_asset(name).save(file, "png")
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def prompt_tokens(messages: list[dict[str, Any]]) -> int:
    """The length of a prompt, counted by the base's own processor."""
    processor = AutoProcessor.from_pretrained(os.environ["TRIED_BASE"])
    parts = [p for m in messages if isinstance(m["content"], list) for p in m["content"]]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    images = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]
    # It rewrites the parts that it is given.
    prompt = processor.apply_chat_template(
        copy.deepcopy(messages), add_generation_prompt=True, tokenize=False
    )
    given = processor(text=[prompt], images=images or None, return_tensors="pt")
    return int(given.input_ids.shape[1])


URL = "http://127.0.0.1:21000"
"""Of SGLang's tests, whose servers follow each other"""
_launched: dict[int, "subprocess.Popen[bytes]"] = {}


def launch(
    model: str,
    base_url: str,
    timeout: float,
    api_key: str | None = None,
    return_stdout_stderr: tuple[Any, Any] | None = None,
    **_: Any,
) -> "subprocess.Popen[bytes]":
    """As SGLang's ``popen_launch_server``."""
    process, url = start(int(base_url.rpartition(":")[2]), api_key)
    _launched[process.pid] = process
    if return_stdout_stderr is not None:
        arguments = (process, url, return_stdout_stderr[1])
        threading.Thread(target=_tell_load, args=arguments, daemon=True).start()
    return process


def _tell_load(process: "subprocess.Popen[bytes]", url: str, log: Any) -> None:
    """What SGLang writes to its log, from our ``/load``."""
    while process.poll() is None:
        try:
            headers = {"authorization": f"Bearer {ADMIN}"}
            with urllib.request.urlopen(
                urllib.request.Request(f"{url}/load", headers=headers)
            ) as r:
                load = json.load(r)["server_load"]
            log.write(f"#running-req: {load}\n")
            log.flush()
        except (OSError, ValueError):  # it stops, or the test has closed its log
            return
        time.sleep(0.02)


def install_sglang() -> None:
    """Makes the parts of ``sglang`` that its tests import."""
    queries = [
        {"query": "How many?", "documents": ["One."]},
        {"query": "How many?", "documents": ["One.", "Two."]},
    ]
    _module("sglang.srt.sampling.custom_logit_processor", CustomLogitProcessor=object)
    _module("sglang.srt.utils", kill_process_tree=lambda pid: stop(_launched.pop(pid)))
    _module("sglang.srt.utils.hf_transformers_utils", get_tokenizer=_tokenizer)
    _module(
        "sglang.test.ci.ci_register",
        **{f"register_{kind}_ci": lambda **_: None for kind in ("cuda", "amd", "cpu")},
    )
    _module("sglang.test.kits.anthropic_messages_kit", AnthropicMessagesMixin=object)
    _module("sglang.test.runners", TEST_RERANK_QUERY_DOCS=queries)
    _module(
        "sglang.test.test_utils",
        CustomTestCase=unittest.TestCase,
        DEFAULT_MODEL_NAME_FOR_TEST=BASE,
        DEFAULT_SMALL_CROSS_ENCODER_MODEL_NAME_FOR_TEST=BASE,
        DEFAULT_SMALL_MODEL_NAME_FOR_TEST=BASE,
        DEFAULT_TIMEOUT_FOR_SERVER_LAUNCH=START_SECONDS,
        DEFAULT_URL_FOR_TEST=URL,
        STDERR_FILENAME="stderr.txt",
        STDOUT_FILENAME="stdout.txt",
        is_rust_server_built=lambda: False,
        popen_launch_server=launch,
    )
    import matched_stop_kit

    _module("sglang.test.kits.matched_stop_kit", MatchedStopMixin=matched_stop_kit.MatchedStopMixin)


def _tokenizer(_: str) -> Any:
    return AutoTokenizer.from_pretrained(os.environ["TRIED_BASE"])


def _module(name: str, **content: Any) -> None:
    """A module, and the packages that it is in."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        path = ".".join(parts[:end])
        if path not in sys.modules:
            made = ModuleType(path)
            made.__path__ = []
            sys.modules[path] = made
    vars(sys.modules[name]).update(content)
