"""Adapters for vLLM: sound ones, those with one fault, and those that real trainers write."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pointsman.adapters.files import CONFIG
from pointsman.adapters.layout import PROJECTIONS
from support.adapter_faults import (
    HEAD,
    OLD,
    add,
    configure,
    filled,
    flat,
    halved,
    narrowed,
    rename,
    rewrite,
    without,
)
from support.tiny import REPOSITORY, write_adapter

COMPUTES, REFUSES, DEVIATES = "computes", "refuses", "deviates"
"""Verdicts on an adapter: its answers are PEFT's, it is not loaded, its answers are not PEFT's"""
REAL: dict[str, Any] = json.loads((REPOSITORY / "tests/vllm/real_adapters.json").read_text())
"""Configurations that trainers wrote, and the keys of their weights' first layers"""
ALL = [*PROJECTIONS, "qkv", "attn.proj", "linear_fc1", "linear_fc2"]
_UP = "model.language_model.layers.1.mlp.up_proj"
_BOTH = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 2, "v_proj": 40}}
_UNSCALED = {"r": 4, "lora_alpha": 4}


def _set(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: configure(folder, **changes)


def _renamed(*pairs: tuple[str, str]) -> Callable[[Path], object]:
    return lambda folder: rename(folder, *pairs)


def _without(part: str) -> Callable[[Path], object]:
    return lambda folder: without(folder, part)


def _resized(part: str, resize: Callable[[Any], Any]) -> Callable[[Path], object]:
    return lambda folder: rewrite(
        folder,
        lambda tensors: {k: resize(t).contiguous() if part in k else t for k, t in tensors.items()},
    )


def _ninth_layer(folder: Path) -> None:
    for side, shape in (("A", (4, 256)), ("B", (640, 4))):
        add(folder, f"{HEAD}layers.9.mlp.up_proj.lora_{side}.weight", torch.ones(shape))


def _without_targets(folder: Path) -> None:
    path = folder / CONFIG
    config = json.loads(path.read_text())
    del config["target_modules"]
    path.write_text(json.dumps(config))


def _nothing(folder: Path) -> None:
    pass


FIXTURES: dict[str, tuple[str, dict[str, Any], Callable[[Path], object]]] = {
    # name: verdict of a vLLM without options, configuration, what is done to the folder
    "plain": (COMPUTES, {}, _nothing),
    "rank 12": (COMPUTES, {"r": 12}, _nothing),
    "rank 16": (COMPUTES, {"r": 16}, _nothing),
    "rank 17": (REFUSES, {"r": 17}, _nothing),
    "rank 32": (REFUSES, {"r": 32}, _nothing),
    "rank 64": (REFUSES, {"r": 64}, _nothing),
    "rank 32 in a pattern": (REFUSES, {"rank_pattern": {"q_proj": 32}}, _nothing),
    "ranks of its own": (COMPUTES, {"rank_pattern": {"q_proj": 2}}, _nothing),
    "alphas of its own": (COMPUTES, {"alpha_pattern": {"q_proj": 2}}, _nothing),
    "both of its own": (COMPUTES, _BOTH, _nothing),
    "both by full path": (
        COMPUTES,
        {"rank_pattern": {_UP: 2}, "alpha_pattern": {_UP: 3}},
        _nothing,
    ),
    "ranks by regular expression": (COMPUTES, {"rank_pattern": {f"^{_UP}": 2}}, _nothing),
    "rank-stabilised": (COMPUTES, {"use_rslora": True}, _nothing),
    "rank-stabilised, both of its own": (COMPUTES, {"use_rslora": True} | _BOTH, _nothing),
    "one projection of three": (COMPUTES, {"target_modules": ["k_proj", "up_proj"]}, _nothing),
    "one layer": (COMPUTES, {"layers_to_transform": [1]}, _nothing),
    "a fractional alpha": (COMPUTES, {}, _set(lora_alpha=8.5)),
    "no effect": (COMPUTES, {}, lambda folder: filled(folder, "lora_B", 0)),
    "half precision": (COMPUTES, {}, _resized("lora_", lambda t: t.half())),
    "another initialisation": (COMPUTES, {"init_lora_weights": "gaussian"}, _nothing),
    "embeddings": (COMPUTES, {"target_modules": ["q_proj", "embed_tokens"]}, _nothing),
    "head": (COMPUTES, {"target_modules": ["q_proj", "lm_head"]}, _nothing),
    "embeddings and head": (COMPUTES, {"target_modules": ["embed_tokens", "lm_head"]}, _nothing),
    "no targets": (COMPUTES, {}, _set(target_modules=None)),
    "whole modules that are no part of it": (COMPUTES, {}, _set(modules_to_save=["score"])),
    # Options
    "DoRA": (REFUSES, {"use_dora": True}, _nothing),
    "biases of a LoRA": (REFUSES, {"lora_bias": True}, _nothing),
    "all biases": (REFUSES, {"bias": "all"}, _nothing),
    "biases of its modules": (REFUSES, {"bias": "lora_only"}, _nothing),
    "bias is null": (REFUSES, {}, _set(bias=None)),
    "whole modules": (REFUSES, {"modules_to_save": ["norm"]}, _nothing),
    "a whole head": (REFUSES, {"modules_to_save": ["lm_head"]}, _nothing),
    "activated": (REFUSES, {"alora_invocation_tokens": [1, 342]}, _nothing),
    "repeated layers": (REFUSES, {}, _set(layer_replication=[[0, 4], [2, 6]])),
    "BD-LoRA": (REFUSES, {}, _set(use_bdlora={"nblocks": 2})),
    "QALoRA": (REFUSES, {}, _set(use_qalora=True)),
    "PiSSA": (REFUSES, {"init_lora_weights": "pissa"}, _nothing),
    "OLoRA": (REFUSES, {}, _set(init_lora_weights="olora")),
    "LoftQ": (REFUSES, {}, _set(init_lora_weights="loftq")),
    "embeddings of tokens": (REFUSES, {"trainable_token_indices": [5, 6]}, _nothing),
    "KaSA": (DEVIATES, {}, _set(kasa_config={"beta": 1e-4, "gamma": 1e-3})),
    # Kinds
    "LoHa": (REFUSES, {"peft_type": "LOHA", "r": 4, "target_modules": ["q_proj"]}, _nothing),
    "AdaLoRA": (
        REFUSES,
        {"peft_type": "ADALORA", "init_r": 4, "total_step": 10, "target_modules": ["q_proj"]},
        _nothing,
    ),
    # Values
    "rank 0": (REFUSES, {}, _set(r=0)),
    "rank is a text": (REFUSES, {}, _set(r="4")),
    "alpha is null": (REFUSES, {}, _set(lora_alpha=None)),
    "target_modules is missing": (REFUSES, {}, _without_targets),
    "a rank of a pattern is a text": (REFUSES, {}, _set(rank_pattern={"q_proj": "2"})),
    "an alpha of a pattern is a text": (REFUSES, {}, _set(alpha_pattern={"q_proj": "2"})),
    "a pattern that is none": (REFUSES, {}, _set(rank_pattern={"(": 2})),
    # The vision tower
    "tower": (DEVIATES, {"target_modules": ["q_proj", "qkv"]}, _nothing),
    "tower only": (DEVIATES, {"target_modules": ["qkv", "attn.proj"]}, _nothing),
    "tower's networks and mergers": (
        DEVIATES,
        {"target_modules": ["linear_fc1", "linear_fc2"]},
        _nothing,
    ),
    "tower's patches": (DEVIATES, {"target_modules": ["q_proj", "patch_embed.proj"]}, _nothing),
    "tower's positions": (REFUSES, {"target_modules": ["q_proj", "pos_embed"]}, _nothing),
    "all linear modules": (DEVIATES, {"target_modules": ALL}, _nothing),
    # Names
    "earlier transformers": (DEVIATES, {}, _renamed(OLD)),
    "decoder inside": (COMPUTES, {}, _renamed(("model.language_model.", "language_model.model."))),
    "without the head": (DEVIATES, {}, _renamed(("base_model.model.model.", "base_model.model."))),
    "no prefix": (COMPUTES, {}, _renamed(("base_model.model.", ""))),
    "the adapter's name": (REFUSES, {}, _renamed((".weight", ".default.weight"))),
    "wrapped": (DEVIATES, {}, _renamed(("base_model.", "module.base_model."))),
    "compiled": (DEVIATES, {}, _renamed(("base_model.model.", "base_model.model._orig_mod."))),
    "a layer that is not there": (DEVIATES, {}, _ninth_layer),
    "a module that is not there": (
        REFUSES,
        {},
        lambda f: add(f, f"{HEAD}layers.0.mlp.c_attn.lora_A.weight", torch.ones(4, 256)),
    ),
    "the base's own weights": (
        REFUSES,
        {},
        lambda f: add(f, f"{HEAD}norm.weight", torch.ones(256)),
    ),
    "layers without weights": (COMPUTES, {}, _without(".layers.3.")),
    # Halves
    "A without B": (REFUSES, {}, _without("layers.2.mlp.up_proj.lora_B")),
    "B without A": (REFUSES, {}, _without("layers.2.mlp.down_proj.lora_A")),
    "A without B, unscaled": (DEVIATES, _UNSCALED, _without("layers.2.self_attn.q_proj.lora_B")),
    "A without B, unscaled and alone": (REFUSES, _UNSCALED, _without("2.mlp.down_proj.lora_B")),
    "B without A, unscaled": (DEVIATES, _UNSCALED, _without("layers.2.mlp.up_proj.lora_A")),
    # Shapes
    "another rank than it says": (DEVIATES, {}, _set(r=8)),
    "weights of half the rank": (DEVIATES, {}, halved),
    "weights of a high rank": (REFUSES, {"r": 64}, _set(r=4)),
    "a narrower base": (DEVIATES, {}, narrowed),
    "a wider base": (REFUSES, {}, _resized("lora_A", lambda t: torch.cat([t, t], 1))),
    "one process's share": (REFUSES, {}, flat),
    "a smaller vocabulary": (
        REFUSES,
        {"target_modules": ["q_proj", "embed_tokens"]},
        _resized("lora_embedding_A", lambda t: t[:, :-8]),
    ),
    "a head of a smaller vocabulary": (
        DEVIATES,
        {"target_modules": ["q_proj", "lm_head"]},
        _resized("lm_head.lora_B", lambda t: t[:-8]),
    ),
}
WITH_OPTIONS = {
    "plain": COMPUTES,
    "rank 32": COMPUTES,
    "rank 64": REFUSES,
    "rank 32 in a pattern": COMPUTES,
    "embeddings": COMPUTES,
    "head": COMPUTES,
    "embeddings and head": COMPUTES,
    "tower": COMPUTES,
    "tower only": COMPUTES,
    "tower's networks and mergers": COMPUTES,
    "tower's patches": DEVIATES,
    "tower's positions": REFUSES,
    "all linear modules": COMPUTES,
}
"""Verdicts of a vLLM with LoRAs in the tower and --max-lora-rank 32"""


def make_fixture(name: str, model: Any, folder: Path) -> Path:
    """Writes one of ``FIXTURES``; ``model`` is modified."""
    _, options, change = FIXTURES[name]
    plain = {"r": 4, "lora_alpha": 16, "target_modules": list(PROJECTIONS)}
    config = options if "peft_type" in options else plain | options
    write_adapter(model, folder, 1, config)
    change(folder)
    return folder


def make_real(name: str, model: Any, folder: Path) -> Path:
    """Writes one of ``REAL`` with random weights of the model's shapes; ``model`` is modified."""
    config, keys = REAL[name]["config"], REAL[name]["keys"]
    write_adapter(model, folder, 1, config)
    (folder / CONFIG).write_text(json.dumps(config))
    if config.get("auto_mapping"):  # the trainer gave PEFT the model inside
        rename(folder, ("base_model.model.model.", "base_model.model."))
    written: set[str] = set()
    rewrite(folder, lambda tensors: (written.update(tensors), tensors)[1])
    assert set(keys) <= written, set(keys) - written
    return folder
