"""Sampling: draws the next token, with the logits processors of transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

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

_COLDEST, _HOTTEST = 1e-5, 100.0
_PENALTIES = (0.01, 100.0)
"""Beyond these, probabilities overflow, or are all the same"""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; the default is greedy.

    Raises:
        RequestError: a value is out of range.
    """

    temperature: float = 0.0
    """0 (or below 1e-5, which would overflow): greedy, always the most likely token; up to 100"""
    top_p: float = 1.0
    """Nucleus sampling: the smallest set of tokens whose probabilities sum to this value"""
    top_k: int = 0
    """Only this many of the most likely tokens; 0: all"""
    repetition_penalty: float = 1.0
    """From 0.01 to 100. Above 1: tokens of the prompt and the answer become less likely (Keskar
    et al., 2019)"""
    seed: int | None = None
    """The same seed draws the same tokens; None: different ones each time"""

    def __post_init__(self) -> None:
        least, most = _PENALTIES
        wanted = {
            "temperature": (_is_within(self.temperature, 0, _HOTTEST), f"0 to {_HOTTEST:g}"),
            "top_p": (
                _is_within(self.top_p, 0, 1) and self.top_p > 0,
                "a share above 0, up to 1",
            ),
            "top_k": (
                isinstance(self.top_k, int) and _is_within(self.top_k, 0, float("inf")),
                "a whole number, 0 for all",
            ),
            "repetition_penalty": (
                _is_within(self.repetition_penalty, least, most),
                f"{least:g} to {most:g}, 1 for none",
            ),
            "seed": (_is_seed(self.seed), "a whole number of 64 bits"),
        }
        for name, (is_right, right) in wanted.items():
            if not is_right:
                value = getattr(self, name)
                raise RequestError(f"{name} is {value!r}, out of range; give {right}")

    @property
    def is_greedy(self) -> bool:
        return self.temperature < _COLDEST

    @property
    def is_plain(self) -> bool:
        """Whether the most likely token is taken unchanged."""
        return self.is_greedy and self.repetition_penalty == 1


def _is_within(value: object, least: float, most: float) -> bool:
    """Whether it is a number in a range; NaN is in none."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and least <= value <= most  # type: ignore[operator]


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
            penalty = RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty))
            self._processors.append(penalty)
        if not sampling.is_greedy:
            self._processors.append(TemperatureLogitsWarper(float(sampling.temperature)))
            if sampling.top_k:
                self._processors.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1:
                self._processors.append(TopPLogitsWarper(float(sampling.top_p)))

    def draw(self, logits: Tensor) -> int:
        """The next token, from logits (vocabulary,).

        Raises:
            RequestError: with these options, the probabilities are not finite.
        """
        ids = torch.tensor([self._tokens], device=logits.device)
        scores: Tensor = self._processors(ids, logits[None].float())  # type: ignore[arg-type]
        if not self._sampling.is_greedy:
            if self._chance is None:
                self._chance = torch.Generator(logits.device)
                if self._sampling.seed is not None:
                    self._chance.manual_seed(self._sampling.seed)
                else:
                    self._chance.seed()
            shares = scores.softmax(-1)
            if not bool(shares.isfinite().all()):  # on CUDA, the draw would end the process's work
                raise RequestError(
                    f"{self._sampling} makes probabilities that are not finite; give values nearer "
                    "to the defaults"
                )
            token = int(torch.multinomial(shares, 1, generator=self._chance))
        else:
            token = int(scores.argmax())
        self._tokens.append(token)
        return token
