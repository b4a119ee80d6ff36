"""Activated LoRA (aLoRA): adapted from the invocation tokens on, the base before them.

The invocation tokens are what the chat template puts before an answer. All that stands before
them has the base's own keys and values, so that an adapter can answer on what the base has read.

Source: Greenewald et al. 2025, "Activated LoRA: Fine-tuned LLMs for Intrinsics",
https://arxiv.org/abs/2504.12397, in the form that PEFT has it (``alora_invocation_tokens``).
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
        ConfigError: a chat template whose generation prompt is no mark of its own: none, or one
            that does not begin with a special token. Users could write such a mark themselves, and
            its tokens could depend on what stands before it.
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
    """A conversation cut off after each of its answers.

    PEFT adapts what follows the last invocation tokens, so only a conversation's last answer is
    trained as it will be generated.
    """
    for place, turn in enumerate(sample.turns, 1):
        if turn.role == "assistant":
            turns = sample.turns[:place]
            shown = sum(part is None for turn in turns for part in turn.parts)
            yield replace(sample, turns=turns, images=sample.images[:shown])


def last_answer_only(labels: Tensor) -> Tensor:
    """Labels (B, T) in which of several answers in a row only the last still counts."""
    counted = labels != IGNORED
    # No row starts with an answer, so that what `roll` brings to its start does not matter.
    answer = (counted & ~counted.roll(1, 1)).cumsum(1)
    return labels.where(answer == answer[:, -1:], IGNORED)
