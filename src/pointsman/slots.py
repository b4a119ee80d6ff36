"""Keys and values of the requests at work: one slot each, every slot of a length of its own.

The stock attention modules are kept. They look up their attention function by name, and ours,
``pointsman``, writes to the slots that the forward names and attends to what lies there; without
slots it is the stock one, so every other use of the model goes on as before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "pointsman"
GRAIN = 256
"""Tokens by which the slots' length grows, and in which steps attend."""


class Slots:
    """Keys and values (slots, key heads, length, head size) of every decoder layer."""

    def __init__(self, config: Any, count: int, dtype: torch.dtype, device: torch.device) -> None:
        self._config, self.count = config, count
        self._dtype, self._device = dtype, device
        self.length = 0
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.reserve(GRAIN)

    def reserve(self, length: int) -> bool:
        """Makes room for so many tokens in each slot; whether the tensors are other ones now."""
        if length <= self.length:
            return False
        new = GRAIN * -(-max(length, self.length * 3 // 2) // GRAIN)
        shape = (self.count, self._config.num_key_value_heads, new, self._config.head_dim)
        for tables in (self.keys, self.values):
            for layer in range(self._config.num_hidden_layers):
                table = torch.zeros(shape, dtype=self._dtype, device=self._device)
                if self.length:
                    table[:, :, : self.length] = tables[layer]
                    tables[layer] = table
                else:
                    tables.append(table)
        self.length = new
        return True

    @property
    def bytes(self) -> int:
        return sum(table.nbytes for table in (*self.keys, *self.values))


@dataclass
class View:
    """Where the tokens (B, T) of one forward go, and what they attend to."""

    slots: Slots
    rows: Tensor | None
    """(B,) slots of the requests; None: the first B"""
    start: Tensor | None
    """(B,) tokens that lie in each slot already; None: the slots are empty"""
    bias: Tensor | None = None
    """(B, 1, T, reach), added to attention scores; None where the slots are empty"""
    reach: int = 0
    """Tokens of a slot that are looked at"""

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Stores keys and values (B, heads, T, size)."""
        for tables, new in ((self.slots.keys, keys), (self.slots.values, values)):
            table = tables[layer]
            if self.start is None:
                rows = slice(len(new)) if self.rows is None else self.rows
                table[rows, :, : new.shape[2]] = new
                continue
            batch, steps = (torch.arange(n, device=new.device) for n in (len(new), new.shape[2]))
            owners = batch if self.rows is None else self.rows
            places = self.start[:, None] + steps
            table[owners[:, None], :, places] = new.transpose(1, 2)

    def read(self, layer: int, batch: int) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, reach, size)."""
        rows = slice(batch) if self.rows is None else self.rows
        keys, values = self.slots.keys[layer], self.slots.values[layer]
        return keys[rows, :, : self.reach], values[rows, :, : self.reach]


def reach_bias(start: Tensor, tokens: int, reach: int, dtype: torch.dtype) -> Tensor:
    """(B, 1, T, reach): 0 where a token may look, -inf behind it."""
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
    view: View | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention of queries (B, heads, T, size); the stock one unless there is a view."""
    if view is None:
        found: tuple[Tensor, Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return found
    view.write(module.layer_idx, key, value)
    if view.start is None:
        # Padding lies behind every real token: what is causal never sees it.
        output = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=True
        )
        return output.transpose(1, 2).contiguous(), None
    keys, values = view.read(module.layer_idx, len(query))
    batch, heads, steps, size = query.shape
    # Query heads of one key head together, so that no key is copied.
    grouped = query.reshape(batch, keys.shape[1], -1, size)
    scores = grouped @ keys.mT * module.scaling
    assert view.bias is not None
    scores = scores.view(batch, heads, steps, -1) + view.bias
    shares = functional.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
    output = shares.view(batch, keys.shape[1], -1, shares.shape[-1]) @ values
    return output.view(batch, heads, steps, size).transpose(1, 2), None


def install(core: Any) -> None:
    """Lets the decoder of a Qwen3VLModel look its attention up here."""
    AttentionInterface.register(NAME, slot_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    core.language_model.config._attn_implementation = NAME
