"""The training forward: fixed-size batches and packed questions, on the stock model's parameters.

Every parameter belongs to a stock ``Qwen3VLForConditionalGeneration``, whose state dict is the
checkpoint. Its own forward takes ragged images and one conversation a row; this one takes a batch
of images of one size, as patches made on the device, and several questions for each under a block
mask, each at the positions (M-RoPE) that it would have alone. The logits are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen3VLForConditionalGeneration

from .config import MERGE, PATCH, ModelShape
from .layout import CHARACTERS
from .packing import PADDING, Packer

_PREFIX = -2
"""Segment of the prefix and the image."""
_LENGTHS = 64
"""Sequences are padded to multiples of this."""


@dataclass(frozen=True)
class Seen:
    """What the vision tower makes of B images of N patches: inputs of the language model."""

    grid: tuple[int, int]
    """Rows and columns of patches"""
    patches: Tensor
    """(B, N, vision width): the last block's output"""
    tokens: Tensor
    """(B, N / 4, text width)"""
    deepstack: list[Tensor]
    """Each (B, N / 4, text width)"""


def patchify(images: Tensor) -> Tensor:
    """(B, 3, H, W) as (B, N, 768), in the image processor's order: merged patches together."""
    batch, _, height, width = images.shape
    rows, columns = height // (PATCH * MERGE), width // (PATCH * MERGE)
    split = images.reshape(batch, 3, rows, MERGE, PATCH, columns, MERGE, PATCH)
    ordered = split.permute(0, 2, 5, 3, 6, 1, 4, 7)
    return ordered.reshape(batch, rows * columns * MERGE**2, 3 * PATCH**2)


class Network(nn.Module):
    """The stock model with a fast training forward, and the auxiliary head over patches."""

    _prefix: Tensor

    def __init__(self, shape: ModelShape, packer: Packer) -> None:
        super().__init__()
        config = shape.config(packer.vocabulary, packer.special_ids)
        config._attn_implementation = "sdpa"
        self.stock: Any = Qwen3VLForConditionalGeneration(config)
        self.characters = nn.Linear(shape.vision_width, len(CHARACTERS))
        # Most characters are in no patch: start from there, whatever a base to go on from makes of
        # patches, or its first steps would undo what it knows.
        nn.init.zeros_(self.characters.weight)
        nn.init.constant_(self.characters.bias, -4.0)
        self._image_end = packer.image_end
        self.register_buffer("_prefix", torch.tensor(packer.prefix), persistent=False)
        self._vision_block: Callable[..., Tensor] = _vision_block
        self._text_layer: Callable[..., Tensor] = _text_layer
        self._tables = lru_cache(maxsize=256)(self._vision_tables)

    @property
    def device(self) -> torch.device:
        return self.characters.weight.device

    def compile_layers(self) -> None:
        """Compiles a block and a layer, once for all depths and canvas sizes."""
        self._vision_block = torch.compile(_vision_block, dynamic=True)
        self._text_layer = torch.compile(_text_layer, dynamic=True)

    def run_eagerly(self) -> None:
        """Undoes ``compile_layers``: not worth it for a few batches without gradients."""
        self._vision_block, self._text_layer = _vision_block, _text_layer

    def forward(self, images: Tensor, ids: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) for packed questions, and of the auxiliary head (B, N, characters).

        Args:
            images: (B, 3, H, W) in -1 to 1, sides multiples of 32.
            ids: (B, T).
            segments: (B, T), see ``packing.Row``.
        """
        seen = self.see(images)
        return self.read(seen, ids, segments), self.characters(seen.patches)

    def see(self, images: Tensor) -> Seen:
        visual = self.stock.model.visual
        grid = images.shape[2] // PATCH, images.shape[3] // PATCH
        corners, shares, cosine, sine = self._tables(grid, images.device)
        # A still image is its own two frames: the kernel's halves add up.
        kernel = visual.patch_embed.proj.weight.sum(2).flatten(1)
        states = F.linear(patchify(images), kernel, visual.patch_embed.proj.bias)
        places = (visual.pos_embed(corners) * shares[..., None]).sum(1)
        states = states + places.to(states.dtype)
        taps, deepstack = list(visual.deepstack_visual_indexes), []
        for index, block in enumerate(visual.blocks):
            states = self._vision_block(block, states, cosine, sine)
            if index in taps:
                merger = visual.deepstack_merger_list[taps.index(index)]
                deepstack.append(self._merged(merger, states))
        return Seen(grid, states, self._merged(visual.merger, states), deepstack)

    def read(self, seen: Seen, ids: Tensor, segments: Tensor) -> Tensor:
        """Logits (B, T, V) of packed questions about images already seen."""
        language = self.stock.model.language_model
        batch, start, asked = len(ids), len(self._prefix), ids.shape[1]
        # Few different lengths, all of them to the liking of fused kernels.
        spare = -(start + seen.tokens.shape[1] + 1 + asked) % _LENGTHS
        ids, segments = F.pad(ids, (0, spare)), F.pad(segments, (0, spare), value=PADDING)
        before = self._prefix.expand(batch, -1)
        after = torch.full((batch, 1), self._image_end, device=ids.device)
        embedded = language.embed_tokens(torch.cat([before, after, ids], 1)).to(seen.tokens.dtype)
        tokens = seen.tokens
        states = torch.cat([embedded[:, :start], tokens, embedded[:, start:]], 1)
        image = slice(start, start + tokens.shape[1])
        positions = self.positions(seen.grid, segments)
        # In full precision, whatever the states have.
        precise = torch.empty(0, device=states.device)
        cosine, sine = language.rotary_emb(precise, positions)
        mask = block_mask(segments, image.stop + 1, states.dtype)
        for index, layer in enumerate(language.layers):
            states = self._text_layer(layer, states, cosine, sine, mask)
            if index < len(seen.deepstack):
                added = states[:, image] + seen.deepstack[index]
                states = torch.cat([states[:, :start], added, states[:, image.stop :]], 1)
        return self.logits(language.norm(states[:, image.stop + 1 :][:, :asked]))

    def logits(self, states: Tensor) -> Tensor:
        # The head is tied to the embedding.
        return F.linear(states, self.stock.model.language_model.embed_tokens.weight)

    def positions(self, grid: tuple[int, int], segments: Tensor) -> Tensor:
        """(3, B, L): time, row and column of prefix, image and every segment from its start."""
        device, start = segments.device, len(self._prefix)
        rows, columns = grid[0] // MERGE, grid[1] // MERGE
        row = torch.arange(rows, device=device).repeat_interleave(columns) + start
        column = torch.arange(columns, device=device).repeat(rows) + start
        image = torch.stack([torch.full_like(row, start), row, column])
        before = torch.arange(start, device=device).expand(3, -1)
        after = start + max(rows, columns)
        end = torch.full((3, 1), after, device=device)
        shared = torch.cat([before, image, end], 1)[:, None].expand(-1, len(segments), -1)
        place = torch.arange(segments.shape[1], device=device).expand_as(segments)
        is_first = F.pad(segments[:, 1:] != segments[:, :-1], (1, 0), value=True)
        begun = torch.where(is_first, place, 0).cummax(1).values
        own = (place - begun + after + 1).expand(3, -1, -1)
        return torch.cat([shared, own], 2)

    def _merged(self, merger: Any, states: Tensor) -> Tensor:
        batch, patches, width = states.shape
        # The stock merger counts patches without a batch, and wants them dense.
        merged: Tensor = merger(states.reshape(batch * patches, width))
        return merged.view(batch, patches // MERGE**2, -1)

    def _vision_tables(
        self, grid: tuple[int, int], device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For N patches in merged order: the four learned places around each and their shares
        (N, 4), cosine and sine of the rotary angles (N, head width)."""
        visual = self.stock.model.visual
        rows, columns = grid
        row = torch.arange(rows).view(-1, 1).expand(rows, columns)
        column = torch.arange(columns).view(1, -1).expand(rows, columns)
        row, column = (_merged_order(places) for places in (row, column))
        side = visual.num_grid_per_side
        y, x = torch.linspace(0, side - 1, rows)[row], torch.linspace(0, side - 1, columns)[column]
        top, left = y.floor().long(), x.floor().long()
        low, right = (top + 1).clamp(max=side - 1), (left + 1).clamp(max=side - 1)
        down, across = y - top, x - left
        corners = [top * side + left, top * side + right, low * side + left, low * side + right]
        up, back = 1 - down, 1 - across
        shares = [up * back, up * across, down * back, down * across]
        width = visual.config.hidden_size // visual.config.num_heads // 2
        speeds = 10000.0 ** -(torch.arange(0, width, 2) / width)
        angles = torch.cat([row[:, None] * speeds, column[:, None] * speeds], 1).repeat(1, 2)
        tables = torch.stack(corners, 1), torch.stack(shares, 1), angles.cos(), angles.sin()
        first, second, third, fourth = (table.to(device) for table in tables)
        return first, second, third, fourth


def _merged_order(places: Tensor) -> Tensor:
    """(rows, columns) as (N,), the four patches of one token together."""
    rows, columns = (length // MERGE for length in places.shape)
    return places.reshape(rows, MERGE, columns, MERGE).transpose(1, 2).reshape(-1)


def block_mask(segments: Tensor, shared: int, dtype: torch.dtype) -> Tensor:
    """(B, 1, L, L), added to attention scores: each segment sees what is shared, and itself.

    Rows are padded in memory to a multiple of 16 bytes, as fused kernels want them.
    """
    batch, device = len(segments), segments.device
    owner = F.pad(segments, (shared, 0), value=_PREFIX)
    length = owner.shape[1]
    place = torch.arange(length, device=device)
    allowed = (owner[:, :, None] == owner[:, None]) | (place < shared)
    allowed &= place <= place[:, None]
    room = torch.zeros(batch, 1, length, -(-length // 8) * 8, dtype=dtype, device=device)
    return room[..., :length].masked_fill_(~allowed[:, None], float("-inf"))


def _vision_block(block: Any, states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """A stock vision block over (B, N, D), every image attending to itself."""
    batch, patches, _ = states.shape
    attention = block.attn
    mixed = attention.qkv(block.norm1(states))
    mixed = mixed.view(batch, patches, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = mixed.unbind(0)
    query, key = _turned(query, cosine, sine), _turned(key, cosine, sine)
    found = F.scaled_dot_product_attention(query, key, value)
    states = states + attention.proj(found.transpose(1, 2).reshape(batch, patches, -1))
    output: Tensor = states + block.mlp(block.norm2(states))
    return output


def _turned(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions, in full precision."""
    first, second = states.float().chunk(2, -1)
    turned = states * cosine + torch.cat([-second, first], -1) * sine
    return turned.to(states.dtype)


def _text_layer(layer: Any, states: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor) -> Tensor:
    output: Tensor = layer(states, position_embeddings=(cosine, sine), attention_mask=mask)
    return output
