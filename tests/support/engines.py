"""What the tests of the engine share: engines of chosen adapters, prompts, PEFT's own answers."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.variants import ALoraLinearVariant
from PIL import Image
from torch import Tensor

from pointsman.adapters.activated import invocation_tokens
from pointsman.adapters.layout import Key, key_of
from pointsman.adapters.weights import Lora, obstacle
from pointsman.conversation import Prompt, Turn, user_turn
from pointsman.engine.answer import Answer
from pointsman.engine.engine import Engine
from pointsman.engine.options import EngineOptions
from pointsman.engine.scheduler import Scheduler
from pointsman.models.base import Base, load_base
from pointsman.models.features import FeatureRecipe, extract, probe_features
from pointsman.routing.fit_scores import fit_scorer, rescaled
from pointsman.routing.head import build_router_head
from pointsman.routing.route import Route
from pointsman.routing.router import Probes, Router
from support.tiny import ADAPTERS, make_adapter

UPPER = [2, 3]
"""Layers that an adapter of plan in-pass may change: the router of these tests reads layer 2."""


def make_adapters(
    base: Path, folder: Path, *options: Mapping[str, Any], seed: int = 11
) -> dict[str, str]:
    """One adapter for every label, each with options of its own."""
    return {
        name: str(make_adapter(base, folder / name, number, **each))
        for number, (name, each) in enumerate(zip(ADAPTERS, options, strict=True), seed)
    }


def make_adapters_for(plan: str, base: Base, folder: Path, seed: int = 11) -> dict[str, str]:
    """Adapters for which an engine chooses this plan."""
    options: dict[str, Any] = {
        "in-pass": {"layers_to_transform": UPPER},
        "two-pass": {},
        "activated": {"alora_invocation_tokens": invocation_tokens(base)},
        "peft": {"use_dora": True},
    }[plan]
    return make_adapters(base.folder, folder, *[options] * len(ADAPTERS), seed=seed)


def make_engine(base: Path, adapters: Mapping[str, str], router: Path, **options: Any) -> Engine:
    """An engine; ``options`` are those of ``EngineOptions``, and ``encoder``."""
    encoder = options.pop("encoder", None)
    router_of = Router.load(router)
    return Engine(
        load_base(str(base)), router_of, adapters, encoder=encoder, options=EngineOptions(**options)
    )


def make_router(base: Base, like: Router, recipe: FeatureRecipe) -> Router:
    """A router of random weights that reads what ``recipe`` says, and never abstains."""
    torch.manual_seed(3)
    size = base.hidden_size * len(recipe.places)
    head = build_router_head(size, len(like.labels)).eval()
    x, labels = torch.randn(60, size), torch.arange(60) % len(like.labels)
    scorer = rescaled(fit_scorer(1.0, (x, labels)), head, (x, labels))
    probes = probe_features(base, recipe).flatten(1)
    with torch.inference_mode():
        seen = torch.cat([extract(base, base.encode([prompt]), recipe) for prompt in MIXED])
        head[0].bias -= head(seen.flatten(1)).median(0).values  # or one label would have them all
        expected = Probes(probes, *scorer(head, probes))
    calibration = replace(like.calibration, threshold=-1e9)
    return replace(
        like, head=head, scorer=scorer, recipe=recipe, probes=expected, calibration=calibration
    )


def lora_of(model: PeftModel, name: str) -> Lora | str:
    """An adapter's weights as PEFT has loaded them, or why they cannot be stacked."""
    config: Any = model.peft_config[name]
    if (reason := obstacle(config.to_dict())) is not None:
        return reason
    weights: dict[Key, tuple[Tensor, Tensor]] = {}
    for path, module in model.get_base_model().named_modules():
        if not isinstance(module, LoraLayer) or name not in (
            *module.lora_A,
            *module.lora_embedding_A,
        ):
            continue
        key = key_of(path)
        if key is None:
            return f"it changes {path}, which is no projection of the decoder"
        variant = module.lora_variant.get(name)
        if not isinstance(variant, ALoraLinearVariant | None):
            return f"it is of PEFT's variant {type(variant).__name__}"
        a, b = module.lora_A[name].weight, module.lora_B[name].weight
        weights[key] = (a.detach(), b.detach() * module.scaling[name])
    return Lora(name, weights, tuple(getattr(config, "alora_invocation_tokens", None) or ()))


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def ask(text: str, *seeds: int, size: tuple[int, int] = (64, 48)) -> Prompt:
    """A user's turn with pictures of these seeds."""
    images = tuple(picture(seed, size) for seed in seeds)
    return Prompt((user_turn(text, len(images)),), images)


def go_on(prompt: Prompt, said: str, text: str) -> Prompt:
    """The conversation's next turn, with no new image."""
    turns = (*prompt.turns, Turn("assistant", (said,)), user_turn(text, 0))
    return Prompt(turns, prompt.images)


MIXED = (
    ask("Pick day 3", 1),
    ask("Hello"),
    ask("Compare the first with the second, and say which is older", 2, 3),
    ask(
        "Fill in the field with a rather long text, so that lengths differ much", 4, size=(128, 96)
    ),
    ask("Book", 5, size=(32, 64)),
    ask("What is this? " * 8),
)
"""Prompts of different lengths: one image, two, none."""


def peft_text(base: Base, prompt: Prompt, adapter: str | None, new: int, **options: Any) -> str:
    """What PEFT and transformers alone say: ``set_adapter`` and ``generate``, one prompt."""
    encoded = base.encode([prompt])
    inputs = base.stock_inputs(encoded)
    del inputs["position_ids"]
    settings = {"max_new_tokens": new, "do_sample": False} | options
    with torch.inference_mode():
        if adapter is None:
            with base.model.disable_adapter():
                tokens = base.model.generate(**inputs, **settings)
        else:
            base.model.set_adapter(adapter, inference_mode=True)
            tokens = base.model.generate(**inputs, **settings)
    return base.decode(tokens[0, encoded["input_ids"].shape[1] :]).strip()


def same_route(mine: Route | None, theirs: Route | None) -> bool:
    """The same label, and probabilities to 1e-4."""
    if mine is None or theirs is None:
        return mine is theirs
    pairs = zip(mine.probabilities.items(), theirs.probabilities.items(), strict=True)
    return mine.label == theirs.label and all(
        name == other and abs(p - q) < 1e-4 for (name, p), (other, q) in pairs
    )


@contextmanager
def counted(engine: Engine) -> Iterator[tuple[list[tuple[int, int]], list[int]]]:
    """Runs of decoder layers as (layer, tokens), and of the vision tower, inside the block."""
    layers: list[tuple[int, int]] = []
    tower: list[int] = []
    hooks = [
        layer.register_forward_hook(
            lambda _, args, __, at=at: layers.append((at, args[0].shape[0] * args[0].shape[1]))
        )
        for at, layer in enumerate(engine.base.core.language_model.layers)
    ]
    hooks.append(engine.base.core.visual.register_forward_hook(lambda *_: tower.append(1)))
    try:
        yield layers, tower
    finally:
        for hook in hooks:
            hook.remove()


def batch_of(engine: Engine) -> Scheduler:
    """What answers an engine's requests, where it is not PEFT."""
    assert isinstance(engine._backend, Scheduler)
    return engine._backend


def admitted_together(engine: Engine, prompts: Sequence[Prompt], **options: Any) -> list[Answer]:
    """Answers prompts that the scheduler admits in one batch: all are ready when it may begin."""
    may_go = threading.Event()
    holder = threading.Thread(target=lambda: engine._worker.own(may_go.wait))
    holder.start()
    streams = [engine.submit(prompt, **options) for prompt in prompts]
    until = time.monotonic() + 20
    while not all(r.is_prepared for r in engine._worker.load[1]) and time.monotonic() < until:
        time.sleep(0.01)
    may_go.set()
    holder.join()
    return [stream.result(60) for stream in streams]
