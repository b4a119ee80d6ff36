"""``auto`` in vLLM's own class ``LLM``, without a server: the example of docs/guide/vllm.md."""

import re
import subprocess
from pathlib import Path

from support.tiny import REPOSITORY
from support.vllm_projects import CONFIG, POCKET
from support.vllm_server import NEEDS_VLLM, VLLM, settings

pytestmark = NEEDS_VLLM


def examples() -> dict[str, str]:
    """The guide's examples in Python, by what is imported first."""
    guide = (REPOSITORY / "docs/guide/vllm.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", guide, flags=re.S)
    return {block.split()[1]: block for block in blocks}


def test_the_example_answers_as_the_server(tmp_path: Path) -> None:
    asked, offline = examples()["base64"], examples()["os"]
    question = "\n".join(
        line
        for line in asked.partition("answer = ")[0].splitlines()
        if "openai" not in line and "client" not in line
    )
    offline = offline.replace("/absolute/path/pointsman.toml", str(POCKET / CONFIG))
    offline = offline.replace(
        "LLM(project.base)",
        "LLM(project.base, dtype='float32', enforce_eager=True, max_model_len=2048,"
        " limit_mm_per_prompt={'image': 1, 'video': 0}, skip_mm_profiling=True)",
    )
    # Greedy, as the server's example.
    offline = offline.replace("chat(messages,", "chat(messages, SamplingParams(temperature=0),")
    script = tmp_path / "offline.py"
    script.write_text(f"{question}\nfrom vllm import SamplingParams\n{offline}")

    done = subprocess.run(
        [VLLM / "bin/python", script], env=settings(), capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr[-2000:]
    [click] = re.findall(r"a click at (\[.*?\])", asked)
    assert click in done.stdout
