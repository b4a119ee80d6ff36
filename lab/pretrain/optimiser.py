"""Muon for matrices, AdamW for everything else, and a schedule that follows the clock.

Muon: K. Jordan and others, "Muon: An optimizer for hidden layers in neural networks", 2024
(kellerjordan.github.io/posts/muon): the momentum of a weight matrix is made orthogonal by five
Newton-Schulz steps before it is applied. Its hidden matrices only: embeddings, positions, norms,
biases and the patch kernel go to AdamW.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonal(matrices: Tensor) -> Tensor:
    """(M, rows, columns) with all singular values brought near 1."""
    first, second, third = _QUINTIC
    wide = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    wide = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = wide @ wide.mT
        wide = first * wide + (second * square + third * square @ square) @ wide
    result: Tensor = wide.mT if matrices.shape[1] > matrices.shape[2] else wide
    return result


class Muon(torch.optim.Optimizer):
    """Steps all matrices of one shape at once, which keeps a small model's step short."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for alike in by_shape.values():
                self._step_alike(alike, group)

    def _step_alike(self, alike: list[nn.Parameter], group: dict[str, Any]) -> None:
        momentum = group["momentum"]
        buffers = [self._buffer(parameter) for parameter in alike]
        gradients = [parameter.grad for parameter in alike if parameter.grad is not None]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        # Nesterov's look ahead.
        ahead = torch._foreach_lerp(gradients, buffers, momentum)
        stacked = torch.stack(list(ahead))
        # Half precision is enough for the iteration, and twice as fast.
        update = orthogonal(stacked.bfloat16() if stacked.is_cuda else stacked)
        rows, columns = stacked.shape[1:]
        rate = group["lr"] * max(1.0, rows / columns) ** 0.5
        weights: list[Tensor] = [*alike]
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, list(update.to(stacked.dtype).unbind(0)), alpha=-rate)

    def _buffer(self, parameter: nn.Parameter) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum"]
        return buffer


class Optimiser:
    """Both optimisers over a network, with one schedule."""

    def __init__(self, network: nn.Module, muon_rate: float, adam_rate: float) -> None:
        named = dict(network.named_parameters())
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in named.items()}
        matrices = [p for name, p in named.items() if _is_hidden_matrix(name, p)]
        chosen = set(matrices)
        others = [p for p in named.values() if p not in chosen]
        is_cuda = others[0].is_cuda
        self._muon = Muon(matrices, muon_rate)
        self._adam = torch.optim.AdamW(
            others, adam_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=is_cuda
        )
        self._others = others
        self._rates = (muon_rate, adam_rate)

    def step(self, share: float) -> None:
        """One step at a share of the full rates; then clears the gradients."""
        nn.utils.clip_grad_norm_(self._others, 1.0)
        for optimiser, rate in zip((self._muon, self._adam), self._rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * share
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    @property
    def has_momentum(self) -> bool:
        return bool(self._muon.state)

    def state(self) -> dict[str, Tensor]:
        """Momentum of every parameter by name, such as ``momentum/stock.…`` and ``exp_avg/…``."""
        tensors = {}
        for optimiser in (self._muon, self._adam):
            for parameter, values in optimiser.state.items():
                for kind, value in values.items():
                    tensors[f"{kind}/{self._names[parameter]}"] = value
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Takes over what ``state`` gave; parameters that it lacks start without momentum."""
        parameters = {name: parameter for parameter, name in self._names.items()}
        for key, value in tensors.items():
            kind, _, name = key.partition("/")
            parameter = parameters[name]
            optimiser = self._muon if kind == "momentum" else self._adam
            # Adam counts its steps in single precision, and on the parameter's device if fused.
            device = parameter.device if kind != "step" or parameter.is_cuda else value.device
            optimiser.state[parameter][kind] = value.to(device, torch.float32)


def _is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    is_table = "embed" in name or name.startswith("characters")
    return parameter.dim() == 2 and not is_table


def rate_share(step: int, over: float, warm_up: int, decay_share: float) -> float:
    """Share of the full rates: warm-up by steps, then full, then down to nearly nothing.

    ``over`` is the share of the training that is over.
    """
    left = max(0.01, 1 - over)
    return min(1.0, (step + 1) / warm_up) * min(1.0, left / decay_share)
