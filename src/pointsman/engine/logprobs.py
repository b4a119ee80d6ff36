"""Log probabilities of an answer's tokens, as the model gives them, before any sampling option."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.convert_slow_tokenizer import bytes_to_unicode

MOST_ALTERNATIVES = 20
Alternative = tuple[str, bytes, float]
"""A token's text, bytes and log probability"""
_BYTE = {character: byte for byte, character in bytes_to_unicode().items()}  # type: ignore[no-untyped-call]
"""How GPT-2's byte-level BPE writes bytes as characters"""


@dataclass(frozen=True)
class TokenLogprob:
    """One token of an answer and its natural log probability."""

    token: str
    """Its text; parts of a character are written as U+FFFD"""
    bytes: bytes
    """Exactly what it adds to the text, parts of a character included; a special token's name"""
    logprob: float
    top: tuple[Alternative, ...]
    """The most likely tokens in its place, most likely first: (text, bytes, log probability)"""


class Logprobs:
    """Reads log probabilities from logits.

    Args:
        tokenizer: of transformers, with byte-level BPE.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._added = {
            token: str(added.content).encode()
            for token, added in tokenizer.added_tokens_decoder.items()
        }

    def read(self, logits: Tensor, token: int, count: int) -> TokenLogprob:
        """The entry of a token, from logits (vocabulary,), with ``count`` alternatives."""
        scores = logits.float().log_softmax(-1)
        highest, tokens = scores.topk(min(count, len(scores)))
        values = torch.cat([scores[token, None], highest]).tolist()
        top = tuple(
            (*self._text_of(other), value)
            for other, value in zip(tokens.tolist(), values[1:], strict=True)
        )
        return TokenLogprob(*self._text_of(token), values[0], top)

    def _text_of(self, token: int) -> tuple[str, bytes]:
        content = self._bytes_of(token)
        return content.decode(errors="replace"), content

    def _bytes_of(self, token: int) -> bytes:
        if (added := self._added.get(token)) is not None:
            return added
        # None: the vocabulary of the model is larger than that of the tokenizer.
        written = self._tokenizer.convert_ids_to_tokens(token) or ""
        return bytes(_BYTE[character] for character in written)
