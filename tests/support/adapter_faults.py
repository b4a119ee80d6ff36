"""Adapters in the layouts that trainers write, and the faults that are planted in them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from pointsman.adapters.files import CONFIG, WEIGHTS
from pointsman.adapters.layout import PROJECTIONS
from support.tiny import make_adapter

LAYERS = 4
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FULL_PATHS = [
    f"model.language_model.layers.{layer}.{'mlp' if name not in ATTENTION else 'self_attn'}.{name}"
    for layer in range(LAYERS)
    for name in PROJECTIONS
]
# Each names a part of the model, then a kind of layer, then a projection.
BOTH_PARTS = (
    r".*?(?:vision|visual|language|text).*?(?:self_attn|attn|mlp).*?"
    r"(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj|qkv|proj|linear_fc1|linear_fc2)"
)
UNDER_LLM = rf"^(model\.language_model(?=\.).*\.({'|'.join(PROJECTIONS)}))$"

LAYOUTS: dict[str, dict[str, Any]] = {
    "pointsman": {},
    "llama-factory": {"target_modules": FULL_PATHS, "r": 8, "lora_alpha": 16},
    "ms-swift": {"target_modules": UNDER_LLM, "r": 8, "lora_alpha": 32, "lora_dropout": 0.05},
    "unsloth": {"target_modules": BOTH_PARTS, "r": 16, "lora_alpha": 16},
    "qwen-finetune": {"target_modules": list(ATTENTION), "r": 16, "lora_alpha": 32},
    "outside": {"target_modules": list(PROJECTIONS), "r": 8, "lora_alpha": 16},
}
"""What each trainer gives PEFT; ``finish`` adds what it writes around it."""


def make_layout(base: Path, folder: Path, trainer: str) -> Path:
    """Writes an adapter as a trainer leaves it."""
    make_adapter(base, folder, 1, **LAYOUTS[trainer])
    if trainer == "llama-factory":  # earlier versions of PEFT did not shorten the list
        configure(folder, target_modules=FULL_PATHS)
    if trainer == "ms-swift":
        (folder / "additional_config.json").write_text(
            '{"lora_dtype": null, "lorap_lr_ratio": null}'
        )
    if trainer == "outside":
        torch.save({}, folder / "non_lora_state_dict.bin")
    return folder


def configure(folder: Path, **changes: Any) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    path = folder / WEIGHTS
    save_file(change(load_file(path)), path)


def rename(folder: Path, *pairs: tuple[str, str]) -> None:
    def renamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        for old, new in pairs:
            tensors = {key.replace(old, new): tensor for key, tensor in tensors.items()}
        return tensors

    rewrite(folder, renamed)


def without(folder: Path, part: str) -> None:
    rewrite(folder, lambda tensors: {k: t for k, t in tensors.items() if part not in k})


def filled(folder: Path, part: str, value: float) -> None:
    rewrite(
        folder,
        lambda tensors: {k: t.fill_(value) if part in k else t for k, t in tensors.items()},
    )


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()


def truncated(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def outside(folder: Path) -> None:
    weights = {"base_model.model.model.visual.merger.linear_fc1.weight": torch.ones(8, 8)}
    torch.save(weights, folder / "non_lora_state_dict.bin")


def add(folder: Path, key: str, tensor: torch.Tensor) -> None:
    rewrite(folder, lambda tensors: tensors | {key: tensor})


def halved(folder: Path) -> None:
    rewrite(
        folder,
        lambda tensors: {
            k: t[: len(t) // 2] if "lora_A" in k else t[:, : t.shape[1] // 2].contiguous()
            for k, t in tensors.items()
        },
    )


def flat(folder: Path) -> None:
    rewrite(
        folder,
        lambda tensors: {k: t.flatten()[:0] if "lora_B" in k else t for k, t in tensors.items()},
    )


def narrowed(folder: Path) -> None:
    rewrite(
        folder,
        lambda tensors: {
            k: t[:, :-4].contiguous() if "lora_A" in k else t for k, t in tensors.items()
        },
    )


def sharded(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    keys = list(tensors)
    for number, part in enumerate((keys[:20], keys[20:]), 1):
        shard = {key: tensors[key] for key in part}
        save_file(shard, folder / f"adapter_model-0000{number}-of-00002.safetensors")
    (folder / WEIGHTS).unlink()


def pointer(folder: Path, name: str) -> None:
    """What a clone without Git LFS has in place of a file."""
    size = (folder / name).stat().st_size
    lines = ("version https://git-lfs.github.com/spec/v1", f"oid sha256:{'0' * 64}", f"size {size}")
    (folder / name).write_text("\n".join(lines) + "\n")


def quantised(folder: Path, dtype: torch.dtype) -> None:
    rewrite(folder, lambda tensors: {k: (t * 9).to(dtype) for k, t in tensors.items()})


def nested(folder: Path) -> None:
    """An output folder with checkpoints, given in place of one of them."""
    for step in (500, 1000, 1500):
        shutil.copytree(
            folder, folder / f"checkpoint-{step}", ignore=shutil.ignore_patterns("checkpoint-*")
        )
    (folder / CONFIG).unlink()


OLD = ("model.language_model.layers", "model.layers")
HEAD = "base_model.model.model.language_model."

HANGS = "an expression that never ends"
"""PEFT itself would never return from loading it"""

FAULTS: dict[str, tuple[str, dict[str, Any], Callable[[Path], object]]] = {
    # name: code, options of the LoRA, what is done to its folder
    "no config": ("config", {}, lambda f: (f / CONFIG).unlink()),
    "config is not JSON": ("config", {}, lambda f: (f / CONFIG).write_text("{r: 4")),
    "config is a list": ("config", {}, lambda f: (f / CONFIG).write_text("[]")),
    "config without a kind": ("config", {}, lambda f: (f / CONFIG).write_text('{"r": 4}')),
    "no weights": ("weights", {}, lambda f: (f / WEIGHTS).unlink()),
    "an empty file of weights": ("weights", {}, lambda f: (f / WEIGHTS).write_bytes(b"")),
    "a file without tensors": ("weights", {}, lambda f: rewrite(f, lambda _: {})),
    "truncated weights": ("weights", {}, truncated),
    "pickled weights": ("pickle", {}, pickled),
    "weights beside it": ("outside-weights", {}, outside),
    "keys that match nothing": (
        "unexpected-keys",
        {},
        lambda f: add(f, f"{HEAD}layers.9.mlp.up_proj.lora_A.weight", torch.ones(4, 32)),
    ),
    "layers without weights": ("missing-keys", {}, lambda f: without(f, ".layers.3.")),
    "A without B": ("half-loaded", {}, lambda f: without(f, "layers.2.mlp.up_proj.lora_B")),
    "keys of an earlier transformers": ("old-layout", {}, lambda f: rename(f, OLD)),
    "weights of another width": ("other-base", {}, narrowed),
    "another model by name": (
        "other-base",
        {},
        lambda f: configure(f, base_model_name_or_path="Qwen/Qwen3-8B"),
    ),
    "rank of the config is wrong": ("rank", {}, lambda f: configure(f, r=8)),
    "rank 0": ("rank", {}, lambda f: configure(f, r=0)),
    "weights of half the rank": ("rank", {}, halved),
    "alpha 0": ("alpha", {}, lambda f: configure(f, lora_alpha=0)),
    "alpha not said": ("alpha", {}, lambda f: configure(f, lora_alpha=None)),
    "targets that are nothing here": (
        "targets",
        {},
        lambda f: configure(f, target_modules=["c_attn"]),
    ),
    "layers with a regular expression": (
        "targets",
        {"target_modules": UNDER_LLM},
        lambda f: configure(f, layers_to_transform=[1], layers_pattern="layers"),
    ),
    "a folder of checkpoints": ("config", {}, nested),
    "a pointer of Git LFS for weights": ("weights", {}, lambda f: pointer(f, WEIGHTS)),
    "a pointer of Git LFS for the config": ("config", {}, lambda f: pointer(f, CONFIG)),
    "shards": ("weights", {}, sharded),
    "8-bit whole numbers": ("dtype", {}, lambda f: quantised(f, torch.int8)),
    "8-bit floats": ("dtype", {}, lambda f: quantised(f, torch.float8_e4m3fn)),
    "a prefix twice": (
        "old-layout",
        {},
        lambda f: rename(f, ("base_model.model.", "base_model.model.base_model.model.")),
    ),
    "an option of a newer PEFT": (
        "unknown-option",
        {},
        lambda f: configure(f, use_quantum_lora=True, peft_version="0.99.0"),
    ),
    "a kind of a newer PEFT": ("unknown-option", {}, lambda f: configure(f, peft_type="NEWER")),
    "another model in the Hub's cache": (
        "other-base",
        {},
        lambda f: configure(
            f, base_model_name_or_path="/c/models--Qwen--Qwen2.5-VL-7B-Instruct/snapshots/0a1b"
        ),
    ),
    HANGS: (
        "targets",
        {},
        lambda f: configure(f, rank_pattern={r"((\w|\.)+)+!": 4}),
    ),
    "B is 0": ("zero-effect", {}, lambda f: filled(f, "lora_B", 0)),
    "too small to change a logit": ("zero-effect", {}, lambda f: filled(f, "lora_B", 1e-30)),
    "NaN in one tensor": ("nan", {}, lambda f: filled(f, "layers.1.mlp.up_proj.lora_A", torch.nan)),
    "infinite logits": ("nan", {}, lambda f: filled(f, "lora_", 1e30)),
    "shares of processes": ("sharded", {}, flat),
    "initialised from the base": ("rewrites-base", {"init_lora_weights": "pissa"}, lambda f: None),
    "the base's own weights": (
        "attach",
        {},
        lambda f: add(f, f"{HEAD}norm.weight", torch.zeros(32)),
    ),
    "tokens that are never there": (
        "invocation",
        {"alora_invocation_tokens": [3, 4, 5]},
        lambda f: None,
    ),
}


def plant(fault: str, base: Path, folder: Path) -> Path:
    """Writes an adapter with one of ``FAULTS``."""
    _, options, change = FAULTS[fault]
    make_adapter(base, folder, 1, **options)
    change(folder)
    return folder


def copied(source: Path, folder: Path) -> Path:
    return Path(shutil.copytree(source, folder))
