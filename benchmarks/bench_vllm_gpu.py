"""``auto`` inside vLLM on a GPU, with torch.compile and CUDA graphs: is it right, what is its cost?

``prepare_vllm_gpu.py`` makes WORK beforehand. A request of ``auto`` and one that names its adapter
are measured in turn, in one process, on the same prompts. Random weights have near ties and vLLM's
LoRA kernels add in no fixed order, so answers are compared with those of the same requests asked
twice, and by the probabilities of their first tokens.

    python benchmarks/bench_vllm_gpu.py WORK in-pass
    python benchmarks/bench_vllm_gpu.py WORK two-pass
    python benchmarks/bench_vllm_gpu.py WORK two-pass --gpus 2

With several GPUs, vLLM splits each layer among them (tensor parallelism), in a process per GPU that
loads the plugin by its entry point: pointsman must be installed.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
# All requests of a call are there before the first step.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

from common import RESULTS, machine
from PIL import Image
from vllm.lora.request import LoRARequest

import vllm
from pointsman.labels import ROUTED
from pointsman.models.features import probe_prompts
from pointsman.vllm.launch import prepare
from pointsman.vllm.plugin import register
from pointsman.vllm.selection import PROBE
from pointsman.vllm.settings import CONFIG, Settings, load_settings
from pointsman.vllm.transport import collected
from vllm import LLM, SamplingParams

TOGETHER = 8
"""Requests of a batch whose first tokens are timed"""
MIXED = 32
"""Requests of a batch whose answers are compared"""
LIKELIEST = 20
Models = Sequence[str | None]
"""Who is asked for each request: a LoRA's name, or None, the base"""


class Answers(NamedTuple):
    """What became of requests that were asked together."""

    tokens: list[list[int]]
    likeliest: list[dict[int, float]]
    """Log probabilities of each one's likeliest first tokens"""
    decisions: list[dict[str, Any] | None]
    seconds: float
    first: float
    """Seconds in the engine, from the first scheduled to the last first token"""
    step: float
    """Seconds between two tokens"""


class Server:
    """vLLM in this process, with the project's adapters and ``auto``."""

    def __init__(self, settings: Settings, dtype: str, **options: Any) -> None:
        self.launch = prepare(settings)
        self._llm = LLM(
            model=self.launch.base,
            dtype=dtype,
            max_model_len=2048,
            max_num_seqs=32,
            limit_mm_per_prompt={"image": 1, "video": 0},
            # The same prompts are asked again: nothing of them may be remembered.
            enable_prefix_caching=False,
            mm_processor_cache_gb=0,
            disable_log_stats=False,
            seed=0,
            **options,
        )
        self._loras: dict[str | None, LoRARequest | None] = {None: None}
        for number, (name, path) in enumerate(self.launch.modules(settings).items(), 1):
            self._loras[name] = LoRARequest(name, number, path)
            self._llm.llm_engine.add_lora(self._loras[name])
        decoder = self._llm.llm_engine.vllm_config.compilation_config
        self.compiled = {
            "mode": decoder.mode.name,
            "cudagraph_mode": decoder.cudagraph_mode.name,
            "splits_at_router": any("pointsman" in op for op in decoder.splitting_ops or ()),
            "max_cudagraph_tokens": decoder.max_cudagraph_capture_size,
        }

    def ask(
        self, prompts: Sequence[Any], models: Models, tokens: int = 1, **options: Any
    ) -> Answers:
        params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, **options)
        began = time.perf_counter()
        with collected() as decisions:
            outputs = self._llm.generate(
                prompts, params, lora_request=[self._loras[m] for m in models], use_tqdm=False
            )
        seconds = time.perf_counter() - began
        # The engine adds a random part to a request's number.
        by_number = {key.partition("-")[0]: made for key, made in decisions.items()}
        times = [output.metrics for output in outputs]
        first = max(t.first_token_ts for t in times)
        last = max(t.last_token_ts for t in times)
        return Answers(
            [list(output.outputs[0].token_ids) for output in outputs],
            [_first_tokens(output.outputs[0].logprobs) for output in outputs],
            [by_number.get(output.request_id) for output in outputs],
            seconds,
            first - min(t.scheduled_ts for t in times),
            (last - first) / max(1, tokens - 1),
        )


def _first_tokens(logprobs: Any) -> dict[int, float]:
    return {token: one.logprob for token, one in logprobs[0].items()} if logprobs else {}


def probes(server: Server) -> list[float]:
    """The relative distance of each probe's features from the library's."""
    text = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{}<|im_end|>\n"
    moved = []
    for number, prompt in enumerate(probe_prompts()):
        asked = {
            "prompt": text.format(prompt.turns[0].text) + "<|im_start|>assistant\n",
            "multi_modal_data": {"image": prompt.images[0]},
        }
        found = server.ask([asked], [ROUTED], extra_args={PROBE: number})
        [decision] = found.decisions
        moved.append(rounded(decision["moved"]) if decision else float("inf"))
    return moved


def routes(rows: Sequence[dict[str, Any]], found: Answers) -> dict[str, Any]:
    """Decisions in vLLM against those of the library alone."""
    pairs = [(row["route"], made) for row, made in zip(rows, found.decisions, strict=True)]
    made = [(alone, there) for alone, there in pairs if there is not None]
    moved = [
        max(abs(alone["probabilities"][name] - p) for name, p in there["probabilities"].items())
        for alone, there in made
    ]
    return {
        "asked": len(pairs),
        "routed": len(made),
        "equal": sum(alone["adapter"] == there["adapter"] for alone, there in made),
        "of_the_adapter_meant": sum(
            there is not None and there["adapter"] == row["adapter"]
            for row, there in zip(rows, found.decisions, strict=True)
        ),
        "abstained": sum(there["abstained"] for _, there in made),
        "adapters_chosen": len({there["adapter"] for _, there in made}),
        "largest_difference_of_a_probability": rounded(max(moved, default=float("nan"))),
    }


def answers(
    server: Server, rows: Sequence[dict[str, Any]], prompts: Sequence[Any]
) -> dict[str, Any]:
    """A batch of ``auto``, adapters by name and the base, against the same all by name."""
    others = [*{row["adapter"] for row in rows}]
    kinds: list[str | None] = [ROUTED, others[0], ROUTED, None]
    mixed = [kinds[at % 4] for at in range(len(prompts))]
    mixed = [others[at % len(others)] if one == others[0] else one for at, one in enumerate(mixed)]
    options = {"tokens": 16, "logprobs": LIKELIEST}
    found = server.ask(prompts, mixed, **options)
    named = [
        (there or {}).get("adapter") if one == ROUTED else one
        for one, there in zip(mixed, found.decisions, strict=True)
    ]
    once, twice = (server.ask(prompts, named, **options) for _ in range(2))
    # What another adapter would have said: the next one's answer.
    wrong = [
        others[(others.index(one) + 1) % len(others)] if one in others else others[0]
        for one in named
    ]
    other = server.ask(prompts, wrong, **options)
    routed = [at for at, one in enumerate(mixed) if one == ROUTED]
    rest = [at for at, one in enumerate(mixed) if one != ROUTED]

    def compared(left: Answers, right: Answers, at: Sequence[int]) -> dict[str, Any]:
        distances = [_distance(left.likeliest[i], right.likeliest[i]) for i in at]
        known = [one for one in distances if one is not None]
        return {
            "requests": len(at),
            "same_first_token": sum(left.tokens[i][0] == right.tokens[i][0] for i in at),
            "same_16_tokens": sum(left.tokens[i] == right.tokens[i] for i in at),
            "alike_first_tokens": len(known),
            "median_distance": rounded(statistics.median(known)) if known else None,
            "largest_distance": rounded(max(known)) if known else None,
        }

    return {
        "auto_against_named": compared(found, once, routed),
        "others_of_the_batch": compared(found, once, rest),
        "named_twice": compared(once, twice, range(len(prompts))),
        "auto_against_another_adapter": compared(found, other, routed),
    }


def _distance(left: dict[int, float], right: dict[int, float]) -> float | None:
    """The largest difference of a log probability; None where few of the likeliest are the same."""
    common = left.keys() & right.keys()
    if len(common) < LIKELIEST // 2:
        return None
    return max(abs(left[token] - right[token]) for token in common)


def in_turn(
    server: Server, batches: Sequence[tuple[Sequence[Any], Models]], tokens: int
) -> dict[str, Any]:
    """Times of ``auto`` and of the adapters by name, on the same prompts, taking turns."""
    seen: dict[str, list[Answers]] = {"auto": [], "named": []}
    for number, (prompts, named) in enumerate(batches):
        ways = {"auto": [ROUTED] * len(prompts), "named": named}
        for way in ("auto", "named") if number % 2 == 0 else ("named", "auto"):
            seen[way].append(server.ask(prompts, ways[way], tokens))

    def times(of: Callable[[Answers], float]) -> dict[str, Any]:
        values = {way: [1e3 * of(one) for one in found] for way, found in seen.items()}
        ratios = [a / b for a, b in zip(values["auto"], values["named"], strict=True)]
        return {
            "auto_ms": spread(values["auto"]),
            "named_ms": spread(values["named"]),
            "ratio_of_medians": rounded(
                statistics.median(values["auto"]) / statistics.median(values["named"])
            ),
            "median_ratio": rounded(statistics.median(ratios)),
        }

    found = {"runs": len(batches), "first_token": times(lambda one: one.first)}
    if tokens > 1:
        found["step"] = times(lambda one: one.step)
    return found | {"with_preprocessing": times(lambda one: one.seconds)}


def spread(values: Sequence[float]) -> list[float]:
    """Least, median and largest."""
    return [rounded(one) for one in (min(values), statistics.median(values), max(values))]


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def measure(server: Server, rows: Sequence[dict[str, Any]], rounds: int) -> dict[str, Any]:
    prompts = [
        {
            "prompt": row["prompt"],
            "multi_modal_data": {"image": Image.open(row["image"]).convert("RGB")},
        }
        for row in rows
    ]
    found = {"probes_moved": probes(server)}
    decided = server.ask(prompts, [ROUTED] * len(prompts))
    found["routes"] = routes(rows, decided)
    print(json.dumps(found), flush=True)
    named = [(made or {}).get("adapter") for made in decided.decisions]
    found["answers"] = answers(server, rows[:MIXED], prompts[:MIXED])
    print(json.dumps(found["answers"]), flush=True)
    singles = [([p], [n]) for p, n in zip(prompts, named, strict=True)]
    eights = [
        (prompts[at : at + TOGETHER], named[at : at + TOGETHER])
        for at in range(0, len(prompts), TOGETHER)
    ]
    for name, batches, tokens in (
        ("requests_1", singles[: 8 * rounds], 1),
        ("requests_8", (eights * rounds)[: 4 * rounds], 1),
        ("requests_8_of_32_tokens", eights[:rounds], 32),
    ):
        in_turn(server, batches[:2], tokens)  # compiles what is compiled on first use
        found[name] = in_turn(server, batches, tokens)
        print(name, json.dumps(found[name]), flush=True)
    found["requests_all"] = throughput(server, prompts, named, rounds)
    return found


def throughput(
    server: Server, prompts: Sequence[Any], named: Models, rounds: int
) -> dict[str, Any]:
    """Requests a second, all at once, 32 tokens each."""
    timed = in_turn(server, [(prompts, named)] * rounds, 32)
    times = timed["with_preprocessing"]
    rate = {way: rounded(1e3 * len(prompts) / times[f"{way}_ms"][1]) for way in ("auto", "named")}
    return {"requests": len(prompts), "tokens": 32, "requests_per_second": rate} | timed


def save(plan: str, found: dict[str, Any], made: dict[str, Any], path: Path) -> None:
    """Writes a plan's section; the other's stays, if it was made from the same."""
    before = json.loads(path.read_text()) if path.is_file() else {}
    plans = before.get("plans", {}) if before.get("made") == made else {}
    content = {
        "benchmark": path.stem,
        "machine": machine(),
        "vllm": vllm.__version__,
        "made": made,
        "plans": plans | {plan: found},
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("plan", choices=("in-pass", "two-pass"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--memory", type=float, default=0.75, help="share of the GPU's")
    options = parser.parse_args()
    made = json.loads((options.work / "made.json").read_text())
    rows = [json.loads(line) for line in (options.work / "requests.jsonl").read_text().splitlines()]
    os.environ[CONFIG] = str(options.work / f"{options.plan}.toml")
    register()  # as vLLM does where the package is installed
    settings = load_settings()
    assert settings is not None
    began = time.perf_counter()
    is_toy = made["shape"] != "8B"
    server = Server(
        settings,
        made["dtype"],
        max_num_batched_tokens=2048 if is_toy else 16384,
        tensor_parallel_size=options.gpus,
        **({"skip_mm_profiling": True} if is_toy else {"gpu_memory_utilization": options.memory}),
    )
    assert server.launch.plan.name == options.plan
    start = rounded(time.perf_counter() - began)
    print("started in", start, server.compiled, flush=True)
    found = measure(server, rows, options.rounds)
    seconds = rounded(time.perf_counter() - began)
    found = {"start_s": start, "seconds": seconds, "compiled": server.compiled} | found
    name = "vllm_gpu" if options.gpus == 1 else f"vllm_gpu_x{options.gpus}"
    where = (options.work if is_toy else RESULTS) / f"{name}.json"
    made["gpus"] = options.gpus
    save(options.plan, found, made, where)
    print(json.dumps(found["requests_all"]))


if __name__ == "__main__":
    main()
