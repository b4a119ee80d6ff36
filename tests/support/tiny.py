"""A tiny real Qwen3-VL, LoRAs of random weights, images and training sets."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftConfig, get_peft_model
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from pointsman.adapters.layout import PROJECTIONS
from pointsman.models.base import load_base

REPOSITORY = Path(__file__).parents[2]
SHARED = REPOSITORY.parent / "shared"
ADAPTERS = ("calendar", "claim-window", "provider-select")
VERBS = ("Pick day", "Fill in field", "Book with doctor")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def make_base(folder: Path, seed: int = 0, layers: int = 4, *, is_wide: bool = False) -> Path:
    """Writes a randomly initialised checkpoint of Qwen3-VL's architecture.

    Args:
        is_wide: the sides of the decoder's matrices are multiples of 128, as of published ones.
    """
    hidden, head, sections = (128, 128, [24, 20, 20]) if is_wide else (32, 16, [4, 2, 2])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([], trainers.BpeTrainer(initial_alphabet=alphabet))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    ids = {token: fast.convert_tokens_to_ids(token) for token in SPECIAL}
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(fast),
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": head,
            "max_position_embeddings": 2048,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": sections,
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": hidden,
            "patch_size": 16,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(config)
    with torch.no_grad():  # the initial scale of 0.02 would make every state nearly the same
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3 if is_wide else 6)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    model.save_pretrained(folder)
    processor = Qwen2VLImageProcessorPil(
        patch_size=16,
        min_pixels=32 * 32,
        max_pixels=256 * 256,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    processor.save_pretrained(folder)
    return folder


def make_brief(base_folder: Path, folder: Path) -> Path:
    """The same base, but every second token ends an answer, so that answers are short."""
    shutil.copytree(base_folder, folder)
    path = folder / "generation_config.json"
    config = json.loads(path.read_text())
    vocabulary = json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"]
    config["eos_token_id"] = [config["eos_token_id"], *range(0, vocabulary - len(SPECIAL), 2)]
    path.write_text(json.dumps(config))
    return folder


def make_adapter(base_folder: Path, folder: Path, seed: int, **options: object) -> Path:
    """Writes a LoRA of random weights, both matrices non-zero so that it changes answers."""
    config = {"r": 4, "lora_alpha": 16, "target_modules": list(PROJECTIONS)} | options
    return write_adapter(load_base(str(base_folder)).model, folder, seed, config)


def write_adapter(model: Any, folder: Path, seed: int, config: dict[str, Any]) -> Path:
    """As ``make_adapter``, of any PEFT type; ``model`` is modified."""
    kind = {"peft_type": "LORA", "task_type": "CAUSAL_LM"} | config
    model = get_peft_model(model, PeftConfig.from_peft_type(**PeftConfig.check_kwargs(**kind)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    model.save_pretrained(folder)
    return folder


def make_image(path: Path, seed: int, size: tuple[int, int] = (64, 48)) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def make_sources(folder: Path, per_adapter: int = 12) -> dict[str, list[str]]:
    """One JSONL for each adapter, every sample with an image of its own."""
    sources = {}
    rng = random.Random(0)
    for label, (adapter, verb) in enumerate(zip(ADAPTERS, VERBS, strict=True)):
        lines = []
        for number in range(per_adapter):
            seed = label * 1000 + number
            size = (64 + 32 * rng.randrange(3), 48)
            make_image(folder / f"images/{seed}.png", seed, size)
            answer = '<tool_call>\n{"name": "computer_use", "arguments": {"action": "left_click", '
            answer += f'"coordinate": [{number * 10},{label * 100}]}}}}\n</tool_call>'
            record = {
                "conversations": [
                    {"from": "human", "value": f"<image>\n{verb} {number}"},
                    {"from": "gpt", "value": answer},
                ],
                "image": f"images/{seed}.png",
                "bbox": [0.0, 0.0, size[0] / 2, size[1]],
                "stratum": "even" if number % 2 == 0 else "odd",
            }
            lines.append(json.dumps(record))
        (folder / f"{adapter}.jsonl").write_text("\n".join(lines))
        sources[adapter] = [str(folder / f"{adapter}.jsonl")]
    return sources
