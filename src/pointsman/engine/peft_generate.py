"""Answers of one batch through PEFT and ``generate``: one adapter's rows after another's."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from pointsman.adapters.peft import adapter_on
from pointsman.adapters.with_loras import GREEDY
from pointsman.conversation import Prompt
from pointsman.engine.answer import FinishReason
from pointsman.engine.request import not_finite
from pointsman.models.base import Base
from pointsman.models.encoding import Encoded

Limit = Callable[[int], bool]
"""Whether an answer of this many tokens ends, if it does not end by itself"""


def said_by_all(
    base: Base,
    names: Sequence[str | None],
    prompts: Sequence[Prompt],
    encoded: Encoded,
    limits: Sequence[Limit],
) -> list[tuple[list[int], FinishReason]]:
    """The tokens that answer each prompt, and why they end.

    Args:
        names: the adapter of each prompt; None is the base.
        encoded: the prompts, padded on the left, on the device.
        limits: when each answer ends, if not by itself.
    """
    with torch.inference_mode(), base.without_adapters():
        read = (encoded, base.image_features(encoded))
    answers: dict[int, tuple[list[int], FinishReason]] = {}
    for name in dict.fromkeys(names):
        rows = [row for row, other in enumerate(names) if other == name]
        said = _said(base, name, prompts, read, rows, [limits[row] for row in rows])
        for row, tokens in zip(rows, said, strict=True):
            answers[row] = _whole(tokens, base.ends)
    return [answers[row] for row in range(len(prompts))]


def _said(
    base: Base,
    name: str | None,
    prompts: Sequence[Prompt],
    read: tuple[Encoded, dict[str, Any]],
    rows: list[int],
    limits: Sequence[Limit],
) -> list[list[int]]:
    """One adapter's answer tokens for some rows of a batch; ``read`` holds the image features."""
    encoded, image_features = read
    batch, shown = _rows(prompts, encoded, rows)
    if name is not None and shown and _changes_the_tower(base, name):
        images = encoded["image_index"][shown].tolist()
        batch["pixel_values"] = base.pixel_values(encoded, images)
    else:
        batch["mm_encoder_outputs"] = _picked(image_features, shown)
    start = batch["input_ids"].shape[1]
    ends = _Limits(start, limits)
    room = int(base.config.text_config.max_position_embeddings) - start
    with torch.inference_mode(), adapter_on(base, name):
        tokens = base.model.generate(
            **batch,
            max_new_tokens=max(1, room),
            stopping_criteria=[ends],
            logits_processor=[_Finite(name)],
            **GREEDY,
        )
    new: list[list[int]] = tokens[:, start:].tolist()
    return [said[:end] for said, end in zip(new, ends.ends, strict=True)]


class _Limits(StoppingCriteria):
    """Ends each row of a batch by a limit of its own.

    Args:
        start: tokens of the padded prompts.
    """

    def __init__(self, start: int, limits: Sequence[Limit]) -> None:
        self._start, self._limits = start, limits
        self.ends: list[int | None] = [None] * len(limits)
        """Tokens after which a row reached its limit"""

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        said = input_ids.shape[1] - self._start
        for row, limit in enumerate(self._limits):
            if self.ends[row] is None and limit(said):
                self.ends[row] = said
        return torch.tensor([end is not None for end in self.ends], device=input_ids.device)


class _Finite(LogitsProcessor):
    """Raises ``ArtefactError`` if logits are not finite: any token would be arbitrary."""

    def __init__(self, adapter: str | None) -> None:
        self._adapter = adapter

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not bool(scores.amax(-1).isfinite().all()):
            raise not_finite(self._adapter)
        return scores


def _whole(tokens: list[int], ends: frozenset[int]) -> tuple[list[int], FinishReason]:
    """Tokens up to the one that ends the answer, without the padding after it."""
    for place, token in enumerate(tokens, 1):
        if token in ends:
            return tokens[:place], "stop"
    return tokens, "length"


def _changes_the_tower(base: Base, name: str) -> bool:
    """Whether an adapter has parameters in the vision tower."""
    return any(name in path.split(".") for path, _ in base.core.visual.named_parameters())


def _rows(
    prompts: Sequence[Prompt], encoded: Encoded, rows: list[int]
) -> tuple[dict[str, Any], list[int]]:
    """Some rows of a batch as inputs of ``generate``, and the indices of their images."""
    names = ("input_ids", "attention_mask", "mm_token_type_ids")
    tensors = cast(dict[str, Tensor], encoded)
    batch: dict[str, Any] = {name: tensors[name][rows] for name in names}
    owners = [row for row, prompt in enumerate(prompts) for _ in prompt.images]
    kept = [index for index, owner in enumerate(owners) if owner in set(rows)]
    if kept:
        # An adapter may change the tower, which then works out the grids where it is.
        batch["image_grid_thw"] = tensors["image_grid_thw"][kept].to(batch["input_ids"].device)
    return batch, kept


def _picked(image_features: dict[str, Any], kept: list[int]) -> dict[str, Any]:
    """The features of some images."""
    if not kept:
        return {}
    output = image_features["image"]
    picked = type(output)(
        pooler_output=[output.pooler_output[index] for index in kept],
        deepstack_features=[[level[i] for i in kept] for level in output.deepstack_features],
    )
    return {"image": picked}
