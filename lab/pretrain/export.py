"""Writes a trained base as a checkpoint that any Qwen3-VL loader reads.

``python -m lab.pretrain.export TRAINED OUT``
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from pointsman.cli import console
from pointsman.errors import ConfigError
from pointsman.files import refuse_other, write_json, write_tensors, write_text

from . import checkpoint
from .config import MERGE, PATCH, SHAPES, ModelShape
from .network import Network
from .packing import Packer
from .tokenizer import SPECIAL, TEMPLATE, load_tokenizer

_END, _PADDING = "<|im_end|>", "<|endoftext|>"


def export(trained: Path, out: Path) -> Path:
    """Writes the checkpoint folder, ``config.json`` last. Raises ``ArtefactError``."""
    refuse_other(out, "a base")
    shape, seed = checkpoint.shape_and_seed(trained)
    packer = Packer(load_tokenizer(), 1)
    network = Network(SHAPES[shape], packer)
    checkpoint.load(trained, network, None, shape, seed)
    weights = {
        name: tensor.to(torch.bfloat16)
        for name, tensor in network.stock.state_dict().items()
        if name != "lm_head.weight"  # tied to the embedding
    }
    write_tensors(out / "model.safetensors", weights, {"format": "pt"})
    write_text(out / "tokenizer.json", load_tokenizer().to_str())
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": _END,
            "pad_token": _PADDING,
            "extra_special_tokens": [token for token in SPECIAL if token != _PADDING],
            "model_max_length": 4096,
        },
    )
    write_text(out / "chat_template.jinja", TEMPLATE)
    write_json(out / "preprocessor_config.json", _processor(SHAPES[shape]))
    write_json(
        out / "generation_config.json",
        {"eos_token_id": packer.special_ids[_END], "pad_token_id": packer.special_ids[_PADDING]},
    )
    config = network.stock.config
    config.dtype = "bfloat16"
    config.architectures = [type(network.stock).__name__]
    write_text(out / "config.json", config.to_json_string(use_diff=True))
    return out


def _processor(shape: ModelShape) -> dict[str, object]:
    least, most = shape.pixels
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": MERGE,
        # Qwen3-VL's names for the least and the most pixels.
        "size": {"shortest_edge": least, "longest_edge": most},
    }


def main(arguments: list[str]) -> None:
    if len(arguments) != 2:
        raise ConfigError("give the trained folder and the folder to write")
    console.say(f"wrote {export(Path(arguments[0]), Path(arguments[1]))}")


if __name__ == "__main__":
    raise SystemExit(console.run(lambda: main(sys.argv[1:]), debug=False))
