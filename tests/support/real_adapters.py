"""Configurations and keys as real trainers write them, for the tiny base's shapes.

What TRL, LLaMA-Factory, ms-swift, Unsloth's defaults and Qwen's own fine-tuning code wrote for a
small Qwen3-VL; options that are off are left out.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from pointsman.adapters.files import CONFIG, WEIGHTS
from pointsman.adapters.layout import Layout
from pointsman.models.base import Base

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]
_DECODER = "model.language_model.layers.*."
_TOWER = [
    *(f"model.visual.blocks.*.{part}" for part in ("attn.qkv", "attn.proj")),
    *(f"model.visual.blocks.*.mlp.linear_fc{n}" for n in (1, 2)),
]
_MERGERS = [
    f"model.visual.{part}.linear_fc{n}"
    for part in ("merger", "deepstack_merger_list.*")
    for n in (1, 2)
]
DECODER = [_DECODER + ("self_attn." if name in ATTENTION else "mlp.") + name for name in ALL]
EMBEDDINGS = "model.language_model.embed_tokens"
_SWIFT = r"model\.language_model(?=\.).*\.(q_proj|up_proj|gate_proj|o_proj|v_proj|k_proj|down_proj)"
_SWIFT_TOWER = (
    r"(?!(model.visual.merger|model.visual.deepstack_merger_list))model\.visual(?=\.).*\.(qkv|"
    r"linear_fc1|attn.proj|linear_fc2)|model\.visual\.merger(?=\.).*\.(linear_fc1|linear_fc2)|"
    r"model\.visual\.deepstack_merger_list(?=\.).*\.(linear_fc1|linear_fc2)"
)
_PARTS = r"(?:self_attn|attention|attn|mixer|mlp|feed_forward|ffn|dense|mixer).*?\."
_LEAVES = (
    r"(?:qkv|proj|linear_fc1|linear_fc2|q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
)


def unsloth(parts: str) -> str:
    return (
        rf"(?:.*?(?:{parts}).*?{_PARTS}{_LEAVES})|"
        rf"(?:\bmodel\.layers\.[\d]{{1,}}(?!.*\.experts\.\d)\..*?{_PARTS}(?:{_LEAVES}))"
    )


class Real(NamedTuple):
    """What one trainer wrote, and what the check says of it."""

    options: dict[str, Any]
    modules: list[str] = DECODER
    """Paths with LoRA matrices; ``*`` is each layer's number"""
    also: tuple[str, ...] = ()
    """Ends of further keys of each module, or whole keys"""
    errors: set[str] = set()  # noqa: RUF012
    warnings: set[str] = set()  # noqa: RUF012


PEFT_ONLY = {"peft-only"}
REAL = {
    "LLaMA-Factory": Real({"target_modules": ALL, "peft_version": "0.18.1"}),
    "LLaMA-Factory, with the tower": Real(
        {
            "target_modules": [*ALL, "linear_fc1", "linear_fc2", "qkv", "attn.proj"],
            "modules_to_save": ["embed_tokens"],
            "use_rslora": True,
        },
        [*DECODER, *_TOWER, *_MERGERS],
        (f"{EMBEDDINGS}.weight",),
        warnings=PEFT_ONLY,
    ),
    "Qwen's fine-tuning code": Real(
        {"target_modules": ATTENTION, "lora_dropout": 0.05}, DECODER[:4]
    ),
    "ms-swift": Real({"target_modules": f"^({_SWIFT})$", "lora_alpha": 16.0}),
    "ms-swift, with the tower": Real(
        {"target_modules": f"^({_SWIFT}|{_SWIFT_TOWER})$", "lora_alpha": 16.0},
        [*DECODER, *_TOWER, *_MERGERS],
        warnings=PEFT_ONLY,
    ),
    "transformers 4.57, the inner model": Real(
        {"target_modules": ATTENTION, "auto_mapping": {"base_model_class": "Qwen3VLModel"}},
        [path.removeprefix("model.") for path in DECODER[:4]],
        errors={"old-layout"},
    ),
    "TRL, all-linear": Real(
        {"target_modules": [*ALL, "linear_fc1", "linear_fc2", "qkv", "attn.proj"]},
        [*DECODER, *_TOWER, *_MERGERS],
        warnings=PEFT_ONLY,
    ),
    "TRL, biases": Real({"lora_bias": True}, also=(".lora_B.bias",), warnings=PEFT_ONLY),
    "TRL, DoRA": Real({"use_dora": True}, also=(".lora_magnitude_vector",), warnings=PEFT_ONLY),
    "TRL, embeddings": Real(
        {"target_modules": [*ALL, "embed_tokens"]},
        also=tuple(
            f"{EMBEDDINGS}.{end}"
            for end in ("base_layer.weight", "lora_embedding_A", "lora_embedding_B")
        ),
        warnings={"peft-only", "base-weights"},
    ),
    "TRL, whole embeddings": Real(
        {"modules_to_save": ["embed_tokens"]}, also=(f"{EMBEDDINGS}.weight",), warnings=PEFT_ONLY
    ),
    "TRL, the whole head": Real(
        {"modules_to_save": ["lm_head"]}, also=("lm_head.weight",), warnings=PEFT_ONLY
    ),
    "TRL, PiSSA": Real({"init_lora_weights": "pissa"}, errors={"rewrites-base"}),
    "TRL": Real({}),
    "TRL, ranks": Real({"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 8}}),
    "TRL, rank-stabilised": Real({"use_rslora": True}),
    "TRL, the tower": Real(
        {"target_modules": r".*visual\.blocks\.\d+\.attn\.(qkv|proj)"},
        _TOWER[:2],
        warnings=PEFT_ONLY,
    ),
    "Unsloth": Real(
        {
            "target_modules": unsloth("vision|image|visual|patch|language|text"),
            "base_model_name_or_path": "unsloth/qwen3-vl-8b-instruct-unsloth-bnb-4bit",
        },
        [*DECODER, *_TOWER],
        warnings={"peft-only", "other-base"},
    ),
    "Unsloth, the language alone": Real({"target_modules": unsloth("language|text")}),
}


def write_real(trainer: str, base: Base, folder: Path) -> Path:
    """Writes an adapter as the trainer did, of random weights in the base's shapes."""
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "Qwen/Qwen3-VL-8B-Instruct",
        "r": 4,
        "lora_alpha": 16,
        "bias": "none",
        "init_lora_weights": True,
        "inference_mode": True,
        "megatron_core": "megatron.core",
        "qalora_group_size": 16,
        "peft_version": "0.21.2",
        "target_modules": ALL,
    } | REAL[trainer].options
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps(config))
    save_file(_tensors(REAL[trainer], config, base), folder / WEIGHTS)
    return folder


def _tensors(real: Real, config: dict[str, Any], base: Base) -> dict[str, Tensor]:
    layout, generator = Layout.of(base.model), torch.Generator().manual_seed(1)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.3

    tensors = {}
    for template in real.modules:
        for path in dict.fromkeys(template.replace("*", str(layer)) for layer in range(4)):
            today = path if path.startswith("model.") else f"model.{path}"
            if today not in layout.shapes:
                continue  # fewer layers than that
            outputs, inputs = layout.shapes[today]
            rank = (config.get("rank_pattern") or {}).get(path.rpartition(".")[2], 4)
            tensors[f"{path}.lora_A.weight"] = noise(rank, inputs)
            tensors[f"{path}.lora_B.weight"] = noise(outputs, rank)
            for end in real.also:
                if end.startswith("."):
                    tensors[path + end] = noise(outputs).abs()
    vocabulary, width = layout.weights[f"{EMBEDDINGS}.weight"].shape
    for key in real.also:
        if key.endswith("embedding_A"):
            tensors[key] = noise(4, vocabulary)
        elif key.endswith("embedding_B"):
            tensors[key] = noise(width, 4)
        elif not key.startswith("."):
            tensors[key] = layout.weights[f"{EMBEDDINGS}.weight"].clone()
    return {f"base_model.model.{key}": tensor for key, tensor in tensors.items()}
