"""What a step or a prefill made. It is copied to the host while the device goes on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

NOT_FINITE = -1
"""In place of a token: the logits are not finite"""


class HostCopy:
    """A copy of a tensor on the host: whoever reads it waits for the device."""

    def __init__(self, tensor: Tensor) -> None:
        self._copy = tensor
        self._is_there: Any = None
        if tensor.is_cuda:
            # Pinned, or the copy would wait for what is asked of the device meanwhile.
            self._copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._copy.copy_(tensor, non_blocking=True)
            self._is_there = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._is_there.record()

    def read(self) -> list[Any]:
        if self._is_there is not None:
            self._is_there.synchronize()
        values: list[Any] = self._copy.tolist()
        return values


class Step:
    """What a step or a prefill made; the host waits for the device when it asks for the tokens.

    Args:
        likeliest: (count,) tokens, by slot or by request.
        logits: (count, vocabulary); the next step overwrites those of a step.
    """

    def __init__(self, likeliest: Tensor, logits: Tensor) -> None:
        self.likeliest, self.logits = likeliest, logits
        self._tokens = HostCopy(likeliest)

    def tokens(self) -> list[int]:
        """The likeliest token of each, or ``NOT_FINITE``."""
        return self._tokens.read()


def likeliest_of(logits: Tensor) -> Tensor:
    """The most likely tokens (B,) of logits (B, vocabulary), or ``NOT_FINITE``."""
    highest, likeliest = logits.max(-1)  # NaN is the largest of all
    return likeliest.where(highest.isfinite(), NOT_FINITE)
