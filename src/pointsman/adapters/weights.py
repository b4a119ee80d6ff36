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
_KNOWN = frozenset(
    {
        "alora_invocation_tokens",
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_alpha",
        "lora_dropout",
        "lora_ga_config",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
        "use_rslora",
    }
)
"""Options that are read here, or that affect only training or other kinds of layers"""


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
        ValueError: no module of the base is a target, or PEFT would refuse an option.
    """
    if (reason := obstacle(config)) is not None:
        return reason
    _check_layers(config)
    targets = layout.targets(config)
    if not targets:
        raise ValueError(f"target_modules {config.get('target_modules')!r} match no module")
    if outside := [path for path in targets if key_of(path) is None]:
        return f"it changes {outside[0]}, which is no projection of the decoder"
    ranks = {path: _rank(config, path) for path in targets}
    scales = {path: _scale(config, path, rank) for path, rank in ranks.items()}
    return PlainLora(ranks, scales, {p: layout.shapes[p] for p in targets})


def _check_layers(config: Mapping[str, Any]) -> None:
    """Raises ``ValueError`` where PEFT would refuse how layers are chosen."""
    layers, pattern = config.get("layers_to_transform"), config.get("layers_pattern")
    is_expression = isinstance(config.get("target_modules"), str)
    if is_expression and (layers is not None or pattern is not None):
        raise ValueError("target_modules is a regular expression and layers are given beside it")
    if pattern and layers is None:
        raise ValueError("layers_pattern is given without layers_to_transform")


def _rank(config: Mapping[str, Any], path: str) -> int:
    rank = config.get("r")  # a wrong one is reported elsewhere, and the keys are the same with any
    rank = pattern_value(config.get("rank_pattern"), path, rank if _is_rank(rank) else 1)
    if not _is_rank(rank):
        raise ValueError(f"rank_pattern gives {path} the rank {rank!r}, not a whole number above 0")
    return int(rank)


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


def _scale(config: Mapping[str, Any], path: str, rank: int) -> float:
    alpha = config.get("lora_alpha")  # as of the rank
    alpha = pattern_value(config.get("alpha_pattern"), path, alpha if _is_number(alpha) else 1)
    if not _is_number(alpha):
        raise ValueError(f"alpha_pattern gives {path} the alpha {alpha!r}, not a number")
    return float(alpha / (sqrt(rank) if config.get("use_rslora") else rank))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def obstacle(config: Mapping[str, Any]) -> str | None:
    """Why an adapter with this configuration is more than matrices of linear layers."""
    if config.get("peft_type") != "LORA":
        return f"its PEFT type is {config.get('peft_type')}"
    for option, meaning in _MORE.items():
        if config.get(option):
            return f"it has {meaning} ({option})"
    if config.get("bias", "none") != "none":
        return f"it changes biases (bias={config['bias']!r})"
    unknown = next((name for name, value in config.items() if value and name not in _KNOWN), None)
    return None if unknown is None else f"only PEFT may know its option {unknown}"
