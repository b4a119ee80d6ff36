"""Matrix products on a CPU, and a model's use of them.

PyTorch gives float32 products to MKL, which leaves AVX-512 unused on processors not made by Intel;
the oneDNN in the same build does not.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_HAS_ONEDNN: bool = (
    platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
)


_ALONE_WEIGHTS, _ALONE_WORK = 2**22, 2**27
"""Elements of a weight matrix, and multiplications of one product, under which threads cost more
than they do: each is woken for every product, for longer than a small one takes."""


@contextmanager
def threads_for(tokens: int, weight: Tensor) -> Iterator[None]:
    """As many threads as pay for products of so many tokens with matrices like ``weight``."""
    before, size = torch.get_num_threads(), weight.numel()
    is_small = size < _ALONE_WEIGHTS and tokens * size < _ALONE_WORK
    if weight.device.type != "cpu" or not is_small or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``functional.linear`` of x (..., d_in) and weight (d_out, d_in), on a CPU by oneDNN."""
    if not _by_onednn(x, weight):
        return functional.linear(x, weight, bias)
    # What the compiler's own graphs call; there is no gradient through it.
    output: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return output


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        _HAS_ONEDNN
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()  # compilers choose for themselves
        and not torch.is_autocast_enabled("cpu")
    )


def quicken(model: Any) -> None:
    """Lets a Qwen3VLForConditionalGeneration compute with ``linear``, and see images in half.

    Its modules keep their weights and names.
    """
    embed = model.model.visual.patch_embed
    embed.forward = partial(_still_patches, embed)
    quicken_linears(model)


def quicken_linears(model: nn.Module) -> None:
    """Lets a model's linear layers compute with ``linear``."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.forward = partial(_linear_of, module)  # type: ignore[method-assign]


def _linear_of(module: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, module.weight, module.bias)


def _still_patches(embed: Any, patches: Tensor) -> Tensor:
    """Patches (P, channels * frames * area) of still images as states (P, hidden).

    A still image is its own two frames, so that the two halves of the kernel are one. The stock
    module is a convolution in three dimensions, for which devices have no fast kernels.
    """
    kernel: Tensor = embed.proj.weight
    channels, frames = kernel.shape[1:3]
    frame = patches.view(len(patches), channels, frames, -1)[:, :, 0].flatten(1)
    return linear(frame.to(kernel.dtype), kernel.sum(2).flatten(1), embed.proj.bias)
