"""Time to the first token and per token at Qwen3-VL's shapes on a GPU, and what else there is.

Weights are random and made on the device; 1,000 image tokens and 64 of text in each request, LoRA
of rank 16 on all projections from the router's layer on. ``--shape toy`` runs everything that a
CPU can run, to see that it works.
"""

import argparse
import gc
import json
import re
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import torch
from common import RESULTS, machine, report
from peft import LoraConfig, PeftModelForCausalLM
from random_qwen import RANK, SHAPES, Shape, make_base, make_encoded, make_lora, renamed
from torch import Tensor, nn
from torch.nn import functional

from pointsman.engine.forward import Forward, Routing
from pointsman.engine.kv_cache import GRAIN, KEYS, VALUES
from pointsman.engine.lora_stack import LoraStack
from pointsman.models.base import Base
from pointsman.models.encoding import Encoded
from pointsman.models.features import pool

ADAPTERS, SLOTS = 8, 32
STEPS = 16
"""Tokens of one reading of a step's time"""
Times = dict[str, Any]


@dataclass
class Run:
    """What all sections share."""

    name: str
    shape: Shape
    device: torch.device
    dtype: torch.dtype
    repeats: int
    deadline: float
    """No section begins after it"""
    counts: tuple[int, ...]
    """Adapters on the device at once, besides 8"""
    is_compiled: bool
    sections: dict[str, Any] = field(default_factory=dict)
    held: dict[str, Any] = field(default_factory=dict)
    """The one model in memory"""

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def is_late(self) -> bool:
        return time.perf_counter() > self.deadline

    def wait(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize()

    def timed(self, call: Callable[[], object], repeats: int | None = None, warm: int = 2) -> Times:
        """Milliseconds of a call until the device is done."""
        for _ in range(warm):
            call()
        seen = []
        for _ in range(repeats or self.repeats):
            self.wait()
            began = time.perf_counter()
            call()
            self.wait()
            seen.append(1e3 * (time.perf_counter() - began))
        return {"ms": rounded(median(seen)), "least_ms": rounded(min(seen)), "repeats": len(seen)}

    @property
    def result(self) -> dict[str, Any]:
        return {"shape": vars(self.shape), "sections": self.sections}

    def save(self, section: str, found: dict[str, Any]) -> None:
        """Writes what is there already: who comes too late still has it."""
        self.sections[section] = found
        print(section, json.dumps(found), flush=True)
        RESULTS.mkdir(exist_ok=True)
        content = {"benchmark": self.name, "machine": machine()} | self.result
        (RESULTS / f"{self.name}.json").write_text(json.dumps(content, indent=2) + "\n")

    def forget(self) -> None:
        """Frees the model in memory."""
        self.held.clear()
        torch._dynamo.reset()
        gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


# Ours.


@dataclass(frozen=True)
class Setup:
    base: Base
    forward: Forward
    head: nn.Linear
    batches: dict[int, Encoded]

    @property
    def stack(self) -> LoraStack:
        return self.forward.stack

    def first_tokens(self, requests: int, route_layer: int | None) -> list[int]:
        """From prompts on the device to each one's first token on the host, tower and all."""
        encoded = self.batches[requests]
        features = self.base.image_features(encoded)
        tokens: list[int] = self.prefill(encoded, features, route_layer).argmax(-1).tolist()
        return tokens

    def prefill(self, encoded: Encoded, features: Any, route_layer: int | None) -> Tensor:
        requests = len(encoded["input_ids"])
        device = self.base.device
        if route_layer is None:
            rows = torch.full((requests,), self.stack.zero, device=device)
            return self.forward.prefill(encoded, features, range(requests), rows)

        def decide(reads: Sequence[Tensor], batch: Encoded) -> Tensor:
            logits = self.head(pool(reads[0], batch, "last").float())
            best = functional.softmax(logits, -1).max(-1)
            labels = best.indices.where(best.values >= 0, -1)
            rows = self.stack.rows_of(labels)
            # A random head has its favourites: of several, each shall have its own.
            others = torch.arange(requests, device=device) % ADAPTERS
            return rows if requests == 1 else torch.where(rows < 0, rows, others)

        routing = Routing((route_layer,), decide, again=False)
        return self.forward.prefill(encoded, features, range(requests), None, routing)


def set_up(run: Run, adapters: int, *, resident: int | None = None, prompts: bool = True) -> Setup:
    """A base with so many adapters in a stack with room for ``resident``."""
    found = run.held.get(f"ours {adapters} {resident}")
    if found is not None:
        return found
    run.forget()
    shape, base = run.shape, make_base(run.shape, run.device, run.dtype)
    loras = [make_lora(shape, f"a{i}", run.device, run.dtype) for i in range(adapters)]
    stack = LoraStack(base, loras, resident=resident, max_rank=RANK)
    compiler = torch.compile if run.is_compiled else None
    forward = Forward(base, stack, SLOTS, compiler)
    head = nn.Linear(shape.hidden, ADAPTERS, device=run.device, dtype=torch.float32)
    sizes = (1, 8) if prompts else ()
    made = Setup(base, forward, head, {size: make_encoded(shape, base, size) for size in sizes})
    run.held[f"ours {adapters} {resident}"] = made
    return made


@torch.inference_mode()
def prefills(run: Run, setup: Setup, route_layer: int | None) -> dict[str, Times]:
    """Times to the first token: compiled and padded, and not compiled."""
    times: dict[str, Any] = {}
    for size in (1, 8):
        times |= {f"{key}_{size}": value for key, value in first(run, setup, size, route_layer)}
    for slot in range(8):
        setup.forward.release(slot)
    return times


def first(
    run: Run, setup: Setup, size: int, route_layer: int | None
) -> Iterator[tuple[str, object]]:
    repeats = run.repeats if size == 1 else run.repeats // 2 + 1

    def call() -> None:
        setup.first_tokens(size, route_layer)

    def prefill() -> Tensor:
        return setup.prefill(encoded, features, route_layer)

    began = time.perf_counter()
    call()
    yield "ttft_first_s", rounded(time.perf_counter() - began)
    yield "ttft", run.timed(call, repeats)
    encoded = setup.batches[size]
    features = setup.base.image_features(encoded)
    yield "tower", run.timed(lambda: setup.base.image_features(encoded), repeats)
    yield "prefill", run.timed(prefill, repeats)
    compiled = prefill().float()
    read, setup.forward._read = setup.forward._read, None
    eager = prefill().float()
    yield "ttft_not_compiled", run.timed(call, repeats)
    setup.forward._read = read
    yield "compiled_against_not", agreement(compiled, eager)


def agreement(compiled: Tensor, eager: Tensor) -> dict[str, Any]:
    """Of logits."""
    return {
        "largest_logit": rounded(float(eager.abs().max())),
        "largest_difference": rounded(float((compiled - eager).abs().max())),
        "same_token": bool((compiled.argmax(-1) == eager.argmax(-1)).all()),
    }


@torch.inference_mode()
def steps(run: Run, setup: Setup, sizes: tuple[int, ...], adapters: int) -> dict[str, Times]:
    """Milliseconds a step after prompts of the usual length, each request with another row."""
    forward, tokens = setup.forward, run.shape.tokens
    forward.slots.reserve(tokens + STEPS + 2)
    for layer in setup.base.core.language_model.layers:
        for name in (KEYS, VALUES):
            getattr(layer.self_attn, name).normal_()
    # Spread over all rows; with no adapters, the base's.
    rows = torch.arange(SLOTS, device=run.device) * max(1, adapters // SLOTS) % max(1, adapters)
    forward.rows.copy_(rows if adapters else torch.full_like(rows, setup.stack.zero))
    times: dict[str, Any] = {}
    for size in sizes:

        def begin(size: int = size) -> None:
            forward.lengths.fill_(tokens)
            forward.positions.fill_(tokens)
            forward.tokens.fill_(1)
            forward.active.zero_()
            forward.active[:size] = 1
            forward.forget_steps()

        def some(reads: bool, size: int = size, begin: Callable[[], None] = begin) -> None:
            begin()
            for step in range(STEPS):
                made = forward.step(size, tokens + step)
                if reads:
                    made.tokens()

        began = time.perf_counter()
        some(True)
        times[f"step_{size}_first_s"] = rounded(time.perf_counter() - began)
        times[f"step_{size}"] = a_step(run.timed(lambda: some(True)))
        times[f"step_{size}_not_read"] = a_step(run.timed(lambda: some(False)))
        begin()
        compiled = forward.step(size, tokens).logits.float()
        begin()
        setup.stack.batch.choose(forward.rows[:size])
        through, forward._compiled = forward._compiled, None
        _, eager = forward._step(size, GRAIN * -(-(tokens + 1) // GRAIN))
        forward._compiled = through
        times[f"step_{size}_compiled_against_not"] = agreement(compiled, eager.float())
    forward.active.zero_()
    return times


def a_step(times: Times) -> Times:
    each = {name: rounded(times[name] / STEPS) for name in ("ms", "least_ms")}
    return times | each


# Sections.


def floors(run: Run) -> dict[str, Any]:
    """What the device can do at best, and what a request asks of it."""
    shape, size, bytes_ = run.shape, 8192 if run.is_cuda else 256, 2**32 if run.is_cuda else 2**24
    a = torch.randn(size, size, device=run.device, dtype=run.dtype)
    product = run.timed(lambda: [a @ a for _ in range(10)])
    source = torch.empty(bytes_, dtype=torch.uint8, device=run.device).random_()
    target = torch.empty_like(source)
    copy = run.timed(lambda: [target.copy_(source) for _ in range(10)])
    flops_rate = 10 * 2 * size**3 / (product["least_ms"] / 1e3)
    bytes_rate = 10 * 2 * bytes_ / (copy["least_ms"] / 1e3)
    run.forget()

    decoder = shape.layers * sum(i * o for i, o in shape.projections.values())
    vocabulary = shape.hidden * shape.vocabulary
    patches, wide = shape.grid[0] * shape.grid[1], 4 * shape.vision_hidden
    block = 4 * shape.vision_hidden**2 + 2 * shape.vision_hidden * shape.vision_inner
    merger = wide * wide + wide * shape.hidden
    prompt = 2 * decoder * shape.tokens + 2 * vocabulary
    prompt += shape.layers * 2 * shape.tokens**2 * shape.heads * shape.head_size  # causal
    image = shape.vision_depth * (2 * block * patches + 4 * patches**2 * shape.vision_hidden)
    image += 2 * merger * shape.image_tokens * (1 + len(shape.deepstack))
    lora = 2 * RANK * sum(i + o for i, o in shape.projections.values())
    lora *= (shape.layers - shape.route_layer) * shape.tokens
    weights = 2 * (decoder + vocabulary)
    return {
        "matmul_tflops": rounded(flops_rate / 1e12),
        "copy_tb_per_s": rounded(bytes_rate / 1e12),
        "prompt_tflop": rounded(prompt / 1e12),
        "image_tflop": rounded(image / 1e12),
        "lora_tflop": rounded(lora / 1e12),
        "weights_gb_per_step": rounded(weights / 1e9),
        "ttft_1_ms": rounded(1e3 * (prompt + image) / flops_rate),
        "ttft_8_ms": rounded(8e3 * (prompt + image) / flops_rate),
        "step_ms": rounded(1e3 * weights / bytes_rate),
    }


def base_alone(run: Run) -> dict[str, Any]:
    """The base without LoRA, through the same forward."""
    setup = set_up(run, 0)
    found = prefills(run, setup, None)
    found["stock_tower_1"] = stock_tower(run, setup)
    run.save("base", found)
    return found | steps(run, setup, (1, 8, 32), 0)


@torch.inference_mode()
def stock_tower(run: Run, setup: Setup) -> Times:
    """The vision tower as transformers has it: its own convolution, its own places."""
    inputs = setup.base.stock_inputs(setup.batches[1])
    with stock(setup.base):
        return run.timed(
            lambda: setup.base.core.get_image_features(
                inputs["pixel_values"], inputs["image_grid_thw"], return_dict=True
            )
        )


@contextmanager
def stock(base: Base) -> Iterator[None]:
    """All modules compute as transformers has them."""
    modules = [m for m in base.model.modules() if "forward" in vars(m)]
    ours = [vars(module).pop("forward") for module in modules]
    config = base.core.visual.config
    attention, config._attn_implementation = config._attn_implementation, "sdpa"
    try:
        yield
    finally:
        config._attn_implementation = attention
        for module, forward in zip(modules, ours, strict=True):
            module.forward = forward


def in_pass(run: Run) -> dict[str, Any]:
    """Routed on the way, eight adapters."""
    setup = set_up(run, ADAPTERS)
    found = prefills(run, setup, run.shape.route_layer)
    run.save("in-pass", found)
    return found | steps(run, setup, (1, 8, 32), ADAPTERS)


def profile(run: Run) -> dict[str, Any]:
    """Where the time of a routed prefill and of steps goes, and what waits for the device."""
    setup = set_up(run, ADAPTERS)
    found: dict[str, Any] = {}
    with torch.inference_mode():
        encoded = setup.batches[1]
        layer = run.shape.route_layer
        features = setup.base.image_features(encoded)
        setup.prefill(encoded, features, layer)
        found["waits"] = {
            "tower": waits(run, lambda: setup.base.image_features(encoded)),
            "prefill": waits(run, lambda: setup.prefill(encoded, features, layer)),
        }
        found["tower"] = kernels(run, lambda: setup.base.image_features(encoded))
        found["prefill_1"] = kernels(run, lambda: setup.prefill(encoded, features, layer))
        encoded = setup.batches[8]
        features = setup.base.image_features(encoded)
        setup.prefill(encoded, features, layer)
        found["prefill_8"] = kernels(run, lambda: setup.prefill(encoded, features, layer))
        for size in (1, 8, 32):
            setup.forward.lengths.fill_(run.shape.tokens)

            def four(size: int = size) -> None:
                setup.forward.forget_steps()
                for step in range(4):
                    setup.forward.step(size, run.shape.tokens + step)

            four()
            found[f"steps_{size}"] = kernels(run, four)
    return found


def waits(run: Run, call: Callable[[], object]) -> dict[str, Any] | str:
    """Where the host waits for the device."""
    if not run.is_cuda:
        return "needs CUDA"
    call()
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = [
        f"{'/'.join(warning.filename.split('/')[-2:])}:{warning.lineno}"
        for warning in caught
        if "called a synchronizing" in str(warning.message)
    ]
    return {"count": len(places), "places": {p: places.count(p) for p in dict.fromkeys(places)}}


KINDS = {
    "attention": r"flash|fmha|attention|sdpa|softmax",
    "matmul": r"gemm|cutlass|cublas|nvjet|matmul|triton_tem|splitk|_mm|addmm|linear|conv",
    "elementwise": r"elementwise|triton_|vectorized|reduce|cat|copy|index|scatter|gather|norm|add|"
    r"mul|memcpy|memset|fill|scan|silu|rsqrt|mean|pow|cos|sin",
}


def kernels(run: Run, call: Callable[[], object]) -> dict[str, Any]:
    """Device time of a call by kernel, and by kind of kernel."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if run.is_cuda:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    run.wait()
    with torch.profiler.profile(activities=activities) as profiler:
        began = time.perf_counter()
        call()
        run.wait()
        wall = time.perf_counter() - began
    rows = []
    for event in profiler.key_averages():
        if event.is_user_annotation or event.key.startswith(("Torch-Compiled", "## Call")):
            continue  # a name for what other events count
        if run.is_cuda and event.device_type == torch.autograd.DeviceType.CUDA:
            rows.append((event.self_device_time_total, event.count, event.key))
        elif not run.is_cuda:
            rows.append((event.self_cpu_time_total, event.count, event.key))
    kinds: dict[str, float] = {}
    for spent, _, key in rows:
        kind = next((k for k, p in KINDS.items() if re.search(p, key, re.IGNORECASE)), "other")
        kinds[kind] = kinds.get(kind, 0.0) + spent / 1e3
    rows.sort(reverse=True)
    return {
        "wall_ms_profiled": rounded(1e3 * wall),
        "device_ms": rounded(sum(kinds.values())),
        "kernels": sum(count for _, count, _ in rows),
        "kinds_ms": {kind: rounded(spent) for kind, spent in kinds.items()},
        "top": [[rounded(s / 1e3), count, short(key)] for s, count, key in rows[:15]],
    }


def short(kernel: str) -> str:
    return re.sub(r"^void |at::native::|\(anonymous namespace\)::", "", kernel)[:90]


def alternatives(run: Run) -> dict[str, Any]:
    """PEFT and ``generate``: with a known adapter, the original's way, and mixed batches."""
    run.forget()
    base = make_base(run.shape, run.device, run.dtype)
    batches = {size: make_encoded(run.shape, base, size) for size in (1, 8)}
    inputs = {size: base.stock_inputs(encoded) for size, encoded in batches.items()}
    for batch in inputs.values():
        del batch["position_ids"]
    config = LoraConfig(
        r=RANK,
        lora_alpha=RANK,
        target_modules=list(run.shape.projections),
        layers_to_transform=list(range(run.shape.route_layer, run.shape.layers)),
        layers_pattern="layers",
        init_lora_weights=False,
        inference_mode=True,
    )
    names = [f"a{index}" for index in range(ADAPTERS)]
    model: Any = PeftModelForCausalLM(base.model, config, "a0", autocast_adapter_dtype=False)
    for name in names[1:]:
        model.add_adapter(name, config, autocast_adapter_dtype=False)
    model.requires_grad_(False).eval()
    head = nn.Linear(run.shape.hidden, ADAPTERS, device=run.device, dtype=run.dtype)

    def generate(size: int, tokens: int, **options: Any) -> Tensor:
        generated: Tensor = model.generate(
            **inputs[size], max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, **options
        )
        assert generated.shape[1] == run.shape.tokens + tokens
        return generated

    def known(size: int, tokens: int) -> None:
        model.set_adapter("a1", inference_mode=True)
        generate(size, tokens)

    def original(tokens: int) -> None:
        with model.disable_adapter():
            states = model(**inputs[1], output_hidden_states=True).hidden_states[-1]
        label = int(head(states[:, 0, :]).argmax(-1))
        model.set_adapter(names[label], inference_mode=True)
        generate(1, tokens)

    def mixed(tokens: int) -> None:
        generate(8, tokens, adapter_names=names)

    ways: dict[str, tuple[Callable[[int], None], int]] = {
        "peft_known_1": (lambda tokens: known(1, tokens), 16),
        "original_1": (original, 16),
        "peft_known_8": (lambda tokens: known(8, tokens), 8),
        "peft_mixed_8": (mixed, 4),
    }
    found: dict[str, Any] = {}
    with torch.no_grad(), stock(base):
        for name, (way, more) in ways.items():
            if run.is_late:
                found[name] = "skipped: no time left"
                continue
            try:
                repeats = run.repeats // 2
                first = run.timed(lambda way=way: way(1), repeats, 1)
                longer = run.timed(lambda way=way, more=more: way(1 + more), repeats, 1)
                step = rounded((longer["ms"] - first["ms"]) / more)
                found[name] = {"ttft": first, "step_ms": step, "steps": more}
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"
            run.save("alternatives", found)
    found["note"] = f"adapters in {run.dtype}, the stock tower; the original's way has no batches"
    return found


def scale(run: Run) -> dict[str, Any]:
    """Steps with more and more adapters on the device."""
    found: dict[str, Any] = {}
    before = run.sections.get("in-pass", {})
    small = [before.get(f"step_{size}", {}).get("ms") for size in (8, 32)]
    found["8"] = dict(zip(("step_8_ms", "step_32_ms"), small, strict=True))
    for wanted in run.counts:
        if run.is_late:
            found[str(wanted)] = "skipped: no time left"
            continue
        run.forget()
        most = fitting(run, wanted)
        if str(most) in found:
            continue
        # No name for it here: two of them may not fit into memory.
        found[str(most)] = of_many(run, set_up(run, ADAPTERS, resident=most, prompts=False), most)
        run.save("scale", found)
    done = [v for v in found.values() if isinstance(v, dict)]
    for key in ("step_8_ms", "step_32_ms"):
        times = [v[key] for v in done if v.get(key)]
        if times:
            found[f"{key}_most_over_least"] = rounded(max(times) / min(times))
    return found


def fitting(run: Run, wanted: int) -> int:
    """As many adapters as there is memory for, at most ``wanted``."""
    shape = run.shape
    if not run.is_cuda:
        return wanted
    each = 2 * RANK * sum(i + o for i, o in shape.projections.values())
    each *= shape.layers - shape.route_layer
    model = make_base(shape, torch.device("meta"), run.dtype).model
    weights = 2 * sum(p.numel() for p in model.parameters())
    slots = 4 * SLOTS * shape.layers * shape.key_heads * shape.head_size * 1280
    room = torch.cuda.mem_get_info()[0] - weights - slots - ADAPTERS * each - 5e9
    return max(ADAPTERS, min(wanted, int(room // each)))


@torch.inference_mode()
def of_many(run: Run, setup: Setup, count: int) -> dict[str, Any]:
    """Fills the stack, and takes the time of it and of steps."""
    stack = setup.stack
    lora = make_lora(run.shape, "more", run.device, run.dtype)
    on_host = renamed(lora, "host", "cpu")
    times: dict[str, list[float]] = {"device": [], "host": []}
    for index in range(ADAPTERS, count):
        kind = "host" if count - index <= 10 else "device"
        more = replace(on_host if kind == "host" else lora, name=f"more{index}")
        run.wait()
        began = time.perf_counter()
        stack.add(more)
        run.wait()
        times[kind].append(1e3 * (time.perf_counter() - began))
    found = steps(run, setup, (8, 32), count)
    return {
        "resident": len(stack.resident),
        "mb_per_adapter": rounded(stack.adapter_bytes / 1e6),
        "add_from_device_ms": rounded(median(times["device"])) if times["device"] else None,
        "add_from_host_ms": rounded(median(times["host"])) if times["host"] else None,
        "step_8_ms": found["step_8"]["ms"],
        "step_32_ms": found["step_32"]["ms"],
        "steps": found,
        "memory_gb": rounded(torch.cuda.memory_allocated() / 1e9) if run.is_cuda else None,
    }


SECTIONS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "floors": floors,
    "base": base_alone,
    "in-pass": in_pass,
    "profile": profile,
    "alternatives": alternatives,
    "scale": scale,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, help="by default 8B on CUDA, and none elsewhere")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="comma-separated")
    parser.add_argument("--seconds", type=float, default=480, help="no section begins after them")
    parser.add_argument("--repeats", type=int, help="by default 10, 3 for toy")
    parser.add_argument("--compile", action="store_true", help="on a CPU too")
    options = parser.parse_args()
    options.sections = [name for name in options.sections.split(",") if name]
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no such sections: {', '.join(sorted(unknown))}; choose of {[*SECTIONS]}")
    return options


def main() -> None:
    began = time.perf_counter()
    options = arguments()
    is_cuda = torch.cuda.is_available()
    if not is_cuda and options.shape != "toy":
        print("needs a CUDA device; --shape toy tries it out on a CPU")
        return
    name = options.shape or "8B"
    run = Run(
        name=f"engine_gpu_{name}",
        shape=SHAPES[name],
        device=torch.device("cuda" if is_cuda else "cpu"),
        dtype=torch.bfloat16 if is_cuda else torch.float32,
        repeats=options.repeats or (3 if name == "toy" else 10),
        deadline=began + options.seconds,
        counts=(16, 40) if name == "toy" else (64, 1000, 256),
        is_compiled=is_cuda or options.compile,
    )
    for section in options.sections:
        if run.is_late:
            run.save(section, {"skipped": "no time left"})
            continue
        started = time.perf_counter()
        try:
            found = SECTIONS[section](run)
        except Exception as error:
            traceback.print_exc()
            found = run.sections.get(section, {}) | {"error": f"{type(error).__name__}: {error}"}
        found["seconds"] = rounded(time.perf_counter() - started)
        if is_cuda:
            found["peak_memory_gb"] = rounded(torch.cuda.max_memory_allocated() / 1e9)
            torch.cuda.reset_peak_memory_stats()
        run.save(section, found)
    report(run.name, run.result)


if __name__ == "__main__":
    main()
