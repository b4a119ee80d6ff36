"""Values to enter into the fields of a form, such as their labels ask for.

Many are invented, so that whoever enters them has to read them. None holds a quote, a backslash or
a line break, none ends in a punctuation mark, and free text has none of the small words that an
instruction puts beside a value, so it is clear where a value ends.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from .words import FILLER, MONTHS, invented_word, person

LONGEST = 24
"""Characters of a value."""
_ANY_SHARE = 0.15
_NOUNS = tuple(word for word in FILLER if len(word) > 5)
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_ENDINGS = ("com", "org", "net", "example", "health")
_PLACES = ("Office", "Hospital", "Urgent care", "Home", "Telehealth", "Pharmacy", "Laboratory")
_RELATIONS = ("Self", "Spouse", "Child", "Parent", "Sibling", "Guardian", "Dependent")
_TYPES = ("Medical", "Dental", "Vision", "Pharmacy", "Accident", "Travel", "Inpatient")
_CURRENCIES = ("USD", "EUR", "GBP", "CHF", "JPY", "CAD", "SEK", "INR", "MXN", "PLN")
_COMPLAINTS = (
    "knee pain",
    "check-up",
    "sore throat",
    "skin rash",
    "blood test",
    "follow-up visit",
    "back pain",
    "x-ray",
    "vaccination",
    "broken wrist",
    "annual exam",
    "ear infection",
)


def typed_value(rng: random.Random, label: str) -> str:
    """A value for the field of this label, 1 to `LONGEST` characters."""
    while True:
        value = (_any if rng.random() < _ANY_SHARE else _kind(label))(rng)
        if len(value) <= LONGEST:
            return value


def _kind(label: str) -> Callable[[random.Random], str]:
    name = label.lower()
    return next((draw for part, draw in _KINDS if part in name), _any)


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def _invented(rng: random.Random) -> str:
    return invented_word(rng).capitalize()


def _date(rng: random.Random) -> str:
    year, month, day = rng.randint(1935, 2031), rng.randint(1, 12), rng.randint(1, 28)
    name = MONTHS[month - 1]
    return rng.choice(
        (
            f"{year}-{month:02d}-{day:02d}",
            f"{month:02d}/{day:02d}/{year}",
            f"{month}/{day}/{year}",
            f"{day:02d}.{month:02d}.{year}",
            f"{name} {day}, {year}",
            f"{day} {name[:3]} {year}",
        )
    )


def _amount(rng: random.Random) -> str:
    number = rng.randint(1, rng.choice((9, 99, 999, 9999)))
    cents, currency = f"{rng.randint(0, 99):02d}", rng.choice(_CURRENCIES)
    return rng.choice(
        (
            f"${number}.{cents}",
            f"{number}.{cents}",
            f"{number:,}.{cents}",
            f"{number}.{cents} {currency}",
            f"${number}",
            str(number),
        )
    )


def _phone(rng: random.Random) -> str:
    area, middle, last = _digits(rng, 3), _digits(rng, 3), _digits(rng, 4)
    return rng.choice(
        (
            f"{area}-{middle}-{last}",
            f"({area}) {middle}-{last}",
            f"+1 {area} {middle} {last}",
            f"{area}.{middle}.{last}",
            f"+{rng.randint(30, 99)} {area} {last}{rng.randint(0, 9)}",
        )
    )


def _email(rng: random.Random) -> str:
    first, last = person(rng)
    user = rng.choice((first.lower(), f"{first[0]}.{last}".lower(), invented_word(rng)))
    return f"{user}@{invented_word(rng)}.{rng.choice(_ENDINGS)}"


def _code(rng: random.Random) -> str:
    letters = "".join(rng.choice(_LETTERS) for _ in range(rng.randint(1, 3)))
    return rng.choice(
        (
            f"{_digits(rng, 4)}-{letters[0]}",
            f"{letters}{_digits(rng, rng.randint(2, 8))}",
            f"{letters}-{_digits(rng, 4)}-{_digits(rng, 2)}",
            f"{letters}-{_digits(rng, rng.randint(3, 6))}",
            _digits(rng, rng.randint(2, 12)),
            f"{_digits(rng, 3)} {_digits(rng, 3)} {_digits(rng, 3)}",
            f"{letters.lower()}{_digits(rng, 3)}{rng.choice(_LETTERS).lower()}",
        )
    )


def _diagnosis(rng: random.Random) -> str:
    return f"{rng.choice(_LETTERS)}{_digits(rng, 2)}.{_digits(rng, rng.randint(1, 3))}"


def _zip(rng: random.Random) -> str:
    return rng.choice((_digits(rng, 5), f"{_digits(rng, 5)}-{_digits(rng, 4)}"))


def _name(rng: random.Random) -> str:
    first, last = person(rng)
    return rng.choice(
        (f"{first} {last}", f"{first} {last}", f"{last}, {first}", f"{first} {_invented(rng)}")
    )


def _company(rng: random.Random) -> str:
    kind = rng.choice(("Clinic", "Ltd", "Group", "Health", "Works", "Plus", "Care", "Gold"))
    return f"{_invented(rng)} {kind}"


def _address(rng: random.Random) -> str:
    road = rng.choice(("Street", "Road", "Lane", "Avenue", "Way", "Court"))
    return f"{rng.randint(1, 999)} {_invented(rng)} {road}"


def _words(rng: random.Random) -> str:
    count = rng.randint(1, 4)
    text = " ".join(
        invented_word(rng) if rng.random() < 0.3 else rng.choice(_NOUNS) for _ in range(count)
    )
    return text.capitalize() if rng.random() < 0.4 else text


def _complaint(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return _words(rng)
    text = rng.choice(_COMPLAINTS)
    return text.capitalize() if rng.random() < 0.4 else text


def _one_of(choices: tuple[str, ...]) -> Callable[[random.Random], str]:
    return lambda rng: rng.choice(choices) if rng.random() < 0.7 else _words(rng)


def _any(rng: random.Random) -> str:
    draw = rng.choice((_code, _words, _words, _invented, _amount, _date, _name, _short))
    return draw(rng)


def _short(rng: random.Random) -> str:
    return rng.choice((_digits(rng, rng.randint(1, 3)), rng.choice(_LETTERS), invented_word(rng)))


_KINDS: tuple[tuple[str, Callable[[random.Random], str]], ...] = (
    # The first part that a label holds decides, so what is narrow comes before what is wide.
    ("date", _date),
    ("diagnosis", _diagnosis),
    ("phone", _phone),
    ("mail", _email),
    ("zip", _zip),
    ("number", _code),
    ("code", _code),
    (" id", _code),
    ("npi", _code),
    ("amount", _amount),
    ("paid", _amount),
    ("copay", _amount),
    ("deductible", _amount),
    ("facility", _company),
    ("plan", _company),
    ("employer", _company),
    ("address", _address),
    ("name", _name),
    ("place", _one_of(_PLACES)),
    ("relation", _one_of(_RELATIONS)),
    ("type", _one_of(_TYPES)),
    ("currency", _one_of(_CURRENCIES)),
    ("note", _complaint),
    ("comment", _complaint),
    ("reason", _complaint),
)
