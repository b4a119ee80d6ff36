"""The KV cache: one slot per running request, each slot with its own length.

The stock attention modules are kept. They look up their attention function by name. Ours,
``pointsman``, writes to the slots that the forward names and attends to their content. Without
slots it is the stock function, so every other use of the model works as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from pointsman.engine.cuda_graphs import Graph
from pointsman.models.attention import attention
from pointsman.models.cpu_kernels import to_device

NAME = "pointsman"
KEYS, VALUES = "slot_keys", "slot_values"
"""Attributes of the attention modules"""
GRAIN = 256
"""Slots grow, and compiled steps attend, in units of this many tokens."""
FINE_GRAIN = 32
"""Units in which other steps attend"""

SPARE = 8
"""Tokens of a slot that are never used: compilers make a case of their own of a whole slot"""


class KVCache:
    """Keys and values (slots, key heads, length, head size), held by the attention modules.

    There they are inputs of a layer, like its weights, so one compiled layer serves all.
    """

    def __init__(self, core: Any, count: int) -> None:
        install(core)
        self._modules = [layer.self_attn for layer in core.language_model.layers]
        self._config, self.count = core.config.text_config, count
        self._weight: Tensor = core.language_model.embed_tokens.weight
        self._device = self._weight.device
        self.length = 0
        self._mover: Graph[None] | None = None
        self.reserve(GRAIN)

    @torch.inference_mode(False)  # compiled layers would treat tensors of that mode as different
    @torch.no_grad()
    def reserve(self, length: int) -> bool:
        """Makes room for this many tokens in each slot; returns whether the tensors changed.

        Without memory for all new tensors it raises, and the old ones stay.
        """
        if length <= self.length:
            return False
        new = GRAIN * -(-max(length, self.length * 3 // 2) // GRAIN)
        shape = (self.count, self._config.num_key_value_heads, new + SPARE, self._config.head_dim)
        tables = []
        for module in self._modules:
            for name in (KEYS, VALUES):
                table = self._weight.new_zeros(shape)
                if self.length:
                    table[:, :, : self.length] = getattr(module, name)[:, :, : self.length]
                # Slots may grow; their number is the engine's, though another engine has another.
                torch._dynamo.maybe_mark_dynamic(table, 2)
                torch._dynamo.mark_static(table, 0)
                tables.append((module, name, table))
        self._mover = None
        for module, name, table in tables:
            setattr(module, name, table)
        self.length = new
        return True

    def clear(self, slots: Tensor, start: int) -> None:
        """Zeroes slots (B,) from position ``start``.

        A mask does not hide what an earlier request left there if it is not finite: NaN - inf and
        0 * NaN are NaN.
        """
        for table in self._tables():
            table[:, :, start:].index_fill_(0, slots, 0)

    def move(self, source: int, target: int, length: int) -> None:
        """Copies a slot's first tokens to another slot; on CUDA, whole slots in one launch."""
        if self._device.type != "cuda":
            for table in self._tables():
                table[target, :, :length] = table[source, :, :length]
            return
        places = to_device(torch.tensor([source, target]), self._device)
        if self._mover is None:
            self._mover = Graph(self._copy, (places,))
        self._mover(places)

    def _copy(self, places: Tensor) -> None:
        source, target = torch.split(places, 1)
        for table in self._tables():
            table.index_copy_(0, target, table.index_select(0, source))

    @property
    def bytes(self) -> int:
        return sum(table.nbytes for table in self._tables())

    def _tables(self) -> Iterator[Tensor]:
        for module in self._modules:
            yield from (getattr(module, KEYS), getattr(module, VALUES))


@dataclass
class CacheView:
    """Where one forward stores its tokens (B, T), and what they attend to."""

    rows: Tensor | None
    """(B,) slots of the requests; None: the first B"""
    start: Tensor | None
    """(B,) number of tokens already in each slot; None: the slots are empty"""
    bias: Tensor | None = None
    """(B, 1, T, reach), added to attention scores; None if the slots are empty"""

    def write(self, table: Tensor, new: Tensor) -> None:
        """Stores keys or values (B, heads, T, size)."""
        batch, _, steps, _ = new.shape
        device = new.device
        owners = torch.arange(batch, device=device) if self.rows is None else self.rows
        places = torch.arange(steps, device=device)
        if self.start is not None:
            places = self.start[:, None] + places
        # Not a slice of the table first: a compiler would copy that slice of every slot.
        table[owners[:, None], :, places] = new.transpose(1, 2)

    def read(self, table: Tensor, batch: int) -> Tensor:
        """Keys or values (B, heads, reach, size)."""
        assert self.bias is not None
        # As a number of its own, it would be compiled for each value.
        reach = self.bias.shape[-1]
        return table[slice(batch) if self.rows is None else self.rows, :, :reach]


def reach_bias(start: Tensor, tokens: int, reach: int, dtype: torch.dtype) -> Tensor:
    """(B, 1, T, reach): 0 where a token may attend, -inf after it."""
    own = start[:, None] + torch.arange(tokens, device=start.device)
    hidden = torch.arange(reach, device=start.device) > own[..., None]
    bias = torch.zeros(hidden.shape, dtype=dtype, device=start.device)
    return bias.masked_fill_(hidden, float("-inf"))[:, None]


def slot_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    view: CacheView | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention of queries (B, heads, T, size); the stock function unless there is a view."""
    if view is None:
        return attention(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    keys, values = getattr(module, KEYS), getattr(module, VALUES)
    view.write(keys, key)
    view.write(values, value)
    if view.start is None:
        # Padding comes after every real token, so causal attention never sees it.
        output = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=True
        )
        return output.transpose(1, 2).contiguous(), None
    keys, values = view.read(keys, len(query)), view.read(values, len(query))
    batch, heads, steps, size = query.shape
    # Query heads of one key head are grouped, so that no key is copied.
    grouped = query.reshape(batch, keys.shape[1], -1, size)
    scores = grouped @ keys.mT * module.scaling
    assert view.bias is not None
    scores = scores.view(batch, heads, steps, -1) + view.bias
    shares = functional.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
    output = shares.view(batch, keys.shape[1], -1, shares.shape[-1]) @ values
    return output.view(batch, heads, steps, size).transpose(1, 2), None


def install(core: Any) -> None:
    """Makes the decoder of a Qwen3VLModel use this attention."""
    AttentionInterface.register(NAME, slot_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    core.language_model.config._attn_implementation = NAME
