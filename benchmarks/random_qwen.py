"""Qwen3-VL of the published shapes with random weights, made on the device: nothing is fetched."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from pointsman.adapters.weights import Lora
from pointsman.models.attention import prepare_attention
from pointsman.models.base import Base
from pointsman.models.checkpoint import Fingerprint
from pointsman.models.encoding import Encoded
from pointsman.models.prompt_encoder import PromptEncoder
from pointsman.models.vision import ImageCache, use_onednn

RANK = 16
IMAGE_TOKEN = 5


@dataclass(frozen=True)
class Shape:
    """Sizes of a checkpoint, and of the requests that are asked of it."""

    hidden: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    is_tied: bool
    vision_depth: int
    vision_hidden: int
    vision_inner: int
    vision_heads: int
    deepstack: tuple[int, ...]
    head_size: int = 128
    vocabulary: int = 151936
    sections: tuple[int, ...] = (24, 20, 20)
    places: int = 2304
    grid: tuple[int, int] = (50, 80)
    """Rows and columns of an image's patches, four to a token"""
    text_tokens: int = 64

    @property
    def image_tokens(self) -> int:
        return self.grid[0] * self.grid[1] // 4

    @property
    def tokens(self) -> int:
        return self.image_tokens + self.text_tokens

    @property
    def padded(self) -> int:
        """Tokens of a compiled prefill."""
        grain = 64 if self.tokens > 64 else 8
        return grain * -(-self.tokens // grain)

    @property
    def route_layer(self) -> int:
        return self.layers // 4

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each projection of a decoder layer."""
        queries, keys = self.heads * self.head_size, self.key_heads * self.head_size
        return {
            "q_proj": (self.hidden, queries),
            "k_proj": (self.hidden, keys),
            "v_proj": (self.hidden, keys),
            "o_proj": (queries, self.hidden),
            "gate_proj": (self.hidden, self.inner),
            "up_proj": (self.hidden, self.inner),
            "down_proj": (self.inner, self.hidden),
        }

    def config(self) -> Any:
        return Qwen3VLConfig(
            text_config={
                "vocab_size": self.vocabulary,
                "hidden_size": self.hidden,
                "intermediate_size": self.inner,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads,
                "num_key_value_heads": self.key_heads,
                "head_dim": self.head_size,
                "max_position_embeddings": 262144,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 5e6,
                    "mrope_section": list(self.sections),
                    "mrope_interleaved": True,
                },
            },
            vision_config={
                "depth": self.vision_depth,
                "hidden_size": self.vision_hidden,
                "intermediate_size": self.vision_inner,
                "num_heads": self.vision_heads,
                "out_hidden_size": self.hidden,
                "patch_size": 16,
                "num_position_embeddings": self.places,
                "deepstack_visual_indexes": list(self.deepstack),
            },
            image_token_id=IMAGE_TOKEN,
            video_token_id=IMAGE_TOKEN + 1,
            vision_start_token_id=IMAGE_TOKEN + 2,
            vision_end_token_id=IMAGE_TOKEN + 3,
            tie_word_embeddings=self.is_tied,
        )


_LARGE_TOWER = {
    "vision_depth": 27,
    "vision_hidden": 1152,
    "vision_inner": 4304,
    "vision_heads": 16,
    "deepstack": (8, 16, 24),
}
_SMALL_TOWER = {
    "vision_depth": 24,
    "vision_hidden": 1024,
    "vision_inner": 4096,
    "vision_heads": 16,
    "deepstack": (5, 11, 17),
}
SHAPES = {
    "8B": Shape(4096, 12288, 36, 32, 8, False, **_LARGE_TOWER),
    "4B": Shape(2560, 9728, 36, 32, 8, True, **_SMALL_TOWER),
    "2B": Shape(2048, 6144, 28, 16, 8, True, **_SMALL_TOWER),
    "toy": Shape(
        *(64, 128, 4, 4, 2, True, 2, 32, 64, 2, (0,)),
        head_size=16,
        vocabulary=512,
        sections=(4, 2, 2),
        places=64,
        grid=(8, 8),
        text_tokens=9,
    ),
}


def make_base(shape: Shape, device: torch.device, dtype: torch.dtype) -> Base:
    """A base with random weights and no tokenizer; its images' features are not kept."""
    torch.manual_seed(0)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = Qwen3VLForConditionalGeneration(shape.config())
    finally:
        torch.set_default_dtype(usual)
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = None
    use_onednn(model)
    prepare_attention(device)  # as load_base does
    return Base(
        id="random",
        revision=None,
        folder=Path(),
        model=model.requires_grad_(False).eval(),
        prompts=PromptEncoder(
            id="random",
            tokenizer=None,
            image_processor=Qwen2VLImageProcessorPil(patch_size=16),
            template="",
            image_token_id=IMAGE_TOKEN,
            longest=int(model.config.text_config.max_position_embeddings),
            positions=model.model.get_rope_index,
        ),
        fingerprint=Fingerprint("", "", "", "", ""),
        images=ImageCache(limit=0),
    )


def make_encoded(shape: Shape, base: Base, requests: int) -> Encoded:
    """Prompts with an image of noise each, as ``Base.encode`` leaves them."""
    rng = torch.Generator().manual_seed(requests)
    rows, columns = shape.grid
    low = IMAGE_TOKEN + 10
    ids = torch.randint(low, shape.vocabulary, (requests, shape.tokens), generator=rng)
    before = min(16, shape.text_tokens // 2)
    ids[:, before : before + shape.image_tokens] = IMAGE_TOKEN
    mask, kinds = torch.ones_like(ids), (ids == IMAGE_TOKEN).long()
    grids = torch.tensor([[1, rows, columns]] * requests)
    positions, _ = base.core.get_rope_index(
        ids, mm_token_type_ids=kinds, image_grid_thw=grids, attention_mask=mask
    )
    noise = torch.randint(256, (requests * rows * columns, 3, 256), generator=rng)
    index = torch.arange(requests)
    device = base.device
    return Encoded(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        mm_token_type_ids=kinds.to(device),
        position_ids=positions.to(device),
        patches=noise.to(torch.uint8).to(device),
        image_index=index,
        image_grid_thw=grids,
        image_digests=torch.stack([index, index], 1),
    )


def make_lora(shape: Shape, name: str, device: torch.device, dtype: torch.dtype) -> Lora:
    """An adapter of random weights on all projections from the router's layer on."""
    weights = {}
    for layer in range(shape.route_layer, shape.layers):
        for projection, (inputs, outputs) in shape.projections.items():
            a = torch.randn(RANK, inputs, device=device, dtype=dtype) * inputs**-0.5
            b = torch.randn(outputs, RANK, device=device, dtype=dtype) * 0.05
            weights[layer, projection] = (a, b)
    return Lora(name, weights)


def renamed(lora: Lora, name: str, device: str | torch.device | None = None) -> Lora:
    """The same adapter by another name, perhaps elsewhere."""
    weights = lora.weights
    if device is not None:
        weights = {key: (a.to(device), b.to(device)) for key, (a, b) in weights.items()}
    return replace(lora, name=name, weights=weights)
