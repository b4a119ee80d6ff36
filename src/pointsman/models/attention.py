"""Attention on CUDA: PyTorch's, without the kernels that are slow or wrong."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kw: Any
) -> tuple[Tensor, Tensor | None]:
    """transformers' function of PyTorch's attention; queries and the rest (B, heads, T, size).

    For models with one key head, it repeats that head for all queries without a copy. PyTorch's
    memory-efficient kernel then reads wrong keys if there is a mask and their number is one more
    than a multiple of 32 (pytorch/pytorch#191937), so these models use the plain kernel.
    """
    is_wrong = key.is_cuda and key.shape[1] == 1 and attention_mask is not None
    kernels: AbstractContextManager[None] = (
        sdpa_kernel(SDPBackend.MATH) if is_wrong else nullcontext()
    )
    with kernels:
        found: tuple[Tensor, Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **kw
        )
    return found


def prepare_attention(device: torch.device) -> None:
    """Sets up attention on a device, for the whole process: PyTorch has no narrower switch.

    cuDNN's is turned off: it takes up to half a second to plan for each new shape, and screens have
    any size.
    """
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
        AttentionInterface.register("sdpa", attention)
