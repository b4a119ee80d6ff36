"""Activated LoRA (aLoRA): the adapter acts from the invocation tokens on, the base before them.

The invocation tokens are what the chat template puts before an answer. Everything before them has
the base's own keys and values, so an adapter can reuse a prompt that the base has already read.

Source: Greenewald et al. 2025, "Activated LoRA: Fine-tuned LLMs for Intrinsics",
https://arxiv.org/abs/2504.12397, as implemented in PEFT (``alora_invocation_tokens``).
"""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from pointsman.conversation import user_turn
from pointsman.errors import ConfigError
from pointsman.models.base import Base
from pointsman.models.encoding import IGNORED
from pointsman.sample import RoutingSample


def invocation_tokens(base: Base) -> list[int]:
    """Token ids of the generation prompt, such as ``<|im_start|>assistant`` and a line break.

    Raises:
        ConfigError: the chat template has no generation prompt, or one that does not begin with a
            special token. Users could write such a prompt themselves, and its tokens could depend
            on the text before it.
    """
    asked = base.render([user_turn("", 0)], answer_next=False)
    answering = base.render([user_turn("", 0)])
    mark = answering.removeprefix(asked) if answering.startswith(asked) else ""
    tokens = list(base.tokenizer(mark, add_special_tokens=False)["input_ids"])
    added = base.tokenizer.added_tokens_decoder
    if not tokens or tokens[0] not in added or not added[tokens[0]].special:
        raise ConfigError(
            f"{base.id}: its chat template puts {mark!r} before an answer, and an activated LoRA "
            "needs a special token there; train without `activated`"
        )
    return tokens


def one_answer_each(sample: RoutingSample) -> Iterator[RoutingSample]:
    """The conversation truncated after each of its answers.

    PEFT adapts what follows the last invocation tokens, so only a conversation's last answer is
    trained the way it will be generated.
    """
    for place, turn in enumerate(sample.turns, 1):
        if turn.role == "assistant":
            turns = sample.turns[:place]
            shown = sum(part is None for turn in turns for part in turn.parts)
            yield replace(sample, turns=turns, images=sample.images[:shown])


def last_answer_only(labels: Tensor) -> Tensor:
    """Labels (B, T) that count only the last of several answers in a row."""
    counted = labels != IGNORED
    # No row starts with an answer, so what `roll` moves to its start does not matter.
    answer = (counted & ~counted.roll(1, 1)).cumsum(1)
    return labels.where(answer == answer[:, -1:], IGNORED)
