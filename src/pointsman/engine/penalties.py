"""Logits processors that transformers lacks: of OpenAI's penalties, and of a least length."""

from collections.abc import Iterable

import torch
from torch import Tensor
from transformers import LogitsProcessor


class AnswerPenalty(LogitsProcessor):
    """OpenAI's frequency and presence penalties.

    Args:
        start: number of tokens of the prompt, which do not count.
        frequency: subtracted from a token's logit each time that the answer contains it.
        presence: subtracted once if the answer contains it.
    """

    def __init__(self, start: int, frequency: float, presence: float) -> None:
        self._start, self._frequency, self._presence = start, frequency, presence

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        said = input_ids[:, self._start :]
        counts = torch.zeros_like(scores).scatter_add(
            1, said, torch.ones_like(said, dtype=scores.dtype)
        )
        return scores - self._frequency * counts - self._presence * (counts > 0)


class LeastLength(LogitsProcessor):
    """No token of ``ends`` before an answer of this many tokens.

    Args:
        start: number of tokens of the prompt, which do not count.
    """

    def __init__(self, start: int, least: int, ends: Iterable[int]) -> None:
        self._first, self._ends = start + least, sorted(ends)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids.shape[1] >= self._first:
            return scores
        ends = torch.tensor(self._ends, device=scores.device)
        return scores.index_fill(1, ends, float("-inf"))
