"""Several devices of one host: each draws and learns from chunks of its own, as one training.

``torchrun`` starts a process (a rank) for each. Gradients are averaged before every step, so that
all ranks hold the same weights; the first one, the leader, looks at the clock and writes files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn


class Ranks:
    """The ranks of this training; a single one where ``torchrun`` did not start it."""

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        has_cuda = torch.cuda.is_available()
        place = int(os.environ.get("LOCAL_RANK", "0"))
        self.device = torch.device("cuda", place) if has_cuda else torch.device("cpu")
        if has_cuda:
            torch.cuda.set_device(self.device)
        if self.count > 1:
            dist.init_process_group("cpu:gloo,cuda:nccl" if has_cuda else "gloo")

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def agree(self, share: float, goes_on: bool, screens: int) -> tuple[float, bool, int]:
        """The leader's share of the full rates and whether it goes on; the screens of all."""
        if self.count == 1:
            return share, goes_on, screens
        mine = [share, float(goes_on)] if self.leads else [0.0, 0.0]
        # On the CPU: it must wait for no queued work of the device.
        said = torch.tensor([*mine, screens], dtype=torch.float64)
        dist.all_reduce(said)
        return float(said[0]), bool(said[1]), int(said[2])

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces every gradient by its mean over the ranks."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        # One message: most gradients are small.
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        pairs = zip(parts, gradients, strict=True)
        torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in pairs])

    def close(self) -> None:
        if self.count > 1:
            dist.destroy_process_group()
