"""Sampling: draws the next token, with the logits processors of transformers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pointsman.engine.logprobs import MOST_ALTERNATIVES
from pointsman.engine.penalties import AnswerPenalty, LeastLength
from pointsman.engine.stopping import MOST_STOPS
from pointsman.errors import RequestError

_COLDEST, _HOTTEST = 1e-5, 100.0
_PENALTIES = (0.01, 100.0)
"""Beyond these, probabilities overflow, or are all the same"""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn, and what ends an answer; the default is greedy.

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
    min_p: float = 0.0
    """Only tokens with at least this share of the most likely token's probability, from 0 to 1"""
    frequency_penalty: float = 0.0
    """From -2 to 2, as in OpenAI's API: subtracted from a token's logit for each time that the
    answer already contains it"""
    presence_penalty: float = 0.0
    """From -2 to 2, as in OpenAI's API: subtracted once if the answer already contains the token"""
    stop: tuple[str, ...] = ()
    """Up to 16 strings: the answer ends before the first of them"""
    min_tokens: int = 0
    """The model cannot end the answer by itself before this many tokens; a stop string can"""
    ignore_eos: bool = False
    """Whether the answer goes on after a token that ends it"""
    logprobs: int | None = None
    """Log probabilities of the answer's tokens, with up to 20 of the most likely tokens for each;
    None: none at all. They are the model's own, before penalties and temperature"""

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
            "min_p": (_is_within(self.min_p, 0, 1), "a share from 0 to 1, 0 for all tokens"),
            "frequency_penalty": (_is_within(self.frequency_penalty, -2, 2), "-2 to 2, 0 for none"),
            "presence_penalty": (_is_within(self.presence_penalty, -2, 2), "-2 to 2, 0 for none"),
            "stop": (_are_stops(self.stop), f"a tuple of up to {MOST_STOPS} strings, none empty"),
            "min_tokens": (_is_count(self.min_tokens, None), "a whole number, 0 for none"),
            "ignore_eos": (isinstance(self.ignore_eos, bool), "True or False"),
            "logprobs": (
                self.logprobs is None or _is_count(self.logprobs, MOST_ALTERNATIVES),
                f"a whole number from 0 to {MOST_ALTERNATIVES}, or None",
            ),
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
        return (
            self.is_greedy
            and self.repetition_penalty == 1
            and self.frequency_penalty == 0
            and self.presence_penalty == 0
            and self.min_tokens == 0
        )

    @property
    def beyond_greedy(self) -> tuple[str, ...]:
        """Names of the options without which the answer would be the plain greedy one."""
        names = [name for name in _BEYOND if getattr(self, name) != getattr(Sampling, name)]
        return (*(() if self.is_greedy else ("temperature",)), *names)


_BEYOND = (
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "stop",
    "min_tokens",
    "ignore_eos",
    "logprobs",
)


def _is_within(value: object, least: float, most: float) -> bool:
    """Whether it is a number in a range; NaN is in none."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and least <= value <= most  # type: ignore[operator]


def _is_count(value: object, most: int | None) -> bool:
    return type(value) is int and value >= 0 and (most is None or value <= most)


def _are_stops(stops: object) -> bool:
    is_tuple = isinstance(stops, tuple) and len(stops) <= MOST_STOPS
    return is_tuple and all(isinstance(stop, str) and stop for stop in stops)  # type: ignore[attr-defined]


def _is_seed(seed: object) -> bool:
    """Whether torch accepts it."""
    return seed is None or (isinstance(seed, int) and -(2**63) <= seed < 2**64)


class Sampler:
    """Draws the tokens of one answer.

    Args:
        prompt: its tokens.
        ends: tokens that end the answer.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int], ends: Iterable[int] = ()) -> None:
        self._sampling = sampling
        self._tokens = list(prompt)
        self._chance: torch.Generator | None = None
        self._processors = LogitsProcessorList(
            [*_penalties(sampling, len(self._tokens), ends), *_warpers(sampling)]
        )

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


def _penalties(sampling: Sampling, start: int, ends: Iterable[int]) -> list[LogitsProcessor]:
    """What changes logits by what was said; a prompt has ``start`` tokens."""
    found: list[LogitsProcessor] = []
    if sampling.repetition_penalty != 1:
        found.append(RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty)))
    if sampling.frequency_penalty or sampling.presence_penalty:
        penalties = (float(sampling.frequency_penalty), float(sampling.presence_penalty))
        found.append(AnswerPenalty(start, *penalties))
    if sampling.min_tokens:
        found.append(LeastLength(start, sampling.min_tokens, ends))
    return found


def _warpers(sampling: Sampling) -> list[LogitsProcessor]:
    """What shapes the distribution, in transformers' order; nothing if it is greedy."""
    if sampling.is_greedy:
        return []
    found: list[LogitsProcessor] = [TemperatureLogitsWarper(float(sampling.temperature))]
    if sampling.top_k:
        found.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        found.append(TopPLogitsWarper(float(sampling.top_p)))
    if sampling.min_p:
        found.append(MinPLogitsWarper(float(sampling.min_p)))
    return found
