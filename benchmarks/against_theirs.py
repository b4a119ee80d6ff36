"""vLLM's side of ``bench_against_vllm.py``: plain vLLM, which is told each request's adapter.

Its engine runs in this process and is stepped here, unless ``VLLM_ENABLE_V1_MULTIPROCESSING`` is 1.
"""

import io
import time
from collections import deque
from pathlib import Path
from typing import Any

from against_phases import NAMED, Ask, Counts, Timeline
from against_side import run_side, side_options
from PIL import Image
from vllm.lora.request import LoRARequest

import vllm
from vllm import LLM, SamplingParams

MEMORY = 0.75
"""Share of a GPU's, which vLLM takes at its start"""


class Theirs:
    """vLLM with all adapters loaded."""

    def __init__(self, work: Path, plan: str, slots: int, made: dict[str, Any], counts: Counts):
        is_large = made["shape"] == "8B"
        others: dict[str, Any] = {"gpu_memory_utilization": MEMORY}
        if not is_large:
            others = {"skip_mm_profiling": True, "enforce_eager": True}
        self._engine = LLM(
            model=str(work / "base"),
            dtype=made["dtype"],
            max_model_len=2048,
            max_num_seqs=slots,
            max_num_batched_tokens=16384 if is_large else 2048,
            limit_mm_per_prompt={"image": 1, "video": 0},
            enable_lora=True,
            max_loras=len(made["adapters"]),
            max_lora_rank=made["rank"],
            # No two requests have a picture in common: caches would only cost.
            enable_prefix_caching=False,
            mm_processor_cache_gb=0,
            seed=0,
            **others,
        ).llm_engine
        self._loras: dict[str | None, LoRARequest | None] = {None: None}
        for number, name in enumerate(made["adapters"], 1):
            lora = LoRARequest(name, number, str(work / "adapters" / plan / name))
            self._engine.add_lora(lora)
            self._loras[name] = lora
        self._ignores_end = counts.ignores_end
        self._waiting: deque[tuple[Ask, int, Timeline]] = deque()
        self._running: dict[str, Timeline] = {}
        self._number = 0

    def submit(self, ask: Ask, tokens: int) -> Timeline:
        self._waiting.append((ask, tokens, Timeline(time.perf_counter())))
        return self._waiting[-1][2]

    def advance(self) -> None:
        # Its one thread reads pictures too. Running requests shall not wait for all of them.
        for _ in range(min(1, len(self._waiting)) if self._running else len(self._waiting)):
            self._add(*self._waiting.popleft())
        outputs = self._engine.step()
        now = time.perf_counter()
        for output in outputs:
            timeline = self._running[output.request_id]
            new = len(output.outputs[0].token_ids) - len(timeline.tokens)
            timeline.tokens += [now] * new
            if output.finished:
                timeline.is_done = True
                del self._running[output.request_id]

    def _add(self, ask: Ask, tokens: int, timeline: Timeline) -> None:
        self._number += 1
        name = str(self._number)
        picture = Image.open(io.BytesIO(ask.picture)).convert("RGB")
        self._engine.add_request(
            name,
            {"prompt": ask.prompt, "multi_modal_data": {"image": picture}},
            SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=self._ignores_end),
            lora_request=self._loras[ask.model],
        )
        self._running[name] = timeline


def main() -> None:
    options = side_options(__doc__)

    def start(made: dict[str, Any], counts: Counts) -> Theirs:
        return Theirs(options.work, options.plan, options.slots, made, counts)

    run_side(options, start, (NAMED,), {"vllm": vllm.__version__})


if __name__ == "__main__":
    main()
