"""vLLM's own client tests, pointed at ``pointsman serve`` on the pocket: how many pass?

The tests are those of vLLM's source distribution, which is downloaded by hand, and run in a folder
of their own, in the environment that ``make vllm`` makes, with pytest and pytest-asyncio. Their
models are replaced by the pocket and their LoRAs by its adapters.

    python benchmarks/check_server_foreign.py vllm-0.32.0/tests
"""

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from check_vllm_own_tests import ADAPTERS, prepare
from common import ROOT, report

from support.vllm_server import ENVIRONMENT, VLLM, settings

FILES = (
    "entrypoints/serve/lora/test_lora_adapters.py",
    "entrypoints/openai/chat_completion/test_chat.py",
    "entrypoints/openai/models/test_models.py",
    "entrypoints/openai/chat_completion/test_enable_force_include_usage.py",
    "entrypoints/serve/instrumentator/test_basic.py",
)
ADMIN = "admin"
INAPPLICABLE = {
    "test_show_version": "our version is not vLLM's",
    "test_server_load": "asks /v1/completions, which is not offered",
    "test_invocations": "SageMaker's path",
    "stream_options": "the model's name is fixed, or usage in every chunk, which OpenAI lacks",
    "test_chat_with_enable_force_include_usage": "an option of vLLM's server",
    "prompt_logprobs": "vLLM's extension: log probabilities of the prompt",
    "structured_outputs": "constrained answers are refused; fixtures of vLLM's own",
    "response_format": "constrained answers are refused",
    "test_custom_role": "roles of no chat template are refused",
    "test_long_seed": "refused as asked, in other words than Pydantic's codes",
    "test_dynamic_lora_badrequests": "refused with 400 and our own findings, not vLLM's with 500",
    "test_dynamic_lora_invalid_files": "refused with 400, not 500",
    "replaces_inplace": "asks for words that the pocket's adapters do not say",
    "test_static_lora_lineage": "asks that no other adapter is listed",
    "test_check_models": "asks that no other adapter is listed",
    "test_single_chat_session": "counts another model's tokens",
    "test_complex_message_content": "asks for another model's words",
    "test_chat_streaming": "asks for text in the chunk that ends the stream; fails in vLLM too",
}
"""Why a test, by a part of its name, does not apply"""
SERVER = f'''
import json, os, re, subprocess, tempfile, time, urllib.request
from pathlib import Path
import openai


class RemoteOpenAIServer:
    """As vLLM's own, but it starts pointsman serve."""

    DUMMY_API_KEY = "{ADMIN}"

    def __init__(self, model, args, env_dict=None, **_):
        place = Path(tempfile.mkdtemp())
        (place / "pointsman.toml").write_text(os.environ["TRIED_PROJECT"])
        self._log = place / "log"
        words = [os.environ["TRIED_PYTHON"], "-m", "pointsman", "serve", "--port", "0"]
        environment = {{**os.environ, "PYTHONPATH": os.environ["TRIED_PATH"]}}
        environment["POINTSMAN_ADMIN_KEY"] = "{ADMIN}"
        self._process = subprocess.Popen(
            words, cwd=place, env=environment, stdout=self._log.open("wb"), stderr=subprocess.STDOUT
        )
        found = None
        for _ in range(1200):
            found = re.search(r"ready: (http://\\S+)", self._log.read_text())
            if found or self._process.poll() is not None:
                break
            time.sleep(0.1)
        self.url_root = found.group(1).replace("127.0.0.1", "localhost")
        for word in args:
            name, is_module, path = str(word).partition("=")
            if is_module and Path(path).is_dir():
                self._load(name, path)

    def _load(self, name, path):
        body = json.dumps({{"lora_name": name, "lora_path": path}}).encode()
        headers = {{"content-type": "application/json", "authorization": "Bearer {ADMIN}"}}
        place = self.url_for("v1", "load_lora_adapter")
        urllib.request.urlopen(urllib.request.Request(place, body, headers)).close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(60)

    def url_for(self, *parts):
        return "/".join([self.url_root, *parts])

    def get_client(self, **options):
        options = {{"max_retries": 0, **options}}
        return openai.OpenAI(base_url=self.url_for("v1"), api_key="{ADMIN}", **options)

    def get_async_client(self, **options):
        options = {{"max_retries": 0, **options}}
        return openai.AsyncOpenAI(base_url=self.url_for("v1"), api_key="{ADMIN}", **options)
'''


def run(source: Path, place: Path) -> dict[str, tuple[str, str]]:
    """Outcome and message of each test."""
    prepare(source, place, FILES, SERVER, base="base")
    pocket = ADAPTERS.parent
    project = (pocket / "pointsman.toml").read_text()
    for name in ("base", "router", "adapters/"):
        project = project.replace(f'= "{name}', f'= "{pocket}/{name}')
    project += '\n[server]\nadapter_root = "/"\nmax_new_tokens = 64\n'
    log = place / "results.xml"
    environment = {
        **settings(),
        "TRIED_PROJECT": project,
        "TRIED_PYTHON": sys.executable,
        "TRIED_PATH": str(ROOT / "src"),
        "PYTHONPATH": os.pathsep.join([str(ENVIRONMENT), str(place)]),
    }
    command = [VLLM / "bin/python", "-m", "pytest", "tests", "-q", "--tb=line", f"--junitxml={log}"]
    # Where its bad adapters get 400 and not 500, this test never ends.
    command += ["-k", "not does_not_break_others"]
    command += ["-p", "no:cacheprovider", "--rootdir", place, "-o", "asyncio_mode=auto"]
    subprocess.run(command, cwd=place, env=environment, check=False, stdout=sys.stderr)
    found = {}
    for case in ET.parse(log).getroot().iter("testcase"):
        faults = [child for child in case if child.tag in ("failure", "error", "skipped")]
        name = f"{str(case.get('classname')).rpartition('.')[2]}::{case.get('name')}"
        message = str(faults[0].get("message"))[:300] if faults else ""
        kind = "passed" if not faults else "skipped" if faults[0].tag == "skipped" else "failed"
        found[name] = (kind, message)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tests", type=Path, help="the folder `tests` of vLLM's source distribution")
    with tempfile.TemporaryDirectory() as name:
        found = run(parser.parse_args().tests, Path(name))
    reasons = {
        test: next((why for part, why in INAPPLICABLE.items() if part in test), None)
        for test, (kind, _) in found.items()
        if kind != "passed"
    }
    passed = len(found) - len(reasons)
    result = {
        "vllm_tests": "0.32.0",
        "tests": len(found),
        "passed": passed,
        "apply": passed + sum(why is None for why in reasons.values()),
        "failed": sorted(test for test, why in reasons.items() if why is None),
        "inapplicable": {test: why for test, why in sorted(reasons.items()) if why is not None},
    }
    report("server_foreign", result)


if __name__ == "__main__":
    main()
