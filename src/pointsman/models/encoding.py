"""Encoded prompts: the padded batches that a base reads."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict, cast

import torch
from torch import Tensor, nn
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from pointsman.models.vision import ImageFeatures

IGNORED = -100
"""Label of a token that the training loss ignores."""


class Encoded(TypedDict):
    """A padded batch of B prompts of T tokens with I images, U of them different.

    Prompts that share an ``Image`` object have the same image. ``Base.encode`` leaves the tensors
    that describe images on the host, where they are read, and puts the rest on the base's device.
    """

    input_ids: Tensor
    """(B, T) int64"""
    attention_mask: Tensor
    """(B, T) int64, 0 on padding"""
    mm_token_type_ids: Tensor
    """(B, T) int64, 1 on image tokens"""
    position_ids: Tensor
    """(3, B, T) int64: temporal, height, width"""
    pixels: NotRequired[Tensor]
    """(P, patch area * 3) uint8 of the different images, in order of first occurrence;
    ``vision.pixel_values`` turns each image's into the tower's input"""
    image_index: NotRequired[Tensor]
    """(I,) int64: index of each image among the different ones"""
    image_grid_thw: NotRequired[Tensor]
    """(I, 3) int64, in patches"""
    image_digests: NotRequired[Tensor]
    """(I, 2) int64: digest of each image's content"""


TEXT_KEYS = ("input_ids", "attention_mask", "mm_token_type_ids", "position_ids")
"""The parts of a batch with one value per token; a text encoder's batch has the first two"""


def join(batches: Sequence[Any]) -> Any:
    """Joins batches that are padded on the right: a base's, or a text encoder's."""
    if len(batches) == 1:
        return batches[0]
    longest = max(batch["input_ids"].shape[1] for batch in batches)
    found: dict[str, Tensor] = {}
    for name in (name for name in TEXT_KEYS if name in batches[0]):
        values = [batch[name] for batch in batches]
        padded = [nn.functional.pad(value, (0, longest - value.shape[-1])) for value in values]
        found[name] = torch.cat(padded, -2)
    shown = [batch for batch in batches if "pixels" in batch]
    if shown:
        for name in ("pixels", "image_grid_thw", "image_digests"):
            found[name] = joined([batch[name] for batch in shown])
        before = 0
        index: list[Tensor] = []
        for batch in shown:
            index.append(batch["image_index"] + before)
            before += int(batch["image_index"].max()) + 1
        found["image_index"] = torch.cat(index)
    return found


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Like ``torch.cat``, which would copy a single part."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def padded_left(encoded: Encoded) -> Encoded:
    """A batch that is padded on the right with its padding in front."""
    mask = encoded["attention_mask"]
    length = mask.shape[1]
    missing = length - mask.sum(1, keepdim=True)
    order = (torch.arange(length, device=mask.device) - missing) % length
    tensors = cast(dict[str, Tensor], encoded)
    moved = {k: tensors[k].gather(-1, order.expand(tensors[k].shape)) for k in TEXT_KEYS}
    return cast(Encoded, {**encoded, **moved})


IMAGE_KEYS = ("pixels", "image_index", "image_digests")


def without_images(encoded: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of the stock model, except for images."""
    return {k: v for k, v in encoded.items() if k not in IMAGE_KEYS}


def different_images(encoded: Mapping[str, Any]) -> list[tuple[Tensor, Tensor, list[int]]]:
    """Pixels (P, patch area * 3), grid (3,) and digest of each of the U different images."""
    index = encoded["image_index"].tolist()
    first = [index.index(image) for image in range(max(index) + 1)]
    grids, digests = encoded["image_grid_thw"][first], encoded["image_digests"][first]
    cuts = torch.split(encoded["pixels"], grids.prod(1).tolist())
    return list(zip(cuts, grids, digests.tolist(), strict=True))


def as_encoder_output(seen: Sequence[ImageFeatures]) -> dict[str, Any]:
    """Features of images in the model's form."""
    output: Any = BaseModelOutputWithDeepstackFeatures()
    output.pooler_output = [image.tokens for image in seen]
    taps = range(len(seen[0].deepstack))
    output.deepstack_features = [[image.deepstack[tap] for image in seen] for tap in taps]
    return {"image": output}
