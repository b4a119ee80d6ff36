"""Whether a base still gives numbers with an adapter on: finite weights may have diverged."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pointsman.adapters.files import DECODER
from pointsman.adapters.layout import key_of
from pointsman.adapters.weights import Lora
from pointsman.conversation import Prompt, make_prompt
from pointsman.errors import ArtefactError
from pointsman.models.base import Base
from pointsman.models.features import probe_prompts

AT_ONCE = 8
"""Adapters in one batch"""
TEXT = make_prompt(None, "Click the second option, then pick March 14")
DIVERGED = "with it the base gives NaN or infinity for a synthetic prompt"
EARLIER = "take an earlier checkpoint; check lora_alpha"


def diverged(name: str) -> ArtefactError:
    """The error of an adapter whose answers are not finite."""
    return ArtefactError(f"adapter {name}: [nan] {DIVERGED}; {EARLIER}")


def probe_logits(base: Base, prompts: Sequence[Prompt] | None = None) -> Tensor:
    """The next token's logits (B, vocabulary) for prompts, by default for one with an image."""
    encoded = base.encode(prompts or [next(probe_prompts())])
    with torch.inference_mode():
        # With pixels: cached image features would hide a change of the tower.
        logits: Tensor = base.model(**base.stock_inputs(encoded), logits_to_keep=1).logits
    return logits[:, -1].float()


def check_finite(base: Base, loras: Sequence[Lora]) -> None:
    """Answers a synthetic text with each adapter; the base's projections may be replaced.

    A plain adapter leaves the vision tower as it is, so this needs no image and takes milliseconds.

    Raises:
        ArtefactError: an adapter, or the base without any, gives NaN or infinity.
    """
    for start in range(0, len(loras), AT_ONCE):
        batch = loras[start : start + AT_ONCE]
        with base.without_adapters(), _acting(base, batch):
            fine = probe_logits(base, [TEXT] * (len(batch) + 1)).isfinite().all(-1).tolist()
        if not fine[-1]:
            raise ArtefactError(
                f"{base.id} itself gives NaN or infinity; use another dtype or device"
            )
        for lora, is_fine in zip(batch, fine[:-1], strict=True):
            if not is_fine:
                raise diverged(lora.name)


@contextmanager
def _acting(base: Base, loras: Sequence[Lora]) -> Iterator[None]:
    """Inside the block row i of a batch is answered with ``loras[i]``, others with the base."""
    hooks = []
    for path, module in base.core.language_model.named_modules():
        key = key_of(f"{DECODER}{path}")
        matrices = [lora.weights.get(key) for lora in loras] if key is not None else []
        if any(matrices):
            hooks.append(module.register_forward_hook(partial(_added, matrices)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _added(
    matrices: Sequence[tuple[Tensor, Tensor] | None], _: Any, args: tuple[Tensor], output: Tensor
) -> Tensor:
    """A projection's output (B, T, d_out) with each row's own LoRA, in the base's precision."""
    output = output.clone()
    for row, pair in enumerate(matrices):
        if pair is not None:
            a, b = (matrix.to(args[0]) for matrix in pair)
            output[row] += args[0][row] @ a.mT @ b.mT
    return output
