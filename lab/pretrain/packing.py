"""Many questions of one screen in one row of tokens, each answered as if it were alone.

A row holds segments, one for each question: the end of the user's turn and the answer. All of them
follow the same prefix (the start of the turn and the image); the network's mask lets a segment see
the prefix and itself.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from . import phrases, words
from .corpus import Asker, Question
from .phrases import TASKS, phrase
from .tokenizer import ACTION, SPECIAL

_TAIL = "<|im_end|>\n<|im_start|>assistant\n"
_HEAD = "<|im_start|>user\n<|vision_start|>"
_ASKED = 60
"""Questions tried for one row: some screens have little to ask."""
PADDING = -1


@dataclass(frozen=True)
class Row:
    """T tokens. ``weights`` says how much predicting each token counts in the loss."""

    ids: NDArray[np.int16]
    segments: NDArray[np.int16]
    """0, 1, 2 … by question; -1 on padding"""
    weights: NDArray[np.float16]
    tasks: NDArray[np.int16]
    """Index in ``TASKS``; -1 on padding"""
    questions: tuple[Question, ...]


class Packer:
    """Turns questions into tokens."""

    def __init__(self, tokenizer: Tokenizer, length: int) -> None:
        self._tokenizer = tokenizer
        self._length = length

    @property
    def vocabulary(self) -> int:
        return self._tokenizer.get_vocab_size()

    def id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        assert found is not None, token
        return found

    def ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    @cached_property
    def special_ids(self) -> dict[str, int]:
        return {token: self.id(token) for token in SPECIAL}

    @cached_property
    def prefix(self) -> list[int]:
        """What comes before the image."""
        return self.ids(_HEAD)

    @cached_property
    def image_end(self) -> int:
        return self.special_ids["<|vision_end|>"]

    @cached_property
    def end(self) -> int:
        return self.special_ids["<|im_end|>"]

    @cached_property
    def tail(self) -> list[int]:
        return self.ids(_TAIL)

    @cached_property
    def _digits(self) -> frozenset[int]:
        return frozenset(self.id(digit) for digit in "0123456789")

    @cached_property
    def _openings(self) -> tuple[int, ...]:
        return tuple(self.id(text) for text in ACTION if text.startswith("<tool_call>"))

    @cached_property
    def _action(self) -> tuple[int, ...]:
        return tuple(self.id(text) for text in ACTION)

    def prompt(self, text: str) -> list[int]:
        """A question's tokens after the image, up to where the answer begins."""
        return self.ids(text) + self.tail

    def answered(self, question: Question) -> tuple[list[int], list[int], list[float]]:
        """Prompt, answer with its end, and the weight of each of the answer's tokens."""
        answer = self.ids(question.answer)
        weights = _number_weights(question) or [0.6] * len(answer)
        return self.prompt(question.text), [*answer, self.end], [*weights, 0.2]

    def copy(self, rng: random.Random) -> tuple[list[int], list[int], list[float]]:
        """Arbitrary tokens or a text to be repeated, alone or quoted within a sentence.

        Why, says ``tokenizer``.
        """
        symbols = self._symbols(rng) if rng.random() < 0.7 else self.ids(words.value(rng))
        answer, counts = [*symbols, self.end], [0.6] * len(symbols) + [0.2]
        if rng.random() < 0.5:
            prompt = self.ids(phrase(rng, phrases.COPY, {}) + " ")
            return prompt + symbols + self.tail, answer, counts
        before, after = (words.line(rng, rng.randint(0, 5)) for _ in range(2))
        mark = rng.choice("\"'")
        prompt = self.ids(f"{phrase(rng, phrases.QUOTED, {})} {before} {mark}")
        return prompt + symbols + self.ids(f"{mark} {after}") + self.tail, answer, counts

    def _symbols(self, rng: random.Random) -> list[int]:
        first = len(SPECIAL)
        symbols: list[int] = []
        for _ in range(rng.randint(1, 7)):
            token = rng.randrange(first, self.vocabulary)
            if rng.random() < 0.25:
                token = rng.choice(self._action)
            if symbols and symbols[-1] in self._openings and token in self._digits:
                token = self._action[1]
            symbols.append(token)
        return symbols

    def pack(self, rng: random.Random, asker: Asker, task: str | None = None) -> Row:
        """Questions, all of one task or of any, until the row is full."""
        ids = np.zeros(self._length, np.int16)
        segments = np.full(self._length, PADDING, np.int16)
        weights = np.zeros(self._length, np.float16)
        tasks = np.full(self._length, PADDING, np.int16)
        questions: list[Question] = []
        filled = misses = 0
        for _ in range(_ASKED):
            question = asker.ask_of(task) if task else asker.ask()
            if question is not None:
                parts, number = self.answered(question), TASKS.index(question.task)
            elif task is None and rng.random() < 0.07:
                parts, number = self.copy(rng), TASKS.index("copy")
                question = Question("copy", "", "", phrases.COPY, {})
            else:
                continue
            prompt, answer, counts = parts
            end = filled + len(prompt) + len(answer)
            if question.text and question.text in {other.text for other in questions}:
                continue
            if end > self._length:
                misses += 1
                if misses > 3:
                    break
                continue
            ids[filled:end] = prompt + answer
            segments[filled:end] = len(questions)
            tasks[filled:end] = number
            weights[end - len(answer) : end] = counts
            questions.append(question)
            filled = end
        return Row(ids, segments, weights, tasks, tuple(questions))


def _number_weights(question: Question) -> list[float] | None:
    """For points and boxes: the last digit of a number matters least."""
    if question.task != "box" and question.box is None:
        return None
    weights = []
    for number in question.answer.split(","):
        weights += [1.0] * (len(number) - 1) + [0.3, 0.3]  # the last digit, and the comma
    return weights[:-1]
