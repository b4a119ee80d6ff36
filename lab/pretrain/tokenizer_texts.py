"""What the tokenizer is trained on; ``python -m lab.pretrain.tokenizer_texts`` trains it."""

from __future__ import annotations

import random
from collections.abc import Iterator

from pointsman.files import write_text

from .corpus import Asker, View
from .feed import draw
from .tokenizer import FILE, train_tokenizer


def training_texts(screens: int = 1500, seed: int = 0) -> Iterator[str]:
    """Questions and answers of drawn screens, and the words that begin a turn."""
    for index in range(screens):
        rng = random.Random(f"tokenizer/{seed}/{index}")
        layout = draw(rng, (640, 448), sheets=0.5)
        asker = Asker(rng, layout, View((640, 448)))
        questions = [question for _ in range(14) if (question := asker.ask())]
        for question in questions:
            yield question.text
            yield question.answer
        yield "user\nassistant\nsystem\n"


if __name__ == "__main__":
    write_text(FILE, train_tokenizer(training_texts()).to_str())
