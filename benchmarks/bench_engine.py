"""The engine on the pocket and this CPU, against the ways there are without it.

Every request is routed and answered greedily. `original` is how the user's scripts did it: a full
forward of the base with adapters off, a head, `set_adapter`, `generate`. `peft` is given the right
adapter, so that it need not route; `peft, mixed` is PEFT's own batch of several adapters. All of
them use the stock vision tower and image processor. Ratios are of times in one run, round by round.

    python benchmarks/bench_engine.py [--rounds 5]
"""

import argparse
import inspect
import json
import random
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from common import ROOT, report
from matplotlib.figure import Figure
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from transformers import AutoModelForImageTextToText

from lab.screens.screen import draw_screens
from pointsman.adapters.layout import PROJECTIONS
from pointsman.cli.console import progress, quiet_libraries
from pointsman.conversation import Prompt, make_prompt
from pointsman.engine.engine import Engine
from pointsman.engine.forward import Forward
from pointsman.engine.options import EngineOptions
from pointsman.engine.prefill import Prefill
from pointsman.models.base import Base, load_base
from pointsman.pocket import pocket_folder
from pointsman.project import Project, load_project
from pointsman.routing.router import Router

NAMES = ("calendar", "claim-window", "provider-select")
SIZE = (640, 448)
BATCH = 8
Way = Callable[[Sequence[Prompt]], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=BATCH, help="of a round, one by one")
    parser.add_argument("--memory", choices=("engine", "peft"), help="peak of one way, then stop")
    arguments = parser.parse_args()
    quiet_libraries()
    with pocket_folder() as folder:
        project = load_project(folder / "pointsman.toml")
    if arguments.memory:
        print(peak_bytes(project, arguments.memory))
        return
    result: dict[str, Any] = {"size": list(SIZE), "rounds": arguments.rounds}
    with tempfile.TemporaryDirectory() as folder_name:
        activated = with_activated(project, Path(folder_name))
        # No prefix is kept of earlier requests, only what the vision tower has seen.
        alone = EngineOptions(kept=0)
        with (
            Engine.pocket(options=alone) as engine,
            Engine.pocket(options=replace(alone, plan="two-pass")) as two_pass,
        ):
            stock = Stock(project, engine.router)
            prompts, others = draw(arguments.requests * (arguments.rounds + 1))
            result["answers alike"] = agreement(engine, stock, prompts[:BATCH])
            result |= against_the_others(engine, two_pass, stock, prompts, others, arguments)
            result["parts of a request"] = parts(engine, prompts[:BATCH])
            result["routing"] = {
                "in-pass": overhead(engine, prompts, arguments.rounds),
                "two-pass": overhead(two_pass, prompts, arguments.rounds),
            }
        with Engine.from_project(activated, "activated", options=EngineOptions(kept=0)) as engine:
            result["routing"]["activated"] = overhead(engine, prompts, arguments.rounds)
    result["peak bytes"] = {way: measured_peak(way) for way in ("engine", "peft")}
    report(Path(__file__).stem.removeprefix("bench_"), result)
    draw_latency(result)


def draw(count: int) -> tuple[list[Prompt], list[Prompt]]:
    """Requests on different screens, adapters in turn; and another request on each screen."""
    rng = random.Random(17)
    first, second = [], []
    for index in range(count):
        screens = draw_screens(rng, NAMES[index % len(NAMES)], "plain", 2, SIZE)
        for chosen, screen in zip((first, second), screens, strict=True):
            chosen.append(make_prompt(screen.image, screen.instruction))
    return first, second


class Stock:
    """The pocket through transformers and PEFT alone."""

    def __init__(self, project: Project, router: Router) -> None:
        self._base = load_base(project.base)
        model = AutoModelForImageTextToText.from_pretrained(project.base, dtype=torch.float32)
        loaded = PeftModel.from_pretrained(model.eval(), project.adapters[NAMES[0]], NAMES[0])
        for name in NAMES[1:]:
            loaded.load_adapter(project.adapters[name], name)
        self._model: Any = loaded.requires_grad_(False).eval()
        self._router = router
        # As wide as the router's own, on the last layer, where the original reads.
        self._head = torch.nn.Linear(self._base.hidden_size, len(NAMES))
        self._names: dict[int, str | None] = {}

    def know(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Whom each prompt goes to, so that every way has the same answers to give."""
        for prompt, decision in zip(prompts, engine.route_batch(prompts), strict=True):
            self.name(prompt, decision.adapter)

    def name(self, prompt: Prompt, adapter: str | None) -> None:
        """Whom a prompt goes to; None: the base."""
        self._names[id(prompt)] = adapter

    @torch.inference_mode()
    def original(self, prompts: Sequence[Prompt]) -> list[str]:
        return [self._original(prompt) for prompt in prompts]

    @torch.inference_mode()
    def peft(self, prompts: Sequence[Prompt]) -> list[str]:
        return [self._answer(prompt, self._inputs([prompt])) for prompt in prompts]

    @torch.inference_mode()
    def peft_mixed(self, prompts: Sequence[Prompt]) -> list[str]:
        names = [self._names[id(prompt)] or "__base__" for prompt in prompts]
        inputs = self._inputs(prompts)
        tokens = self._model.generate(
            **inputs, adapter_names=names, max_new_tokens=256, do_sample=False
        )
        new = tokens[:, inputs["input_ids"].shape[1] :]
        return [self._base.decode(row).strip() for row in new]

    def _original(self, prompt: Prompt) -> str:
        inputs = self._inputs([prompt])
        with self._model.disable_adapter():
            states = self._model(**inputs, output_hidden_states=True).hidden_states
        int(self._head(states[-1][:, -1]).argmax())
        return self._answer(prompt, inputs)

    def _answer(self, prompt: Prompt, inputs: dict[str, Any]) -> str:
        name = self._names[id(prompt)]
        options = {"max_new_tokens": 256, "do_sample": False}
        if name is None:
            with self._model.disable_adapter():
                tokens = self._model.generate(**inputs, **options)
        else:
            self._model.set_adapter(name, inference_mode=True)
            tokens = self._model.generate(**inputs, **options)
        return self._base.decode(tokens[0, inputs["input_ids"].shape[1] :]).strip()

    def _inputs(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        images: list[Image.Image] = [image for prompt in prompts for image in prompt.images]
        pixels = self._base.image_processor(images=images, return_tensors="pt")
        encoded: Any = self._base.encode(prompts, padding_side="left")
        texts = ("input_ids", "attention_mask", "mm_token_type_ids")
        return {name: encoded[name] for name in texts} | dict(pixels)


def agreement(engine: Engine, stock: Stock, prompts: Sequence[Prompt]) -> dict[str, float]:
    """Shares of answers that are the original's, to the letter."""
    stock.know(engine, prompts)
    expected = stock.original(prompts)
    found = {
        "engine": [answer.text for answer in engine.generate_batch(prompts)],
        "peft": stock.peft(prompts),
        "peft, mixed": stock.peft_mixed(prompts),
    }
    return {
        way: sum(map(str.__eq__, texts, expected)) / len(prompts) for way, texts in found.items()
    }


def against_the_others(
    engine: Engine,
    two_pass: Engine,
    stock: Stock,
    prompts: Sequence[Prompt],
    others: Sequence[Prompt],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Requests a second, on screens never seen, and other requests on the same screens."""
    number = arguments.requests
    stock.know(engine, prompts)
    sequential: dict[str, Way] = {
        "engine": lambda asked: [engine.generate_batch([prompt]) for prompt in asked],
        "engine, two-pass": lambda asked: [two_pass.generate_batch([p]) for p in asked],
        "original": stock.original,
        "peft": stock.peft,
    }
    together: dict[str, Way] = {
        "engine": engine.generate_batch,
        "engine, two-pass": two_pass.generate_batch,
        "original": stock.original,
        "peft, mixed": stock.peft_mixed,
    }
    result = {}
    for title, ways in (("one by one", sequential), ("8 together", together)):
        fresh: dict[str, list[float]] = {way: [] for way in ways}
        again: list[float] = []
        with progress(title) as shown:
            for turn in range(arguments.rounds + 1):
                asked = prompts[turn * number : (turn + 1) * number]
                engine.base.images.clear()
                two_pass.base.images.clear()
                for way, answer in ways.items():
                    fresh[way].append(seconds(answer, asked))
                more = others[turn * number : (turn + 1) * number]
                again.append(seconds(ways["engine"], more))
                shown(turn + 1, arguments.rounds + 1)
        result[title] = summary(fresh, number) | {
            "engine, another request on each screen": summary(
                {"engine": again, "original": fresh["original"]}, number
            )["engine"]
        }
    return result


def summary(times: dict[str, list[float]], requests: int) -> dict[str, Any]:
    """Medians without the first round, and ratios of the original's time, round by round."""
    return {
        way: {
            "requests per second": round(requests / median(measured[1:]), 3),
            "times as fast as the original": round(
                median(a / b for a, b in zip(times["original"][1:], measured[1:], strict=True)), 2
            ),
        }
        for way, measured in times.items()
    }


def parts(engine: Engine, prompts: Sequence[Prompt]) -> dict[str, float]:
    """Shares of the time of requests on new screens, one by one."""
    methods = {
        "tokens and patches": (Base, "prepare"),
        "vision tower": (Base, "_see"),
        "prefill, routed within": (Prefill, "_with_threads"),
        "steps": (Forward, "step"),
    }
    spent = dict.fromkeys(methods, 0.0)

    def timed(part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            result = method(*args, **kwargs)
            if inspect.isgenerator(result):  # one request has nothing to be interrupted for
                return parts_of(result)
            spent[part] += time.perf_counter() - started
            return result

        def parts_of(generator: Generator[None, None, Any]) -> Generator[None, None, Any]:
            started = time.perf_counter()
            result = yield from generator
            spent[part] += time.perf_counter() - started
            return result

        return run

    engine.base.images.clear()
    with ExitStack() as stack:
        for part, (owner, name) in methods.items():
            wrapped = timed(part, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, wrapped))
        total = seconds(lambda asked: [engine.generate_batch([p]) for p in asked], prompts)
    shares = {part: round(share / total, 3) for part, share in spent.items()}
    return {**shares, "milliseconds of a request": round(1000 * total / len(prompts), 1)}


def overhead(engine: Engine, prompts: Sequence[Prompt], rounds: int) -> dict[str, float]:
    """Times of a routed request over one whose adapter is named: medians of pairs."""
    fresh, seen = [], []
    asked = prompts[: BATCH * rounds]
    names = [decision.adapter for decision in engine.route_batch(asked)]
    for prompt, name in zip(asked, names, strict=True):
        for ratios, is_fresh in ((fresh, True), (seen, False)):
            times = {}
            ways: list[tuple[str, dict[str, Any]]] = [
                ("routed", {}),
                ("named", {"adapter": name or "base"}),
            ]
            random.Random(id(prompt)).shuffle(ways)
            for way, options in ways:
                if is_fresh:
                    engine.base.images.clear()
                times[way] = seconds(lambda p, o=options: engine.generate_batch(p, **o), [prompt])
            ratios.append(times["routed"] / times["named"])
    return {
        "routed over named": round(median(fresh), 4),
        "routed over named, on a screen seen before": round(median(seen), 4),
    }


def draw_latency(result: dict[str, Any]) -> None:
    """Time of a request by way, as a share of the original's."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    for axes, title in zip(figure.subplots(1, 2), ("one by one", "8 together"), strict=True):
        ways = result[title]
        names = sorted(ways, key=lambda way: ways[way]["times as fast as the original"])
        shares = [1 / ways[way]["times as fast as the original"] for way in names]
        bars = axes.barh(range(len(names)), shares)
        axes.bar_label(bars, [f" {share:.0%}" for share in shares], fontsize=8)
        axes.set_yticks(range(len(names)), [textwrap.fill(name, 18) for name in names], fontsize=8)
        axes.set_xlim(0, 1.2)
        axes.set_xticks([])
        axes.set_title(f"time of a request, {title}", fontsize=9)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.savefig(ROOT / "docs" / "latency.png", dpi=150)


def seconds(way: Way, prompts: Sequence[Prompt]) -> float:
    started = time.perf_counter()
    way(prompts)
    return time.perf_counter() - started


def with_activated(project: Project, folder: Path) -> Project:
    """The project with activated adapters of random weights, whose answers mean nothing."""
    paths = {}
    for seed, name in enumerate(NAMES):
        base = load_base(project.base)
        tokens = base.tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
        config = LoraConfig(
            r=16,
            target_modules=list(PROJECTIONS),
            task_type="CAUSAL_LM",
            alora_invocation_tokens=list(tokens),
            init_lora_weights=False,
        )
        torch.manual_seed(seed)
        get_peft_model(base.model, config).save_pretrained(str(folder / name))
        paths[name] = str(folder / name)
    # The pocket's router is sealed for other adapters.
    router = replace(Router.load(Path(str(project.router))), adapter_digests={})
    router.save(folder / "router")
    return replace(project, adapters=paths, router=str(folder / "router"))


def measured_peak(way: str) -> int:
    """Of a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--memory", way]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return int(json.loads(done.stdout.strip().splitlines()[-1]))


def peak_bytes(project: Project, way: str) -> int:
    """Largest resident size while 8 requests are answered."""
    prompts, _ = draw(BATCH)
    if way == "engine":
        with Engine.pocket() as engine:
            engine.generate_batch(prompts)
    else:
        router = Router.load(Path(str(project.router)))
        stock = Stock(project, router)
        for index, prompt in enumerate(prompts):
            stock.name(prompt, NAMES[index % 3])
        stock.peft_mixed(prompts)
    # Not getrusage: that of a process that was started by a larger one begins with the other's.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]


if __name__ == "__main__":
    main()
