"""Matrix products on a CPU, and a model's use of them.

PyTorch gives float32 products to MKL, which leaves AVX-512 unused on processors not made by Intel;
the oneDNN in the same build does not. On Intel's, MKL is the faster one.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional


def _is_intel() -> bool:
    """Whether this processor is made by Intel, as far as the system says."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return "GenuineIntel" in platform.processor()
    with path.open() as info:  # the first of its processors; the whole of a server is long
        return "GenuineIntel" in info.read(512)


HAS_ONEDNN: bool = (
    platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
)
_PREFERS_ONEDNN = HAS_ONEDNN and not _is_intel()
_ALONE_WEIGHTS, _ALONE_WORK = 2**22, 2**27
"""Elements of a weight matrix, and multiplications of one product, below which threads do not pay:
each is woken for every product, which takes longer than a small product."""

_CAPACITIES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""Environment variables: oneDNN's and PyTorch's numbers of products that they keep the code of"""
_SHAPES = "128"
"""By themselves both keep 1,024. Every length of a prompt is another, so that memory would grow for
thousands of requests, by 0.8 GB on the pocket, and nothing would be faster."""
for _name in _CAPACITIES:  # they are read once, at the process's first product
    os.environ.setdefault(_name, _SHAPES)


def threads_beside(most: int) -> int:
    """Threads, at most so many, for work beside a model's.

    More than cores would only wait for each other and take cores from the model.
    """
    return min(most, max(1, (os.cpu_count() or 2) - 1))


@contextmanager
def threads_for(tokens: int, weight: Tensor) -> Iterator[None]:
    """As many threads as pay for products of this many tokens with matrices like ``weight``."""
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
    """``functional.linear`` of x (..., d_in) and weight (d_out, d_in), by the faster library."""
    if not by_onednn(x, weight):
        return functional.linear(x, weight, bias)
    # The operator that the compiler's own graphs call; it has no gradient.
    output: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return output


def by_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether ``linear`` computes this product by oneDNN."""
    return (
        _PREFERS_ONEDNN
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()  # compilers choose for themselves
        and not torch.is_autocast_enabled("cpu")
    )


def use_onednn_linears(model: nn.Module) -> None:
    """Lets a model's linear layers compute with ``linear``."""
    for module in model.modules():
        if type(module) is nn.Linear:  # subclasses compute something else
            module.forward = partial(_linear_of, module)  # type: ignore[method-assign]


def _linear_of(module: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, module.weight, module.bias)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; the host does not wait for the copy.

    A copy from pageable memory to CUDA would wait for all work in progress there.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
