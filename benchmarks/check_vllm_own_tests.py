"""vLLM's own client tests on the pocket, without this plugin and with it: the same results?

The tests are those of vLLM's source distribution, which is downloaded by hand, and run in a folder
of their own. Their models are replaced by the pocket and their LoRAs by its adapters, so those that
ask for a certain model's words fail in both runs. Each run's outcomes are compared test by test. It
needs the environment that ``make vllm`` makes, with pytest and pytest-asyncio.

    python benchmarks/check_vllm_own_tests.py vllm-0.32.0/tests
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from common import ROOT, report

from support.vllm_projects import CONFIG, POCKET
from support.vllm_server import VLLM, settings

FILES = (
    "entrypoints/serve/lora/test_lora_adapters.py",
    "entrypoints/openai/chat_completion/test_chat.py",
)
ADAPTERS = POCKET / "adapters"
LORAS = {
    "zephyr_lora_files": "calendar",
    "qwen3_lora_files": "calendar",
    "qwen3_meowing_lora_files": "claim-window",
    "qwen3_woofing_lora_files": "provider-select",
}
SERVER = '''
import os, tempfile
from contextlib import ExitStack
from pathlib import Path
import openai
from support import vllm_server


class RemoteOpenAIServer:
    """As vLLM's own, with the options of the pocket on a CPU."""

    def __init__(self, model, args, env_dict=None, **_):
        self._stack = ExitStack()
        place = self._stack.enter_context(tempfile.TemporaryDirectory())
        config = os.environ.get("TRIED_CONFIG")
        args = [*args, "--served-model-name", model, "--max-loras", "24", "--max-cpu-loras", "24"]
        self._server = self._stack.enter_context(
            vllm_server.serve(Path(model), Path(place) / "log", *args,
                              config=Path(config) if config else None)
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def url_for(self, *parts):
        return "/".join([self._server.url, *parts])

    def get_client(self, **options):
        return openai.OpenAI(base_url=self.url_for("v1"), api_key="none", max_retries=0, **options)

    def get_async_client(self, **options):
        return openai.AsyncOpenAI(
            base_url=self.url_for("v1"), api_key="none", max_retries=0, **options
        )
'''


def prepare(
    source: Path,
    place: Path,
    files: Sequence[str] = FILES,
    server: str = SERVER,
    base: str = str(POCKET / "base"),
) -> None:
    """Copies tests, and puts the pocket in place of their models and servers.

    Args:
        base: what the tests are to call the base.
    """
    folder = place / "tests"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "utils.py").write_text(server)
    fixtures = [
        f'@pytest.fixture(scope="session")\ndef {name}():\n    return {str(ADAPTERS / lora)!r}\n'
        for name, lora in LORAS.items()
    ]
    (place / "conftest.py").write_text("import pytest\n\n\n" + "\n\n".join(fixtures))
    for file in files:
        text = (source / file).read_text()
        text = re.sub(r'^MODEL_NAME = ".*"$', f"MODEL_NAME = {base!r}", text, flags=re.M)
        text = text.replace('"8192"', '"2048"')
        # The file's own fixture would download a LoRA.
        text = re.sub(
            r'@pytest\.fixture\(scope="module"\)\ndef zephyr_lora_files.*?\n\n\n',
            "",
            text,
            flags=re.S,
        )
        (folder / Path(file).name).write_text(text)


def outcomes(place: Path, config: Path | None) -> dict[str, str]:
    """Outcome of each test: ``passed``, ``failed`` or ``skipped``."""
    log = place / "results.xml"
    environment = settings()
    paths = [environment["PYTHONPATH"], str(place), str(ROOT / "tests")]
    environment |= {"PYTHONPATH": os.pathsep.join(paths)}
    if config is not None:
        environment["TRIED_CONFIG"] = str(config)
    command = [VLLM / "bin/python", "-m", "pytest", "tests", "-q", f"--junitxml={log}"]
    command += ["-p", "no:cacheprovider", "--rootdir", place, "-o", "asyncio_mode=auto"]
    subprocess.run(command, cwd=place, env=environment, check=False, stdout=sys.stderr)
    found = {}
    for case in ET.parse(log).getroot().iter("testcase"):
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        name = f"{str(case.get('classname')).rpartition('.')[2]}::{case.get('name')}"
        name = name.replace(str(POCKET / "base"), "the pocket")
        found[name] = "skipped" if kinds == {"skipped"} else "failed" if kinds else "passed"
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tests", type=Path, help="the folder `tests` of vLLM's source distribution")
    source = parser.parse_args().tests
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        prepare(source, place)
        without = outcomes(place, None)
        with_plugin = outcomes(place, POCKET / CONFIG)
    differing = {
        test: [without.get(test), with_plugin.get(test)]
        for test in {**without, **with_plugin}
        if without.get(test) != with_plugin.get(test)
    }
    result = {
        "vllm": "0.32.0",
        "tests": len(without),
        "without": Counter(without.values()),
        "with": Counter(with_plugin.values()),
        "differing": differing,
        "failed_in_both": sorted(
            t for t, o in without.items() if o == "failed" == with_plugin.get(t)
        ),
    }
    report("vllm_own_tests", result)


if __name__ == "__main__":
    main()
