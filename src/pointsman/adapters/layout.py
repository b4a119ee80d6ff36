"""Where LoRA matrices go: the modules of a base, and which of them a configuration names.

The rules are PEFT's own (``check_target_module_exists``, ``get_pattern_key``), applied to names and
shapes alone, so that neither PEFT nor a second model is needed. A test compares them with PEFT's.
"""

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn

GROUPS = (
    ("self_attn", ("q_proj", "k_proj", "v_proj")),
    ("self_attn", ("o_proj",)),
    ("mlp", ("gate_proj", "up_proj")),
    ("mlp", ("down_proj",)),
)
"""Projections of a decoder layer that read the same input, in the order of their calls."""
PROJECTIONS = tuple(name for _, names in GROUPS for name in names)
"""The modules that adapters train: LoraConfig has no default targets for Qwen3-VL, and "all-linear"
also hits the vision tower."""
Key = tuple[int, str]
"""Decoder layer and projection"""
_DECODER = re.compile(r"model\.language_model\.layers\.(\d+)\.(self_attn|mlp)\.(\w+)")
_WRAPPED = ("base_layer", "original_module", "token_adapter")
"""Names under which PEFT's wrappers keep the module that they wrap"""


@dataclass(frozen=True)
class Layout:
    """Names and shapes of a base's modules."""

    modules: tuple[str, ...]
    """Paths of all modules"""
    shapes: Mapping[str, tuple[int, int]]
    """Path of each linear module, mapped to (outputs, inputs)"""
    weights: Mapping[str, Tensor]
    """The base's own weights by path, except those of projections"""

    @classmethod
    def of(cls, model: Any) -> Self:
        """The layout of a Qwen3VLForConditionalGeneration, perhaps inside a PeftModel."""
        model = model.get_base_model() if hasattr(model, "get_base_model") else model
        named = list(model.named_modules(remove_duplicate=False))
        wrappers = {
            parent
            for parent, _, name in (path.rpartition(".") for path, _ in named)
            if name in _WRAPPED
        }
        modules = [(own, m) for path, m in named if (own := _own_path(path, wrappers)) is not None]
        weights = {
            own: tensor
            for path, tensor in model.state_dict().items()
            if (own := _own_path(path, wrappers)) is not None
        }
        return cls(
            modules=tuple(dict.fromkeys(path for path, _ in modules)),
            shapes={
                path: (module.out_features, module.in_features)
                for path, module in modules
                if isinstance(module, nn.Linear)
            },
            weights={p: t for p, t in weights.items() if key_of(p.rpartition(".")[0]) is None},
        )

    def targets(self, config: Mapping[str, Any]) -> list[str]:
        """Paths of the modules that a LoRA's configuration names, in the model's order.

        Raises:
            re.error: a pattern is not a valid regular expression.
        """
        targets = config.get("target_modules")
        if isinstance(targets, str) and targets.lower() == "all-linear":
            config = {**config, "target_modules": [p for p in self.shapes if p != "lm_head"]}
        return [path for path in self.modules if path and _is_target(config, path)]


def key_of(path: str) -> Key | None:
    """The decoder layer and projection of a module's path; None if it is not a projection."""
    match = _DECODER.fullmatch(path)
    if match is None or match[3] not in PROJECTIONS:
        return None
    return int(match[1]), match[3]


def _own_path(path: str, wrappers: Set[str]) -> str | None:
    """A path without PEFT's wrappers; None if PEFT added what it leads to."""
    kept: list[str] = []
    above = ""
    for part in path.split("."):
        if above not in wrappers:
            kept.append(part)
        elif part not in _WRAPPED:
            return None
        above = f"{above}.{part}" if above else part
    return ".".join(kept)


def pattern_value(patterns: Mapping[str, Any] | None, path: str, default: Any) -> Any:
    """The value that ``rank_pattern`` or ``alpha_pattern`` gives for a module."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", path):
            return value
    return default


def _is_target(config: Mapping[str, Any], path: str) -> bool:
    if _is_named(config.get("exclude_modules"), path):
        return False
    targets = config.get("target_modules")
    if isinstance(targets, str):
        return re.fullmatch(targets, path) is not None
    if path in (targets or ()):
        return True
    return _is_named(targets, path) and _is_in_layers(config, path)


def _is_named(names: str | Sequence[str] | None, path: str) -> bool:
    if isinstance(names, str):
        return bool(names) and re.fullmatch(names, path) is not None
    return any(path == name or path.endswith(f".{name}") for name in names or ())


def _is_in_layers(config: Mapping[str, Any], path: str) -> bool:
    """Whether a module is in one of ``layers_to_transform``."""
    layers = config.get("layers_to_transform")
    if layers is None or layers == []:
        return True
    patterns = config.get("layers_pattern") or [r"[^.]*"]
    patterns = [patterns] if isinstance(patterns, str) else patterns
    for pattern in patterns:
        if match := re.match(rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\.", path):
            index = int(match["idx"])
            return index == layers if isinstance(layers, int) else index in layers
    return False
