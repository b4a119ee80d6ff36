"""A small grammar of instructions: alternatives, slots, politeness, letter case and typos."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"(?<![\w{'])[a-z]{5,}(?![\w}'])")

_BEFORE = (
    "Please {}",
    "please {}",
    "Could you {}?",
    "Can you {}?",
    "Can you {} for me?",
    "Could you please {}?",
    "Would you {}?",
    "I need you to {}",
    "I'd like you to {}",
    "Now {}",
    "Next, {}",
    "Go ahead and {}",
    "OK, {}",
    "Let's {}",
    "You should {}",
    "I want to {}",
    "Help me {}",
)
_AFTER = ("{}, please", "{} please", "{} for me", "{}, thanks", "{} now", "{}!")


@dataclass(frozen=True)
class Phrases:
    """Templates of one task.

    `commands` start with a verb, so that "could you" may come before them; `remarks` do not.
    `[a|b|]` is a choice (here of a, b, or nothing) and `{slot}` a value from the screen.
    """

    commands: Sequence[str]
    remarks: Sequence[str] = ()

    def usable(self, values: Mapping[str, str]) -> tuple[list[str], list[str]]:
        known = frozenset(values)
        return (
            [template for template in self.commands if slots(template) <= known],
            [template for template in self.remarks if slots(template) <= known],
        )


@lru_cache(maxsize=4096)
def slots(template: str) -> frozenset[str]:
    return frozenset(_SLOT.findall(template))


def expand(rng: random.Random, template: str) -> str:
    """Settles every choice of a template, the innermost first."""
    while True:
        settled = _CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), template)
        if settled == template:
            return " ".join(settled.split())
        template = settled


def every_form(template: str) -> set[str]:
    """All texts the choices of a template allow, with slots still open."""
    choice = _CHOICE.search(template)
    if choice is None:
        return {" ".join(template.split())}
    before, after = template[: choice.start()], template[choice.end() :]
    forms: set[str] = set()
    for alternative in choice.group(1).split("|"):
        forms |= every_form(before + alternative + after)
    return forms


def say(rng: random.Random, phrases: Phrases, values: Mapping[str, str]) -> str:
    """One instruction: a template whose slots are all known, filled in and dressed up."""
    commands, remarks = phrases.usable(values)
    chosen = rng.randrange(len(commands) + len(remarks))
    if chosen < len(commands):
        text = expand(rng, commands[chosen])
        if rng.random() < 0.02:
            text = _typo(rng, text)
        text = _polite(rng, text)
    else:
        text = expand(rng, remarks[chosen - len(commands)])
    return _cased(rng, _SLOT.sub(lambda match: values[match.group(1)], text))


def say_plainly(rng: random.Random, templates: Sequence[str], values: Mapping[str, str]) -> str:
    """One instruction from the templates, filled in and nothing else changed but its case."""
    usable = [template for template in templates if slots(template) <= frozenset(values)]
    text = expand(rng, rng.choice(usable))
    return _cased(rng, _SLOT.sub(lambda match: values[match.group(1)], text))


def _lower_first(text: str) -> str:
    return text if text.startswith("{") else text[:1].lower() + text[1:]


def _polite(rng: random.Random, text: str) -> str:
    # `str.format` leaves braces inside its arguments alone, so slots survive the dressing.
    roll = rng.random()
    if roll < 0.25:
        return rng.choice(_BEFORE).format(_lower_first(text))
    if roll < 0.38:
        return rng.choice(_AFTER).format(text)
    return text


def _typo(rng: random.Random, text: str) -> str:
    """Spoils one long word of the template; slots are left alone, so the answer stays clear."""
    words = list(_WORD.finditer(text))
    if not words:
        return text
    word = rng.choice(words)
    place = rng.randrange(word.start() + 1, word.end() - 1)
    swapped = text[place + 1] + text[place]
    change = rng.choice((swapped, text[place + 1], text[place] * 2 + text[place + 1]))
    return text[:place] + change + text[place + 2 :]


def _cased(rng: random.Random, text: str) -> str:
    roll = rng.random()
    if roll < 0.08:
        text = text.lower()
    elif roll < 0.09:
        text = text.upper()
    if rng.random() < 0.07 and text[-1].isalnum():
        text += "."
    return text
