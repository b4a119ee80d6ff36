"""A LoRA as two matrices for each projection of the decoder, or why it is more than that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.variants import ALoraLinearVariant
from torch import Tensor

GROUPS = (
    ("self_attn", ("q_proj", "k_proj", "v_proj")),
    ("self_attn", ("o_proj",)),
    ("mlp", ("gate_proj", "up_proj")),
    ("mlp", ("down_proj",)),
)
"""Projections of a decoder layer that read the same input, in the order of their calls."""
Key = tuple[int, str]
"""Decoder layer and projection"""


@dataclass(frozen=True)
class Lora:
    """One adapter's weights: for each projection A (rank, d_in), and B (d_out, rank) scaled."""

    name: str
    weights: dict[Key, tuple[Tensor, Tensor]]
    invocation: tuple[int, ...] = ()
    """Tokens from which on an activated LoRA acts; empty: it acts on all"""

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


def lora_of(model: PeftModel, name: str) -> Lora | str:
    """An adapter's weights as PEFT has loaded them, or why they cannot be stacked."""
    config: Any = model.peft_config[name]
    if (reason := _obstacle(config)) is not None:
        return reason
    places = projections_of(model.get_base_model())
    weights: dict[Key, tuple[Tensor, Tensor]] = {}
    for path, module in model.get_base_model().named_modules():
        if not isinstance(module, LoraLayer) or name not in (
            *module.lora_A,
            *module.lora_embedding_A,
        ):
            continue
        if path not in places:
            return f"it changes {path}, which is no projection of the decoder"
        variant = module.lora_variant.get(name)
        if not isinstance(variant, ALoraLinearVariant | None):
            return f"it is of PEFT's variant {type(variant).__name__}"
        a, b = module.lora_A[name].weight, module.lora_B[name].weight
        weights[places[path]] = (a.detach(), b.detach() * module.scaling[name])
    return Lora(name, weights, tuple(getattr(config, "alora_invocation_tokens", None) or ()))


def _obstacle(config: Any) -> str | None:
    kind = getattr(config.peft_type, "value", str(config.peft_type))
    if kind != "LORA":
        return f"it is of PEFT's kind {kind}"
    plain = {
        "use_dora": "DoRA",
        "use_qalora": "QALoRA",
        "use_bdlora": "BD-LoRA",
        "arrow_config": "Arrow",
        "lora_bias": "a bias of its own",
        "modules_to_save": "whole modules beside its matrices",
        "trainable_token_indices": "new embeddings of tokens",
        "target_parameters": "parameters outside linear layers",
        "layer_replication": "repeated layers",
    }
    for option, meaning in plain.items():
        if getattr(config, option, None):
            return f"it has {meaning} ({option})"
    if config.bias != "none":
        return f"it changes biases (bias={config.bias!r})"
    return None


def projections_of(model: Any) -> dict[str, Key]:
    """Path of every projection that can be stacked, to its layer and name."""
    names = {module: path for path, module in model.named_modules()}
    return {
        names[getattr(getattr(layer, part), projection)]: (index, projection)
        for index, layer in enumerate(model.model.language_model.layers)
        for part, projections in GROUPS
        for projection in projections
    }
