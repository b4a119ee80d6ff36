"""Words for screens that mean nothing: everyday ones, invented ones, numbers, dates, prices.

Invented words leave a reader nothing to go by but the letters.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from lab.screens.words import (
    FILLER,
    FIRST_NAMES,
    LAST_NAMES,
    MONTHS,
    NAVIGATION,
    OTHER_BUTTONS,
    OTHER_FIELDS,
    SPECIALTIES,
    WEEKDAYS,
)


def _split(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_EVERYDAY = _split(
    "Accept Account Action Active Add Advanced Agent Alert All Amount Apply Approve Archive Area "
    "Assign Attach Author Balance Batch Blue Branch Browse Budget Building Button Calculate Call "
    "Camera Category Change Chart Check City Clear Close Code Color Column Comment Company "
    "Compare Confirm Connect Contact Copy Country Create Currency Customer Daily Data Date "
    "Default Delete Delivery Department Deposit Description Design Details Device Direct Discount "
    "Display District Document Done Download Draft Drive Duration Edit Email Enable End Enter "
    "Error Event Example Export Extra Fast Favorite Fee Field File Filter Final Find Finish First "
    "Folder Form Format Free From Full General Gift Go Green Group Guest Half Height Hide High "
    "History Holiday Home Hotel Hour House Image Import Index Info Insert Invite Item Job Join "
    "Key Label Language Large Last Layout Leave Left Length Level License Light Like Limit Line "
    "Link List Load Local Lock Login Low Main Manage Map Mark Medium Meeting Member Menu Merge "
    "Method Mobile Mode Monthly More Move Name Never New Night Normal Note Notify Number Office "
    "Offline Open Option Order Other Owner Package Page Paid Part Password Pause Payment Pending "
    "Percent Permit Person Phone Photo Pick Pin Place Play Point Port Post Power Premium Press "
    "Price Print Privacy Private Process Product Program Project Public Publish Quality Quantity "
    "Query Queue Quick Quit Quote Range Rate Read Ready Record Red Refund Region Register Reject "
    "Release Remove Rename Repeat Replace Reply Request Required Reserve Reset Resume Retry "
    "Return Review Right Role Room Route Row Rule Run Safe Sale Sample Scan Schedule School Score "
    "Screen Search Section Security See Select Send Server Service Session Set Share Ship Short "
    "Show Side Sign Simple Size Skip Small Sort Sound Source Space Speed Standard Start State "
    "Status Step Stock Stop Store Street Style Sum Support Switch Sync System Tab Table Task Tax "
    "Team Template Test Text Theme Ticket Time Title Today Tool Top Total Track Trial Type Undo "
    "Unit Unlock Until Update Urgent Usage User Value Vehicle Version Video View Visit Volume "
    "Wait Wallet Warning Week Weight White Width Window Word Work Year Yellow Yes Zone Zoom"
)
_STARTS = _split(
    "b bl br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sc sh sk sl sm sn sp "
    "st str sw t th tr tw v w wh x y z"
)
_MIDDLES = _split("a a e e i i o o u ai au ea ee ei ie oa oo ou ui y")
_ENDS = (
    *("", "", ""),
    *_split("b c ck d f g k l ll m n nd ng nk nt p r rd rk rm rt s sh ss st t tch th v w x z"),
)


def invented(rng: random.Random) -> str:
    """A word of one to three syllables."""
    syllables = rng.choice((1, 2, 2, 2, 3))
    word = "".join(
        rng.choice(_STARTS) + rng.choice(_MIDDLES) + rng.choice(_ENDS) for _ in range(syllables)
    )
    roll = rng.random()
    if roll < 0.5:
        return word.capitalize()
    return word.upper() if roll < 0.58 else word


def _number(rng: random.Random) -> str:
    return str(rng.randint(0, 10 ** rng.randint(1, 6)))


def _price(rng: random.Random) -> str:
    amount = f"{rng.randint(0, 10 ** rng.randint(1, 4)):,}.{rng.randint(0, 99):02d}"
    return rng.choice(("${}", "${}", "{} USD", "{}")).format(amount)


def _date(rng: random.Random) -> str:
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1990, 2035)
    name = MONTHS[month - 1]
    return rng.choice(
        (
            f"{month:02d}/{day:02d}/{year}",
            f"{day:02d}.{month:02d}.{year}",
            f"{year}-{month:02d}-{day:02d}",
            f"{name[:3]} {day}, {year}",
            f"{day} {name} {year}",
            f"{name} {year}",
        )
    )


def _time(rng: random.Random) -> str:
    ending = rng.choice(("", " AM", " PM"))
    return f"{rng.randint(0, 23)}:{rng.randint(0, 59):02d}{ending}"


def _code(rng: random.Random) -> str:
    letters = "".join(rng.choices("ABCDEFGHJKLMNPRSTUVWXYZ", k=rng.randint(1, 3)))
    return f"{letters}{rng.choice(('', '-', '#'))}{rng.randint(1, 99999)}"


def _mail(rng: random.Random) -> str:
    name = rng.choice(FIRST_NAMES).lower()
    return f"{name}@{invented(rng).lower()}.{rng.choice(('com', 'org', 'net', 'io'))}"


def _known(rng: random.Random) -> str:
    pool = rng.choice((NAVIGATION, OTHER_BUTTONS, OTHER_FIELDS, SPECIALTIES, MONTHS, WEEKDAYS))
    return rng.choice(pool)


def _person(rng: random.Random) -> str:
    name = f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"
    return rng.choice(("{}", "{}", "Dr. {}")).format(name)


_VALUES: tuple[Callable[[random.Random], str], ...] = (
    _number,
    _price,
    _date,
    _time,
    _code,
    _mail,
    _person,
)


def word(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.45:
        return rng.choice(_EVERYDAY)
    return invented(rng) if roll < 0.85 else rng.choice(FILLER)


def label(rng: random.Random) -> str:
    """One to three words, as on a button or beside a field."""
    if rng.random() < 0.2:
        return _known(rng)
    words = [word(rng) for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))]
    return " ".join([words[0], *(w if rng.random() < 0.3 else w.lower() for w in words[1:])])


def value(rng: random.Random) -> str:
    """What a cell of a table or a filled-in field holds."""
    return label(rng) if rng.random() < 0.35 else rng.choice(_VALUES)(rng)


def line(rng: random.Random, count: int) -> str:
    return " ".join(word(rng) for _ in range(count))
