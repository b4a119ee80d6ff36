"""The compiled vision tower: one compiled block serves all; recurring sizes are CUDA graphs.

On CUDA the first picture of a size is computed by the stock blocks: few sizes come only once.

A stock block splits its patches at image boundaries in Python, which compilers cannot trace. It
leaves the split to attention functions whose name says that they can do it themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.backends.cuda import SDPAParams, can_use_cudnn_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from pointsman.engine.cuda_graphs import RecurringGraphs, attention_of_fixed_shapes

NAME = "pointsman_flash"
"""transformers looks for "flash" in the name"""
SIZES = 16
"""Maximum number of image sizes kept as graphs; windows have few sizes"""
_Output = BaseModelOutputWithDeepstackFeatures


def compile_tower(tower: Any, compiler: Callable[..., Callable[..., Tensor]]) -> None:
    """Compiles a Qwen3VLVisionModel with ``compiler``; its weights are kept."""
    AttentionInterface.register(NAME, packed_attention)
    tower.config._attn_implementation = NAME
    tower.forward = CompiledTower(tower, compiler)


class CompiledTower:
    """Replaces the tower's ``forward``."""

    def __init__(self, tower: Any, compiler: Callable[..., Callable[..., Tensor]]) -> None:
        self._tower = tower
        self._is_cuda = tower.pos_embed.weight.is_cuda
        self._any = compiler(_through, dynamic=True)
        self._fixed = compiler(_through_by_cudnn, dynamic=True)
        self._graphs = RecurringGraphs[_Output](SIZES)
        for block in tower.blocks:
            for module in block.modules():
                # Compilers choose their own matrix products, and would recompile each such block.
                vars(module).pop("forward", None)
            block.forward = partial(self._block, block)

    def __call__(self, values: Tensor, grid_thw: Tensor, **places: Any) -> _Output:
        def whole(values: Tensor, through: Callable[..., Tensor]) -> _Output:
            self._through = through
            stock = type(self._tower).forward
            output: _Output = stock(self._tower, values, grid_thw=grid_thw, **places)
            return output

        if not self._is_cuda or grid_thw.is_cuda:  # to look at the grid would wait for the device
            return whole(values, self._any)
        size = (*grid_thw.flatten().tolist(), values.shape[1])
        compiled = self._fixed if self._is_for_cudnn(values) else self._any
        found: Any = self._graphs(
            size, partial(whole, through=compiled), (values,), partial(whole, through=_through)
        )
        taps = [tap.clone() for tap in found.deepstack_features]
        return _Output(pooler_output=found.pooler_output.clone(), deepstack_features=taps)

    def _is_for_cudnn(self, values: Tensor) -> bool:
        """Whether cuDNN's attention, the fastest one, accepts an image of this many patches.

        It takes up to half a second to plan for each size, so only graphs use it.
        """
        config, heads = self._tower.config, self._tower.config.num_heads
        shape = (1, heads, len(values), config.hidden_size // heads)
        states = self._tower.pos_embed.weight.new_empty(shape)
        parts: Any = (states, states, states, None, 0.0, False, False)
        with attention_of_fixed_shapes():
            return can_use_cudnn_attention(SDPAParams(*parts))

    def _block(self, block: Any, states: Tensor, **kwargs: Any) -> Tensor:
        # The first block reads a view, for which compilers would make a case of its own.
        return self._through(block, states.clone() if states._is_view() else states, **kwargs)


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    cu_seq_lens_k: Tensor,
    max_length_k: int,
    by_cudnn: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention of each image's patches (1, heads, P, size) to one another.

    Args:
        cu_seq_lens_q: (images + 1,) where images begin and end.
        max_length_q: number of patches of the largest image.
    """
    if by_cudnn:
        # Named explicitly: for tensors of any size, the automatic choice would not be this one.
        attend = torch.ops.aten._scaled_dot_product_cudnn_attention
        output = attend(query, key, value, None, False, scale=kwargs["scaling"])[0]
        return output.transpose(1, 2), None
    if max_length_q == query.shape[2]:
        return sdpa_attention_forward(module, query, key, value, None, **kwargs)
    lengths = cu_seq_lens_q.diff().tolist()
    images = zip(*(torch.split(part, lengths, 2) for part in (query, key, value)), strict=True)
    seen = [sdpa_attention_forward(module, q, k, v, None, **kwargs)[0] for q, k, v in images]
    return torch.cat(seen, 1), None


def _through(block: Any, states: Tensor, **kwargs: Any) -> Tensor:
    output: Tensor = type(block).forward(block, states, **kwargs)
    return output


def _through_by_cudnn(block: Any, states: Tensor, **kwargs: Any) -> Tensor:
    return _through(block, states, by_cudnn=True, **kwargs)
