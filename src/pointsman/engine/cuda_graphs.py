"""CUDA graphs: kernels launched together instead of one by one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Output = TypeVar("Output")


class Graph(Generic[Output]):
    """A captured function of tensors. Its output is the same tensors each time.

    Args:
        moving: counters that a call advances; capturing does not advance them.
    """

    def __init__(
        self,
        function: Callable[..., Output],
        inputs: Sequence[Tensor] = (),
        moving: Sequence[Tensor] = (),
    ) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        before = [counter.clone() for counter in moving]
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # compiles, and lets libraries take what they need
            function(*self._inputs)
            for counter, value in zip(moving, before, strict=True):
                counter.copy_(value)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads of the process may use the device meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._output = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Output:
        for mine, new in zip(self._inputs, inputs, strict=True):
            mine.copy_(new)
        self._graph.replay()
        return self._output


class RecurringGraphs(Generic[Output]):
    """Functions of recurring shapes as graphs: captured when a shape comes for the second time.

    Args:
        most: maximum number of shapes; the least recently used ones are dropped.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._graphs: OrderedDict[tuple[int, ...], Graph[Output] | None] = OrderedDict()
        """None for shapes seen once"""

    def __call__(
        self,
        key: tuple[int, ...],
        function: Callable[..., Output],
        inputs: Sequence[Tensor],
        once: Callable[..., Output] | None = None,
    ) -> Output:
        """What the function gives for these inputs; from a graph, the same tensors each time.

        Args:
            key: of the shape; the function may depend on nothing else that changes.
            once: runs in place of the function when the shape comes for the first time.
        """
        is_new = key not in self._graphs
        graph = self._graphs.setdefault(key, None)
        self._graphs.move_to_end(key)
        if is_new:
            if len(self._graphs) > self._most:
                self._graphs.popitem(last=False)
            return (once or function)(*inputs)
        with attention_of_fixed_shapes():
            if graph is None:
                graph = self._graphs[key] = Graph(function, inputs)
            return graph(*inputs)

    def clear(self) -> None:
        self._graphs.clear()


def attention_of_fixed_shapes() -> AbstractContextManager[None]:
    """Uses cuDNN's attention, the fastest for recurring shapes.

    It takes up to half a second to plan for each new shape, so it is off elsewhere.
    """
    backends = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]
    backends += [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    context: AbstractContextManager[None] = sdpa_kernel(backends, set_priority=True)
    return context
