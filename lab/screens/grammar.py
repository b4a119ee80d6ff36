"""A small grammar of instructions: alternatives, slots, politeness, letter case and typos."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
# Stands for the value to enter while the rest of a text changes its letter case.
_LATER = "\ue000"
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

    def usable(
        self, values: Mapping[str, str], naming: frozenset[str] = frozenset()
    ) -> tuple[list[str], list[str]]:
        """The templates whose slots are all known, with one of `naming` if any are given."""

        def fits(template: str) -> bool:
            found = slots(template)
            return found <= values.keys() and not (naming and naming.isdisjoint(found))

        return list(filter(fits, self.commands)), list(filter(fits, self.remarks))


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
    return finish(rng, word(rng, phrases, values), values)


def word(
    rng: random.Random,
    phrases: Phrases,
    values: Mapping[str, str],
    naming: frozenset[str] = frozenset(),
) -> str:
    """A settled and dressed template whose slots are all known and still open.

    `naming` are slots of which the text has one at least, if any are given.
    """
    commands, remarks = phrases.usable(values, naming)
    chosen = rng.randrange(len(commands) + len(remarks))
    if chosen >= len(commands):
        return _settle(rng, remarks[chosen - len(commands)], naming)
    text = _settle(rng, commands[chosen], naming)
    if rng.random() < 0.02:
        text = _typo(rng, text)
    return _polite(rng, text)


def word_plainly(
    rng: random.Random,
    templates: Sequence[str],
    values: Mapping[str, str],
    naming: frozenset[str] = frozenset(),
) -> str:
    """A settled template whose slots are all known and still open, and nothing added."""
    usable, _ = Phrases(templates).usable(values, naming)
    return _settle(rng, rng.choice(usable), naming)


def finish(rng: random.Random, text: str, values: Mapping[str, str]) -> str:
    """The text with its letter case changed now and then, and with its slots filled.

    The value to enter is filled in last, so that whoever copies it off the text is right.
    """
    shown = {slot: value for slot, value in values.items() if slot != "value"} | {"value": _LATER}
    text = _cased(rng, _SLOT.sub(lambda match: shown[match.group(1)], text))
    return text.replace(_LATER, values["value"]) if "value" in values else text


def ends_in_value(text: str) -> bool:
    """Whether a clause would run into the value to enter."""
    return text.endswith("{value}")


def lower_first(text: str) -> str:
    """The text as it goes on inside a sentence."""
    return text if text.startswith(("{", "I ", "I'", "Dr")) else text[:1].lower() + text[1:]


def _settle(rng: random.Random, template: str, naming: frozenset[str]) -> str:
    while True:
        text = expand(rng, template)
        # Some alternatives of a template may name what others leave out.
        if not naming or not naming.isdisjoint(_SLOT.findall(text)):
            return text


def _polite(rng: random.Random, text: str) -> str:
    # `str.format` leaves braces inside its arguments alone, so slots survive the dressing.
    # A value to enter has neither a mark at its end nor any of these words (see `values`), so that
    # it is clear where it stops.
    roll = rng.random()
    if roll < 0.25:
        return rng.choice(_BEFORE).format(lower_first(text))
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
    if rng.random() < (0.2 if text[-1] == _LATER else 0.07 * text[-1].isalnum()):
        text += "."
    return text
