"""An adapter's files on disk, and the layouts that its keys may have.

The decoder of a Qwen3-VL checkpoint is ``model.language_model`` today. Earlier transformers, text
models, servers and trainers that save a wrapped model have other names for the same modules.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from pointsman.errors import ArtefactError
from pointsman.files import refuse_other, write_bytes, write_json, write_tensors
from pointsman.models.checkpoint import download

CONFIG, WEIGHTS, NOTE = "adapter_config.json", "adapter_model.safetensors", "pointsman.json"
SHARDS = "adapter_model-*.safetensors"
"""Weights in several files, which no loader of adapters reads"""


def fetch_adapter(path: str | Path) -> Path:
    """The folder of an adapter, from the Hub if it is not here. Raises ``ArtefactError``."""
    folder = Path(path).expanduser()
    return folder if folder.is_dir() else download(str(path), (CONFIG, WEIGHTS, SHARDS, NOTE))


PREFIX = "base_model.model."
"""What PEFT puts before the path of a module"""
DECODER = "model.language_model."
# Wrappers of training frameworks, which remain in the keys of a state dict saved whole.
_WRAPPERS = re.compile(r"(^module|\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module))\.")
# PEFT leaves the adapter's name out of its files; a state dict saved whole has it.
_ADAPTER_NAME = re.compile(
    r"(\.lora_(?:embedding_)?[AB])\.(?!(?:weight|bias)$)[^.]+((?:\.(?:weight|bias))?)$"
)
# A model that was wrapped or saved more than once has its prefixes more than once.
_PREFIXES = re.compile(r"^(?:base_model\.(?:model\.)?)+")
_DECODER = re.compile(r"^(?:(?:model|language_model)\.)*(?=(layers|embed_tokens|norm)\b)")
_TOWER = re.compile(r"^(?:model\.)*(?=visual\.)")
_HEAD = re.compile(r"^(?:(?:model|language_model)\.)*(?=lm_head\b)")


@dataclass(frozen=True)
class AdapterFile:
    """The content of an adapter's two files."""

    folder: Path
    config: dict[str, Any]
    tensors: Mapping[str, Tensor]
    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by file name, of exactly the bytes that were read"""

    @property
    def modules(self) -> set[str]:
        """Paths of the modules that its LoRA matrices belong to."""
        return {module_of(key) for key in self.tensors if ".lora_" in key}


def module_of(key: str) -> str:
    """The path of the module that a key belongs to, such as ``model.visual.merger.linear_fc1``."""
    return key.removeprefix(PREFIX).partition(".lora_")[0]


def remapped(adapter: AdapterFile) -> AdapterFile | None:
    """The adapter with current keys and a matching configuration; None if it has them already.

    Raises:
        ArtefactError: two keys would get the same name.
    """
    names = {key: _today(key) for key in adapter.tensors}
    if all(old == new for old, new in names.items()):
        return None
    if len(set(names.values())) < len(names):
        raise ArtefactError(
            f"{adapter.folder / WEIGHTS}: holds the same module under two layouts of keys; "
            "save the adapter again"
        )
    tensors = {names[key]: tensor for key, tensor in adapter.tensors.items()}
    renamed = AdapterFile(adapter.folder, dict(adapter.config), tensors)
    config = renamed.config
    targets = config.get("target_modules")
    if not isinstance(targets, list) or any("." in target for target in targets):
        # A regular expression or full paths of the old layout: the modules are in the keys.
        config["target_modules"] = list(dict.fromkeys(map(module_of, _lora_keys(tensors))))
        config["exclude_modules"] = config["layers_to_transform"] = config["layers_pattern"] = None
    for pattern in ("rank_pattern", "alpha_pattern"):
        if isinstance(config.get(pattern), dict):
            config[pattern] = {_path_today(path): v for path, v in config[pattern].items()}
    return renamed


def renaming(adapter: AdapterFile) -> str:
    """The change of layout in one line: ``model.layers. -> model.language_model.layers.``"""
    changes: dict[str, None] = {}
    for key in adapter.tensors:
        nameless = _ADAPTER_NAME.sub(r"\1\2", key)
        if nameless != key:
            changes["lora_A.NAME.weight -> lora_A.weight"] = None
        if (new := _today(key)) != nameless:
            changes[_change(nameless, new)] = None
    return ", ".join(changes)


def write(adapter: AdapterFile, out: Path) -> None:
    """Writes an adapter's folder, with its training note if it has one.

    Raises:
        ArtefactError: ``out`` holds something already, or cannot be written.
    """
    if (out / CONFIG).exists():
        raise ArtefactError(f"{out}: holds an adapter already; choose another folder or delete it")
    refuse_other(out, "an adapter")
    write_tensors(out / WEIGHTS, adapter.tensors, {"format": "pt"})
    if (note := adapter.folder / NOTE).is_file():
        write_bytes(out / NOTE, note.read_bytes())
    write_json(out / CONFIG, adapter.config)  # the last: it makes the folder an adapter


def _lora_keys(keys: Iterable[str]) -> list[str]:
    return [key for key in keys if ".lora_" in key]


def _today(key: str) -> str:
    key = _ADAPTER_NAME.sub(r"\1\2", _WRAPPERS.sub("", key))
    return PREFIX + _path_today(key)


def _path_today(path: str) -> str:
    path = _PREFIXES.sub("", path)
    for pattern, prefix in ((_DECODER, DECODER), (_TOWER, "model."), (_HEAD, "")):
        if pattern.match(path):
            return pattern.sub(prefix, path, count=1)
    return path


def _change(old: str, new: str) -> str:
    """What differs between two keys, without their common end."""
    parts, others = old.split("."), new.split(".")
    while len(parts) > 1 and len(others) > 1 and parts[-2:] == others[-2:]:
        parts.pop()
        others.pop()
    if parts[:2] == others[:2]:
        parts, others = parts[2:], others[2:]
    return f"{'.'.join(parts)}. -> {'.'.join(others)}."
