"""Label leaks: signs in a dataset that a router could learn instead of the task."""

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from pointsman.files import digest_bytes
from pointsman.sample import RoutingSample

Class = str | None
_FOLDS = 5
_FEWEST = 20  # samples, below which a rule may fit by chance
_SHORT = 5  # characters, below which an answer such as "yes" occurs in a prompt by chance
_PAIR = re.compile(r"\[\s*(\d+(?:\.\d+)?)\s*,\s*(\d+(?:\.\d+)?)\s*\]")


@dataclass(frozen=True)
class Rule:
    """How well the majority class per value predicts the adapter."""

    accuracy: float
    """Share of samples predicted correctly, each by a rule fitted without its image."""
    baseline: float
    """Share of the most frequent class."""

    @property
    def suspicious(self) -> bool:
        """The rule corrects half or more of the errors made by always guessing one class."""
        return self.accuracy - self.baseline >= 0.5 * (1 - self.baseline) > 0


def rule(
    values: Sequence[Hashable], classes: Sequence[Class], groups: Sequence[str]
) -> Rule | None:
    """Cross-validates the rule "the most frequent class for this value"; None for few samples.

    Args:
        values: what the rule sees of each sample.
        classes: the adapter of each sample.
        groups: samples of one group (image) are never split between fitting and testing.
    """
    if len(values) < _FEWEST or len(set(classes)) < 2:
        return None
    folds = [int(digest_bytes(group.encode())[:8], 16) % _FOLDS for group in groups]
    right = 0
    for fold in set(folds):
        seen: dict[Hashable, Counter[Class]] = defaultdict(Counter)
        overall: Counter[Class] = Counter()
        for value, kind, place in zip(values, classes, folds, strict=True):
            if place != fold:
                seen[value][kind] += 1
                overall[kind] += 1
        for value, kind, place in zip(values, classes, folds, strict=True):
            counts = seen.get(value, overall)
            right += place == fold and bool(counts) and counts.most_common(1)[0][0] == kind
    return Rule(right / len(values), Counter(classes).most_common(1)[0][1] / len(values))


def path_pattern(path: str) -> str:
    """An image path with its numbers and digests blanked: ``images/cal_#.png``."""
    pure = PurePath(path)
    stem = re.sub(r"[0-9a-f]{8,}|\d+", "#", pure.stem)
    return str(pure.with_name(stem + pure.suffix))


def answers_nothing(sample: RoutingSample) -> bool:
    """An assistant turn has no text."""
    return any(turn.role == "assistant" and not turn.text.strip() for turn in sample.turns)


def holds_answer(sample: RoutingSample) -> bool:
    """The prompt contains the text of the answer."""
    answer = (sample.answer or "").strip()
    return len(answer) >= _SHORT and answer in _prompt(sample)


def holds_coordinates(sample: RoutingSample) -> bool:
    """The prompt contains a point ``[x, y]`` of the answer, in any notation."""
    prompt = _prompt(sample)
    return any(
        re.search(rf"(?<![\d.]){re.escape(x)}\s*[,;x ]\s*{re.escape(y)}(?!\.?\d)", prompt)
        for x, y in _PAIR.findall(sample.answer or "")
    )


def names_adapter(sample: RoutingSample) -> bool:
    """The prompt contains the name of the sample's adapter, as one word or several."""
    if sample.adapter is None:
        return False
    words = [re.escape(word) for word in re.split(r"[-_]+", sample.adapter) if word]
    return bool(re.search(rf"\b{'[-_ ]?'.join(words)}\b", _prompt(sample), re.IGNORECASE))


def _prompt(sample: RoutingSample) -> str:
    return "\n".join(turn.text for turn in sample.prompt)
