"""Attention: PyTorch's, without the kernels that are slow or wrong."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from pointsman.models.cpu_kernels import by_onednn, linear

NAME = "pointsman_kernels"
"""Of ``attention`` among those of transformers"""
_LONG = 2**18
"""Scores of a head, queries times keys, from which the products are worth a call each"""
_BLOCK, _ROWS = 800_000, 192
"""Scores that are held at once, in the caches of a core, and the fewest queries of a product"""


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kw: Any
) -> tuple[Tensor, Tensor | None]:
    """transformers' function of PyTorch's attention; queries and the rest (B, heads, T, size).

    On a CPU, PyTorch's kernel gives its products to MKL, see ``cpu_kernels``. Those of long images
    are computed by oneDNN instead, which halves their time on processors not made by Intel.

    For models with one key head, it repeats that head for all queries without a copy. PyTorch's
    memory-efficient kernel then reads wrong keys if there is a mask and their number is one more
    than a multiple of 32 (pytorch/pytorch#191937), so these models use the plain kernel.
    """
    if attention_mask is None and not kw.get("is_causal", True) and _is_long(query, key):
        return _by_blocks(query, key, value, kw["scaling"]), None
    is_wrong = key.is_cuda and key.shape[1] == 1 and attention_mask is not None
    kernels: AbstractContextManager[None] = (
        sdpa_kernel(SDPBackend.MATH) if is_wrong else nullcontext()
    )
    with kernels:
        found: tuple[Tensor, Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **kw
        )
    return found


def _is_long(query: Tensor, key: Tensor) -> bool:
    is_same = query.shape[:2] == key.shape[:2]
    return is_same and query.shape[2] * key.shape[2] >= _LONG and by_onednn(query, key)


def _by_blocks(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Full attention (B, T, heads, size), for some queries of one head at a time."""
    batch, heads, length, size = query.shape
    output = query.new_empty(batch, length, heads, size)
    rows = max(_ROWS, _BLOCK // key.shape[2])
    for sample in range(batch):
        for head in range(heads):
            keys = key[sample, head] * scaling
            values = value[sample, head].t().contiguous()
            for start in range(0, length, rows):
                scores = linear(query[sample, head, start : start + rows], keys)
                torch.softmax(scores, -1, out=scores)
                output[sample, start : start + rows, head] = linear(scores, values)
    return output


def prepare_attention(device: torch.device) -> None:
    """Sets up attention on a device.

    On CUDA, that is for the whole process, since PyTorch has no narrower switch: cuDNN's is turned
    off. It takes up to half a second to plan for each new shape, and screens have any size.
    """
    AttentionInterface.register(NAME, attention)
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
        AttentionInterface.register("sdpa", attention)
