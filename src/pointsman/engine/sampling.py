"""Sampling: draws the next token, with the logits processors of transformers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pointsman.errors import RequestError

_COLDEST = 1e-5


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; the default is greedy.

    Raises:
        RequestError: a value is out of range.
    """

    temperature: float = 0.0
    """0 (or below 1e-5, which would overflow): greedy, always the most likely token"""
    top_p: float = 1.0
    """Nucleus sampling: the smallest set of tokens whose probabilities sum to this value"""
    top_k: int = 0
    """Only this many of the most likely tokens; 0: all"""
    repetition_penalty: float = 1.0
    """Above 1: tokens of the prompt and the answer become less likely (Keskar et al., 2019)"""
    seed: int | None = None
    """The same seed draws the same tokens; None: different ones each time"""

    def __post_init__(self) -> None:
        penalty = self.repetition_penalty
        wanted = {
            "temperature": (0 <= self.temperature < float("inf"), "0 or more"),
            "top_p": (0 < self.top_p <= 1, "a share above 0, up to 1"),
            "top_k": (isinstance(self.top_k, int) and self.top_k >= 0, "a whole number, 0 for all"),
            "repetition_penalty": (0 < penalty < float("inf"), "more than 0, 1 for none"),
            "seed": (_is_seed(self.seed), "a whole number of 64 bits"),
        }
        for name, (is_right, right) in wanted.items():
            if not is_right:
                value = getattr(self, name)
                raise RequestError(f"{name} is {value}, out of range; give {right}")

    @property
    def is_greedy(self) -> bool:
        return self.temperature < _COLDEST

    @property
    def is_plain(self) -> bool:
        """Whether the most likely token is taken unchanged."""
        return self.is_greedy and self.repetition_penalty == 1


def _is_seed(seed: object) -> bool:
    """Whether torch accepts it."""
    return seed is None or (isinstance(seed, int) and -(2**63) <= seed < 2**64)


class Sampler:
    """Draws the tokens of one answer."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._sampling = sampling
        self._tokens = list(prompt)
        self._chance: torch.Generator | None = None
        self._processors = LogitsProcessorList()
        if sampling.repetition_penalty != 1:
            penalty = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)
            self._processors.append(penalty)
        if not sampling.is_greedy:
            self._processors.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_k:
                self._processors.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1:
                self._processors.append(TopPLogitsWarper(sampling.top_p))

    def draw(self, logits: Tensor) -> int:
        """The next token, from logits (vocabulary,)."""
        ids = torch.tensor([self._tokens], device=logits.device)
        scores: Tensor = self._processors(ids, logits[None].float())  # type: ignore[arg-type]
        if not self._sampling.is_greedy:
            if self._chance is None:
                self._chance = torch.Generator(logits.device)
                if self._sampling.seed is not None:
                    self._chance.manual_seed(self._sampling.seed)
                else:
                    self._chance.seed()
            token = int(torch.multinomial(scores.softmax(-1), 1, generator=self._chance))
        else:
            token = int(scores.argmax())
        self._tokens.append(token)
        return token
