"""A LoRA as two matrices per projection of the decoder, or the reason why it is more than that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

from torch import Size, Tensor

from pointsman.adapters.files import PREFIX, AdapterFile
from pointsman.adapters.layout import Key, Layout, key_of, pattern_value

_MORE = {
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "use_bdlora": "BD-LoRA",
    "arrow_config": "Arrow",
    "velora_config": "VeLoRA",
    "monteclora_config": "MonteCLoRA",
    "kasa_config": "KaSA",
    "lora_bias": "a bias of its own",
    "modules_to_save": "whole modules beside its matrices",
    "trainable_token_indices": "new embeddings of tokens",
    "target_parameters": "parameters outside linear layers",
    "layer_replication": "repeated layers",
}
"""Options that make a LoRA more than two matrices per module"""


@dataclass(frozen=True)
class Lora:
    """One adapter's weights: for each projection A (rank, d_in) and the scaled B (d_out, rank)."""

    name: str
    weights: dict[Key, tuple[Tensor, Tensor]]
    invocation: tuple[int, ...] = ()
    """Invocation tokens, from which an activated LoRA acts; empty: it acts on all tokens"""

    @property
    def rank(self) -> int:
        return max((a.shape[0] for a, _ in self.weights.values()), default=1)

    @property
    def lowest_layer(self) -> int:
        """The first decoder layer that it changes."""
        return min((layer for layer, _ in self.weights), default=0)

    def on_host(self) -> Lora:
        weights = {key: (a.cpu(), b.cpu()) for key, (a, b) in self.weights.items()}
        return replace(self, weights=weights)


@dataclass(frozen=True)
class PlainLora:
    """What a plain LoRA's configuration requires on a base: modules, ranks and scales."""

    ranks: Mapping[str, int]
    """By the module's path"""
    scales: Mapping[str, float]
    shapes: Mapping[str, tuple[int, int]]
    """(outputs, inputs) of each module"""

    @property
    def expected(self) -> dict[str, Size]:
        """The keys that the file must hold, and their shapes."""
        expected = {}
        for path, rank in self.ranks.items():
            outputs, inputs = self.shapes[path]
            expected[f"{PREFIX}{path}.lora_A.weight"] = Size((rank, inputs))
            expected[f"{PREFIX}{path}.lora_B.weight"] = Size((outputs, rank))
        return expected

    def lora(self, name: str, file: AdapterFile) -> Lora:
        """The matrices of a file with the expected content, as PEFT would compute with them."""
        weights: dict[Key, tuple[Tensor, Tensor]] = {}
        for path, scale in self.scales.items():
            # PEFT computes with float32 matrices, regardless of the precision they were saved in.
            a = file.tensors[f"{PREFIX}{path}.lora_A.weight"].float()
            b = file.tensors[f"{PREFIX}{path}.lora_B.weight"].float() * scale
            key = key_of(path)
            assert key is not None
            weights[key] = (a, b)
        return Lora(name, weights, tuple(file.config.get("alora_invocation_tokens") or ()))


def plain_lora(config: Mapping[str, Any], layout: Layout) -> PlainLora | str:
    """What a configuration requires, or why its adapter cannot be stacked with others.

    Raises:
        re.error: a pattern is not a valid regular expression.
        ValueError: no module of the base is a target.
    """
    if (reason := obstacle(config)) is not None:
        return reason
    if isinstance(config.get("target_modules"), str) and (
        config.get("layers_to_transform") or config.get("layers_pattern")
    ):
        raise ValueError("target_modules is a regular expression and layers are given beside it")
    targets = layout.targets(config)
    if not targets:
        raise ValueError(f"target_modules {config.get('target_modules')!r} match no module")
    if outside := [path for path in targets if key_of(path) is None]:
        return f"it changes {outside[0]}, which is no projection of the decoder"
    ranks = {p: pattern_value(config.get("rank_pattern"), p, config["r"]) for p in targets}
    alpha = config.get("lora_alpha", 8)
    alphas = {p: pattern_value(config.get("alpha_pattern"), p, alpha) for p in targets}
    root = bool(config.get("use_rslora"))
    scales = {p: alphas[p] / (sqrt(ranks[p]) if root else ranks[p]) for p in targets}
    return PlainLora(ranks, scales, {p: layout.shapes[p] for p in targets})


def obstacle(config: Mapping[str, Any]) -> str | None:
    """Why an adapter with this configuration is more than matrices of linear layers."""
    if config.get("peft_type") != "LORA":
        return f"its PEFT type is {config.get('peft_type')}"
    for option, meaning in _MORE.items():
        if config.get(option):
            return f"it has {meaning} ({option})"
    if config.get("bias", "none") != "none":
        return f"it changes biases (bias={config['bias']!r})"
    return None
