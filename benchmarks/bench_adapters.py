"""Decoding against the number of adapters in memory and of requests in the batch, on the pocket.

Adapters of random weights, rank 16 on all seven projections of the layers above the router's; every
request of a batch has another one. Also the memory of an adapter, and the time to add one, with
requests at work. On whatever device there is; draws docs/decoding.png.

    python benchmarks/bench_adapters.py [--most 1000]
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import ROOT, report
from matplotlib.figure import Figure
from PIL import Image

from pointsman.adapters.layout import GROUPS
from pointsman.adapters.weights import Lora
from pointsman.cli.console import quiet_libraries
from pointsman.conversation import make_prompt
from pointsman.engine.forward import Forward
from pointsman.engine.lora_stack import LoraStack
from pointsman.models.base import Base, load_base
from pointsman.pocket import pocket_folder

RANK, FROM = 16, 2
COUNTS, BATCHES = (8, 64, 256, 1000), (1, 8, 32)
STEPS, ROUNDS = 10, 9
PICTURE = ROOT / "docs" / "decoding.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=COUNTS[-1], help="adapters")
    arguments = parser.parse_args()
    quiet_libraries()
    counts = [count for count in COUNTS if count <= arguments.most]
    steps: dict[str, dict[str, float]] = {}
    with pocket_folder() as folder:
        forwards = {count: forward_of(str(folder / "base"), count) for count in counts}
        forwards[0] = forward_of(str(folder / "base"), 1)  # asked for its base alone
    for batch in BATCHES:
        for forward in forwards.values():
            begin(forward, batch)
        # In turn, so that a machine that drifts drifts for all of them.
        times: dict[int, list[float]] = {count: [] for count in forwards}
        for _ in range(ROUNDS):
            for count, forward in forwards.items():
                times[count].append(step_seconds(forward, batch))
        for count, measured in times.items():
            steps.setdefault(str(count), {})[str(batch)] = round(1000 * median(measured), 3)
    largest = forwards[counts[-1]]
    result: dict[str, Any] = {
        "rank": RANK,
        "layers": [FROM, largest.base.depth],
        "milliseconds of a step, by adapters and batch (0 adapters: the base)": steps,
        "slowest over 8 adapters, at a batch of 8": round(
            max(steps[str(count)]["8"] for count in counts) / steps["8"]["8"], 3
        ),
        "bytes of an adapter": largest.stack.adapter_bytes,
        "seconds to add an adapter": adding(largest),
    }
    report(Path(__file__).stem.removeprefix("bench_"), result)
    draw(steps, counts)


def forward_of(folder: str, count: int) -> Forward:
    base = load_base(folder)
    stack = LoraStack(
        base, [random_lora(base, index) for index in range(count)], resident=count + 1
    )
    return Forward(base, stack, BATCHES[-1])


def random_lora(base: Base, seed: int) -> Lora:
    chance = torch.Generator().manual_seed(seed)
    weights = {}
    for index in range(FROM, base.depth):
        layer = base.core.language_model.layers[index]
        for part, projections in GROUPS:
            for name in projections:
                d_in, d_out = shape_of(getattr(layer, part), name)
                a = torch.randn(RANK, d_in, generator=chance) / d_in
                weights[index, name] = (a, torch.randn(d_out, RANK, generator=chance) / RANK)
    return Lora(f"adapter-{seed}", weights)


def shape_of(module: Any, name: str) -> tuple[int, int]:
    """Inputs and outputs of a projection, whether it is in a stack already or not."""
    config = module.config
    if name in ("gate_proj", "up_proj", "down_proj"):
        sizes = config.hidden_size, config.intermediate_size
        return sizes if name != "down_proj" else sizes[::-1]
    heads = config.num_attention_heads if name in ("q_proj", "o_proj") else 0
    width = (heads or config.num_key_value_heads) * config.head_dim
    return (width, config.hidden_size) if name == "o_proj" else (config.hidden_size, width)


def begin(forward: Forward, batch: int) -> None:
    """Reads a prompt into each of so many slots, every one with another adapter."""
    base, stack = forward.base, forward.stack
    prompt = make_prompt(Image.new("RGB", (320, 256)), "Click December 3 in the calendar")
    encoded = base.encode([prompt] * batch)
    rows = torch.arange(batch, device=base.device) * max(1, stack.rows // batch) % (stack.rows - 1)
    if stack.rows == 2:  # the one whose base is asked
        rows = torch.full_like(rows, stack.zero)
    logits = forward.prefill(encoded, base.image_features(encoded), range(batch), rows)
    forward.begin(range(batch), logits.argmax(-1))


def step_seconds(forward: Forward, batch: int) -> float:
    """Of one step, the mean of some."""
    length = int(forward.lengths.max())
    forward.step(batch, length)
    synchronise(forward)
    started = time.perf_counter()
    for step in range(1, STEPS + 1):
        forward.step(batch, length + step)
    synchronise(forward)
    seconds = (time.perf_counter() - started) / STEPS
    with torch.inference_mode():  # as long as before
        forward.lengths -= forward.active * (STEPS + 1)
        forward.positions -= forward.active * (STEPS + 1)
    return seconds


def synchronise(forward: Forward) -> None:
    if forward.base.device.type == "cuda":
        torch.cuda.synchronize()


def adding(forward: Forward) -> float:
    """Into the row that is free, while others answer."""
    measured = []
    for turn in range(5):
        lora = random_lora(forward.base, 10**6 + turn)
        started = time.perf_counter()
        forward.stack.add(lora)
        synchronise(forward)
        measured.append(time.perf_counter() - started)
        forward.stack.remove(lora.name)
    return round(median(measured), 4)


def draw(steps: dict[str, dict[str, float]], counts: Sequence[int]) -> None:
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for batch in BATCHES:
        times = [steps[str(count)][str(batch)] for count in counts]
        (line,) = axes.plot(counts, times, marker="o", label=f"{batch} requests at once")
        axes.axhline(steps["0"][str(batch)], color=line.get_color(), linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_ylim(0)
    axes.set_xlabel("adapters in memory (dotted: the base without any)")
    axes.set_ylabel("milliseconds of a step")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    main()
