"""vLLM's and SGLang's own client tests, pointed at ``pointsman serve`` on the pocket.

The tests are those of vLLM's source distribution and of SGLang's repository, which are downloaded
by hand. They run in a folder of their own, in the environment that ``make vllm`` makes, with pytest
and pytest-asyncio. Their models are replaced by the pocket, their LoRAs by its adapters, and their
pictures by the demo's screens.

    python benchmarks/check_server_foreign.py vllm-0.32.0/tests sglang
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from check_vllm_own_tests import ADAPTERS, prepare
from common import ROOT, report

from support.vllm_server import ENVIRONMENT, VLLM, settings

VLLM_FILES = (
    "entrypoints/serve/lora/test_lora_adapters.py",
    "entrypoints/openai/chat_completion/test_chat.py",
    "entrypoints/openai/models/test_models.py",
    "entrypoints/openai/chat_completion/test_enable_force_include_usage.py",
    "entrypoints/serve/instrumentator/test_basic.py",
    "entrypoints/multimodal/openai/chat_completion/test_vision.py",
)
SGLANG_FILES = (
    "test/registered/openai_server/basic/test_openai_server.py",
    "test/registered/openai_server/validation/test_large_max_new_tokens.py",
    "test/registered/openai_server/validation/test_matched_stop.py",
    "test/registered/openai_server/validation/test_request_length_validation.py",
    "test/registered/openai_server/validation/test_strict_model_validation.py",
)
NOT_RUN = {
    "test_authentication_middleware.py": "calls vLLM's own middleware in its process; no server",
    "test_error_sanitization.py": "calls vLLM's own function in its process; no server",
    "test_dynamic_lora_badrequests…does_not_break_others": "never ends where bad adapters get 400",
    "anthropic_messages_kit.py": "/v1/messages is not offered",
}
INAPPLICABLE = {
    "test_show_version": "our version is not vLLM's",
    "test_server_load": "asks /v1/completions, which is not offered",
    "test_invocations": "SageMaker's path",
    "stream_options[Hugging": "the model's name is fixed",
    "test_chat_with_enable_force_include_usage": "an option of vLLM's server",
    "prompt_logprobs": "vLLM's extension: log probabilities of the prompt",
    "structured_outputs": "constrained answers are refused; fixtures of vLLM's own",
    "response_format": "constrained answers are refused",
    "test_regex": "constrained answers are refused",
    "test_ebnf": "constrained answers are refused",
    "replaces_inplace": "asks for words that the pocket's adapters do not say",
    "test_static_lora_lineage": "asks that no other adapter is listed",
    "test_check_models": "asks that no other adapter is listed",
    "test_model_list": "asks that no other model is listed",
    "test_dynamic_lora_badrequests": "asks for vLLM's own limits of adapters",
    "TestOpenAIServer::test_chat_completion_stream": "SGLang's field reasoning_content",
    "test_invalid_model_name_chat": "contradicts vLLM's test, which asks for 404 as OpenAI does",
    "test_lora_model_name": "contradicts vLLM's test, which asks for 404 as OpenAI does",
    "test_complex_message_content": "asks for another model's words",
    "test_chat_streaming[": "asks for more tokens than the pocket's answer has; fails in vLLM too",
    "single_chat_session[base]": "asks for a longer text than the pocket's base says",
    "beamsearch": "beam search is refused",
    "image_with_uuid": "vLLM's extension: images by identifier",
    "test_multi_image_input[image_urls1": "asks /v1/completions, which is not offered",
    "TestOpenAIServer::test_completion": "/v1/completions is not offered",
    "test_invalid_model_name_completion": "/v1/completions is not offered",
    "TestMatchedStop": "/v1/completions is not offered; SGLang's field matched_stop",
    "test_response_prefill": "an answer that the client begins is refused",
    "v1Responses": "/v1/responses is not offered",
    "V1Rerank": "/v1/rerank is not offered",
    "V1Score": "/v1/score is not offered",
    "CustomLogitProcessor": "SGLang's extension: code in a request",
    "WithRust": "SGLang's other front end",
    "token_ids_logprob": "SGLang's path /generate",
}
"""Why a test, by a part of its name, does not apply"""
DIFFERENT = {
    "test_custom_role": "roles of no chat template are refused",
    "test_long_seed": "refused as asked, in other words than Pydantic's codes",
    "test_dynamic_lora_invalid_files": "refused with 400, not 500",
    "invalid_image_url_type": "an image as a string is read: stock clients send it",
    "test_max_tokens_validation": "max_tokens is cut to the room left: stock clients send 65535",
}
"""Why one that applies is answered otherwise, on purpose"""
UTILS = "from foreign_server import RemoteOpenAIServer\n\nROCM_EXTRA_ARGS = []\n"
FIXTURES = """

import foreign_server

foreign_server.install_sglang()


@pytest.fixture(scope="session")
def local_asset_server():
    return foreign_server.Screens()


@pytest.fixture
def image_url(request, local_asset_server):
    return local_asset_server.url_for(request.param)


@pytest.fixture
def image_urls(request, local_asset_server):
    return [local_asset_server.url_for(name) for name in request.param]
"""
REPLACED = (
    (
        "from tests.entrypoints.multimodal.conftest import TEST_IMAGE_ASSETS",
        "TEST_IMAGE_ASSETS = list(foreign_server.SCREENS)",
    ),
    (
        "get_hf_prompt_tokens(model_name, content_text, image_url)",
        "foreign_server.prompt_tokens(messages)",
    ),
    (
        "completion_tokens=5, prompt_tokens=37, total_tokens=42",
        "completion_tokens=5, prompt_tokens=foreign_server.prompt_tokens(messages), "
        "total_tokens=5 + foreign_server.prompt_tokens(messages)",
    ),
    # The pocket's answers are shorter than those tests cut them to.
    (
        "        temperature=0.0,\n        top_logprobs=5,\n    )",
        "        temperature=0.0,\n        top_logprobs=5,\n"
        "        extra_body={'ignore_eos': True},\n    )",
    ),
    (
        "        top_logprobs=5,\n    )\n    assert chat_completion.id is not None",
        "        top_logprobs=5,\n        extra_body={'ignore_eos': True},\n    )",
    ),
    ("while pt >= 0:", "for _ in range(4):"),  # it would never end if it failed
    ('"hello " * 1200', '"hello " * 6000'),  # the pocket's context is longer
    ('"hello " * 999', '"hello " * 5000'),
    ('"test_model_name"', '"base"'),
)
"""Parts of tests that need another model or place, and what is put there"""


def prepare_all(vllm: Path, sglang: Path, place: Path) -> None:
    """Copies the tests into a folder."""
    prepare(vllm, place, VLLM_FILES, UTILS, base="base")
    shutil.copy(Path(__file__).with_name("foreign_server.py"), place)
    shutil.copy(sglang / "python/sglang/test/kits/matched_stop_kit.py", place)
    for file in SGLANG_FILES:
        shutil.copy(sglang / file, place / "tests")
    with (place / "conftest.py").open("a") as fixtures:
        fixtures.write(FIXTURES)
    for path in (place / "tests").glob("test_*.py"):
        text = f"import foreign_server\n{path.read_text()}"
        for old, new in REPLACED:
            text = text.replace(old, new)
        path.write_text(text)


def run(vllm: Path, sglang: Path, place: Path) -> dict[str, tuple[str, str]]:
    """Outcome and message of each test."""
    prepare_all(vllm, sglang, place)
    pocket = ADAPTERS.parent
    project = (pocket / "pointsman.toml").read_text()
    project = re.sub(r'= "(base|router|adapters/)', rf'= "{pocket}/\1', project)
    project += '\n[server]\nadapter_root = "/"\nmax_new_tokens = 64\nmax_images = 2\n'
    log = place / "results.xml"
    environment = {
        **settings(),
        "TRIED_PROJECT": project,
        "TRIED_BASE": str(pocket / "base"),
        "TRIED_SCREENS": str(pocket.parent / "screens/images"),
        "TRIED_PYTHON": sys.executable,
        "TRIED_PATH": str(ROOT / "src"),
        "PYTHONPATH": os.pathsep.join([str(ENVIRONMENT), str(place)]),
    }
    command = [VLLM / "bin/python", "-m", "pytest", "tests", "-q", "--tb=line", f"--junitxml={log}"]
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
    parser.add_argument("vllm", type=Path, help="the folder `tests` of vLLM's source distribution")
    parser.add_argument("sglang", type=Path, help="SGLang's repository")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = run(given.vllm, given.sglang, Path(name))
    missed = [test for test, (kind, _) in found.items() if kind != "passed"]
    inapplicable = {test: _reason(test, INAPPLICABLE) for test in missed}
    inapplicable = {test: why for test, why in sorted(inapplicable.items()) if why}
    different = {test: _reason(test, DIFFERENT) for test in missed if test not in inapplicable}
    different = {test: why for test, why in sorted(different.items()) if why}
    passed, apply = len(found) - len(missed), len(found) - len(inapplicable)
    result = {
        "vllm_tests": "0.32.0",
        "tests": len(found),
        "passed": passed,
        "apply": apply,
        "share": round(passed / apply, 3),
        "failed": {
            test: found[test][1] for test in missed if test not in {**inapplicable, **different}
        },
        "different": different,
        "inapplicable": inapplicable,
        "not_run": NOT_RUN,
    }
    report("server_foreign", result)


def _reason(test: str, reasons: dict[str, str]) -> str | None:
    return next((why for part, why in reasons.items() if part in test), None)


if __name__ == "__main__":
    main()
