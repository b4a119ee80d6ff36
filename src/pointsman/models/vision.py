"""Images for the vision tower: pixels, patches, values, and a cache of its features.

An image's features depend only on its pixels, so several questions about one screenshot, epochs of
training and turns of a conversation need the tower once. Each image goes through it alone: the
rest of the batch, or of the cache, does not change a bit.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.vision_utils import (
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
)

from pointsman.models.cpu_kernels import by_onednn, linear, to_device, use_onednn_linears
from pointsman.models.qwen3_vl import IMAGE_CACHE_MB

_Key = tuple[int, ...]
_SCORES, _ROWS = 800_000, 192
"""Scores of attention that are held at once, and the fewest patches of a product"""


def pixels_of(image: Image.Image, processor: Any) -> tuple[Tensor, Tensor]:
    """An image's grid (3,), and its pixels (P, patch area * 3) uint8, row by row and unsorted."""
    patch, merge = int(processor.patch_size), int(processor.merge_size)
    image = image if image.mode == "RGB" else image.convert("RGB")
    if processor.do_resize:
        least, most = processor.size["shortest_edge"], processor.size["longest_edge"]
        height, width = smart_resize(image.height, image.width, patch * merge, least, most)
        if image.size != (width, height):
            image = image.resize((width, height), processor.resample)
    rows, columns = image.height // patch, image.width // patch
    pixels = np.frombuffer(image.tobytes(), np.uint8).reshape(rows * columns, -1)
    return torch.tensor([1, rows, columns]), torch.from_numpy(pixels.copy())


def digest_of(pixels: Tensor, grid: Tensor) -> Tensor:
    """(2,) int64: identifies an image's content and shape."""
    digest = hashlib.sha256(grid.numpy().tobytes())
    digest.update(pixels.numpy().data)
    return torch.from_numpy(np.frombuffer(digest.digest()[:16], np.int64).copy())


def patches_of(pixels: Tensor, grid: Tensor, processor: Any) -> Tensor:
    """Pixels of an image with this grid as patches (P, 3, patch area), in the model's order."""
    patch, merge = int(processor.patch_size), int(processor.merge_size)
    _, rows, columns = grid.tolist()
    blocks = pixels.view(rows // merge, merge, patch, columns // merge, merge, patch, 3)
    return blocks.permute(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, 3, patch * patch)


def pixel_values(pixels: Tensor, grid: Tensor, processor: Any, dtype: torch.dtype) -> Tensor:
    """Turns pixels (P, patch area * 3) uint8 into the vision tower's input, with equal frames.

    The result equals the image processor's bit for bit, in a fraction of its time: the processor
    computes each pixel in float64, although a channel has only 256 possible values.
    """
    values, times = frame_values(pixels, grid, processor, dtype), processor.temporal_patch_size
    return values.view(len(pixels), 3, 1, -1).expand(-1, -1, times, -1).flatten(1)


def frame_values(pixels: Tensor, grid: Tensor, processor: Any, dtype: torch.dtype) -> Tensor:
    """The same for one frame (P, 3 * patch area), which is all that ``use_onednn`` reads."""
    patches = patches_of(pixels, grid, processor)
    table = to_device(_levels(processor).to(dtype).flatten(), pixels.device)
    offsets = 256 * torch.arange(3, dtype=torch.int32, device=pixels.device)
    values = table.index_select(0, (patches.int() + offsets[:, None]).flatten())
    return values.view(len(pixels), -1)


def _levels(processor: Any) -> Tensor:
    """(3, 256) float32: the image processor's value for each level of each channel."""
    values = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(16, 16), (3, 16, 16))
    if processor.do_rescale:
        values = processor.rescale(values, processor.rescale_factor)
    if processor.do_normalize:
        values = processor.normalize(values, processor.image_mean, processor.image_std)
    return torch.from_numpy(np.array(values, np.float32)).view(3, 256)


def places_of(grid: Tensor, tower: Any) -> dict[str, Any]:
    """What a Qwen3VLVisionModel derives from one still image's grid (3,), as its arguments.

    On its own it would wait for the device about thirty times, once in each of its blocks.
    """
    side, mode = tower.num_grid_per_side, tower.interpolation_mode
    merge, corners = tower.spatial_merge_size, tower.interpolation_align_corners
    _, rows, columns = grid.tolist()
    return dict(_places(rows, columns, side, mode, corners, merge, tower.pos_embed.weight.device))


@lru_cache(maxsize=64)
def _places(
    rows: int,
    columns: int,
    side: int,
    mode: str,
    corners: bool,
    merge: int,
    device: torch.device,
) -> dict[str, Tensor | int]:
    grid = torch.tensor([[1, rows, columns]])
    indices, weights = get_vision_interpolation_indices_and_weights(
        grid, side, mode=mode, align_corners=corners, spatial_merge_size=merge
    )
    return {
        "image_interp_indices": to_device(indices, device),
        "image_interp_weights": to_device(weights, device),
        "image_position_ids": to_device(get_vision_position_ids(grid, merge), device),
        # Image boundaries: read on the host.
        "image_cu_seqlens": torch.tensor([0, rows * columns], dtype=torch.int32),
        "image_max_seqlen": rows * columns,
    }


@dataclass(frozen=True)
class ImageFeatures:
    """Features of one image with N tokens: (N, hidden) for the prompt and per DeepStack layer."""

    tokens: Tensor
    deepstack: tuple[Tensor, ...]

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.tokens, *self.deepstack))


class ImageCache:
    """The features of the most recently used images, up to a number of bytes, ``limit``."""

    def __init__(self, limit: int = IMAGE_CACHE_MB << 20) -> None:
        self.limit = limit
        self._bytes = 0
        self._kept: OrderedDict[_Key, ImageFeatures] = OrderedDict()

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0

    def get(self, key: _Key, make: Callable[[], ImageFeatures]) -> ImageFeatures:
        """The features of the image with this digest, computed if they are not cached."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        features = make()
        self._kept[key] = features
        self._bytes += features.bytes
        while self._bytes > self.limit:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.bytes
        return features


def use_onednn(model: Any) -> None:
    """Makes a Qwen3VLForConditionalGeneration use ``linear``, also for the products of its tower's
    attention, and embed one frame per still image.

    Its modules keep their weights and names.
    """
    tower = model.model.visual
    tower.patch_embed.forward = partial(_still_patches, tower.patch_embed)
    for block in tower.blocks:
        block.attn.forward = partial(_attention, block.attn)
    use_onednn_linears(model)


def _still_patches(embed: Any, patches: Tensor) -> Tensor:
    """Patches (P, channels * frames * area) of still images as states (P, hidden).

    A still image has two identical frames, of which one is enough: the two halves of the kernel are
    summed. The stock module is a 3D convolution, for which devices have no fast kernels.
    """
    kernel: Tensor = embed.proj.weight
    frames = patches.view(len(patches), kernel.shape[1], -1, kernel[0, 0, 0].numel())
    frame = frames[:, :, 0].flatten(1)
    return linear(frame.to(kernel.dtype), kernel.sum(2).flatten(1), embed.proj.bias)


def _attention(
    module: Any,
    hidden_states: Tensor,
    cu_seqlens: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    **kwargs: Any,
) -> Tensor:
    """Attention of each image's patches, states (P, hidden), to one another.

    PyTorch's kernel gives its products to MKL, see ``cpu_kernels``. So on a CPU they are computed
    here, for some patches of one head at a time, whose scores stay in the processor's caches.
    """
    if not by_onednn(hidden_states, hidden_states):
        stock: Tensor = type(module).forward(
            module, hidden_states, cu_seqlens, position_embeddings, **kwargs
        )
        return stock
    joint = module.qkv(hidden_states).view(len(hidden_states), 3, module.num_heads, -1)
    query, key, value = joint.permute(1, 2, 0, 3)
    query, key = _turned(query, *position_embeddings), _turned(key, *position_embeddings)
    key *= module.scaling
    output = torch.empty_like(hidden_states).view(len(hidden_states), module.num_heads, -1)
    for first, last in pairwise(cu_seqlens.tolist()):
        rows = max(_ROWS, _SCORES // (last - first))
        for head in range(module.num_heads):
            keys, values = key[head, first:last], value[head, first:last].t().contiguous()
            for start in range(first, last, rows):
                part = slice(start, min(start + rows, last))
                scores = linear(query[head, part], keys)
                torch.softmax(scores, -1, out=scores)
                output[part, head] = linear(scores, values)
    attended: Tensor = module.proj(output.flatten(1))
    return attended


def _turned(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: states (heads, P, size), turned by angles whose two halves are equal."""
    output = states.new_empty(states.shape)
    (one, two), (first, second) = states.chunk(2, -1), output.chunk(2, -1)
    cos, sin = cos.chunk(2, -1)[0], sin.chunk(2, -1)[0]
    torch.mul(one, cos, out=first)
    first.addcmul_(two, sin, value=-1)
    torch.mul(two, cos, out=second)
    second.addcmul_(one, sin)
    return output
