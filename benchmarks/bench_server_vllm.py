"""``vllm bench serve`` against ``pointsman serve`` and against vLLM: the pocket on a CPU.

vLLM's own load generator sends the same requests to both, one server after the other: screens of
the demo, each with pixels of its own, since both servers keep what they have read; the adapters at
random. vLLM runs as its plain command, without this package's plugin, in several ways; its fastest
one counts. It needs the environment that ``make vllm`` makes.

    python benchmarks/bench_server_vllm.py [--requests 128]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from common import new_screens, report

from pointsman.labels import BASE
from support import server, vllm_server
from support.tiny import ADAPTERS
from support.vllm_projects import POCKET

CLIENTS, TOKENS, WARM_UPS = 8, 32, 8
RANK = 32
"""Of the pocket's adapters"""
WAYS: dict[str, tuple[int, tuple[str, ...]]] = {
    "eager, 1 thread": (1, ()),
    "eager, 2 threads": (2, ()),
    "compiled, 2 threads": (2, ("--no-enforce-eager",)),
}
"""Threads and further options of ``vllm serve``"""


def write_requests(place: Path, count: int) -> Path:
    """Requests in the form of vLLM's data set ``custom_image``."""
    path = place / "requests.jsonl"
    with path.open("w") as lines:
        for number, (png, instruction) in enumerate(new_screens(count)):
            picture = place / f"{number}.png"
            picture.write_bytes(png)
            request = {"prompt": instruction, "image_files": [str(picture)]}
            lines.write(json.dumps(request) + "\n")
    return path


def load(url: str, requests: Path, count: int) -> dict[str, Any]:
    """The figures of one run of vLLM's load generator."""
    result = requests.parent / "result.json"
    command = [vllm_server.VLLM / "bin/vllm", "bench", "serve", "--backend", "openai-chat"]
    command += ["--base-url", url, "--endpoint", "/v1/chat/completions"]
    command += ["--model", BASE, "--tokenizer", POCKET / "base"]
    command += ["--dataset-name", "custom_image", "--dataset-path", requests]
    command += ["--custom-ensure-client-side-data", "--custom-output-len", str(TOKENS)]
    command += ["--num-prompts", str(count), "--max-concurrency", str(CLIENTS)]
    command += ["--num-warmups", str(WARM_UPS), "--ignore-eos", "--temperature", "0"]
    command += ["--lora-modules", *ADAPTERS, "--lora-assignment", "random", "--disable-tqdm"]
    command += ["--save-result", "--save-detailed", "--result-filename", result]
    words = [str(word) for word in command]
    subprocess.run(words, env=vllm_server.settings(), check=True, stdout=sys.stderr)
    found = json.loads(result.read_text())
    assert (found["completed"], found["failed"]) == (count, 0), found["errors"]
    assert found["total_output_tokens"] == count * TOKENS  # both made the same number
    # The first event has no text, and some servers send it before there is any.
    firsts = [first + gaps[0] for first, gaps in zip(found["ttfts"], found["itls"], strict=True)]
    return {
        "requests_per_second": round(found["request_throughput"], 2),
        "first_token_ms_p50": round(1e3 * float(np.percentile(firsts, 50)), 1),
        "first_token_ms_p99": round(1e3 * float(np.percentile(firsts, 99)), 1),
        "vllm_ttft_ms_p99": round(found["p99_ttft_ms"], 1),
    }


@contextmanager
def vllm(log: Path, threads: int, options: tuple[str, ...]) -> Iterator[str]:
    modules = [f"{name}={POCKET / 'adapters' / name}" for name in ADAPTERS]
    words = ["--max-lora-rank", str(RANK), "--lora-modules", *modules, *options]
    with vllm_server.serve(POCKET / "base", log, *words, threads=threads) as found:
        yield found.url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        requests = write_requests(place, given.requests)
        with server.serve(place / "log") as ours:
            pointsman = load(ours.url, requests, given.requests)
        theirs = {}
        for way in given.ways:
            with vllm(place / "vllm-log", *WAYS[way]) as url:
                theirs[way] = load(url, requests, given.requests)
    best = max(theirs.values(), key=lambda found: found["requests_per_second"])
    rates = pointsman["requests_per_second"] / best["requests_per_second"]
    firsts = pointsman["first_token_ms_p99"] / best["first_token_ms_p99"]
    report(
        "server_vllm",
        {
            "vllm_version": "0.32.0",
            "requests": given.requests,
            "clients": CLIENTS,
            "tokens": TOKENS,
            "pointsman": pointsman,
            "vllm": theirs,
            "requests_per_second_ratio": round(rates, 2),
            "first_token_p99_ratio": round(firsts, 3),
        },
    )


if __name__ == "__main__":
    main()
