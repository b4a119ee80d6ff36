"""The base's vocabulary: byte-level BPE of 1,024 tokens, learnt from the questions themselves.

Digits stand alone, so a number is spelt the same wherever it occurs, and each fixed part of an
action is one token, so that an adapter answers in a dozen of them.

The base never sees an action, and yet LoRA adapters that only touch projections of the upper
layers must be able to emit these tokens. Output and input embeddings are one matrix, which
adapters leave alone; a token that occurs nowhere would only ever be pushed away, together with all
others of its kind, until no change to the last layers tells them apart. Therefore a small share of
the questions (``packing.Packer.copy``) shows a few arbitrary tokens, these among them, and asks for
the same again. Each token so gets a direction of its own and of the common length, and the last
layers learn to write it; an adapter has only to learn when. The tokens stand there in arbitrary
order, an opening never before a digit, so the form of an action stays unknown to the base.

``python -m lab.pretrain.tokenizer_texts`` makes ``tokenizer.json`` beside this file again.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from pointsman.errors import ArtefactError

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_CALL = '<tool_call>\n{"name": "computer_use", "arguments": {"action": '
ACTION = (
    _CALL + '"left_click", "coordinate": [',
    "]}}\n</tool_call>",
    _CALL + '"type", "text": "',
    '"}}\n</tool_call>',
)
"""Opening and end of a click, opening and end of typing."""
SIZE = 1024
FILE = Path(__file__).parent / "tokenizer.json"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train_tokenizer(texts: Iterator[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(ACTION),
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in ACTION])
    if tokenizer.get_vocab_size() != SIZE:
        raise ArtefactError(
            f"the vocabulary has {tokenizer.get_vocab_size()} tokens, not {SIZE}: more texts"
        )
    return tokenizer


@lru_cache(maxsize=1)
def load_tokenizer() -> Tokenizer:
    if not FILE.is_file():
        raise ArtefactError(f"{FILE}: run python -m lab.pretrain.tokenizer_texts")
    return Tokenizer.from_file(str(FILE))
