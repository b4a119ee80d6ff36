"""What people say around what they mean: clauses about their day, and slips of the tongue.

A clause means nothing for the click, so it says nothing that could be on a screen: no number, no
time or date, no name, no label, no word for a widget. It comes as often with wishes that no adapter
grants, lest it tell one from the other.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from .grammar import Phrases, ends_in_value, expand, finish, lower_first, word, word_plainly
from .words import invented_word

_CLAUSE_SHARE = 0.12
_SLIP_SHARE = 0.03

_WHO = (
    "[my mother|my father|my sister|my brother|my aunt|my uncle|my cousin|my neighbour|my wife|"
    "my husband|my daughter|my son|my niece|my nephew|my grandmother|my landlord|my boss|a friend|"
    "the florist|the plumber|the postman|the teacher|a colleague|the librarian|the gardener]"
)
_THING = (
    "[kettle|bicycle|umbrella|sofa|ladder|carpet|mirror|blanket|teapot|guitar|suitcase|lamp|fridge|"
    "toaster|candle|basket|hammer|pillow|violin|kite|bucket|curtain|oven|wallet|scarf|jacket|"
    "piano|drawer|saucepan|bookcase|tent|shovel|radio|trumpet|puzzle|balloon|necklace|helmet|"
    "wheelbarrow|doormat|hedge|fountain|lantern|canoe|sandwich|pancake|pumpkin|cactus|parrot|"
    "kitten|puppy|hamster|goldfish|donkey]"
)
_DID = (
    "[lost|found|dropped|cleaned|painted|forgot|bought|sold|packed|washed|borrowed|mended|hid|"
    "admired|broke|carried|measured|polished|wrapped|unpacked|covered|mislaid|rented]"
)
_HOW = "[again|as usual|at home|in the kitchen|on the stairs|in the garden|for once|by mistake|]"
_IS = (
    "[is noisy|is broken|is wet|is too heavy|leaks|squeaks|smells odd|looks lovely|is upside down|"
    "is in the way|has vanished|needs oil|is covered in dust|rattles|was a bargain]"
)
_BODY = "[knee|elbow|shoulder|ankle|wrist|thumb|neck|hip|throat|tooth|heel|jaw]"
_HURTS = "[hurts|aches|itches|tingles|is sore|is stiff|is swollen|feels odd|clicks a lot]"
_WHERE = (
    "[on the bus|on the train|in the kitchen|in a taxi|at the bakery|in the hallway|on a ladder|"
    "at the hairdresser|in the garage|on the balcony|in the lift|under a tree|by the river]"
)

_SENTENCES = (
    f"{_WHO} {_DID} [the|a|that|our|your] {_THING} {_HOW}",
    f"[I|we] {_DID} [the|a|that|our|your] {_THING} {_HOW}",
    f"[The|My|Our|That|Your] {_THING} {_IS}",
    f"My {_BODY} {_HURTS} [again|a little|as usual|when I sit|]",
    f"I'm {_WHERE} with [{_WHO}|the {_THING}]",
    f"{_WHO} [is|was] {_WHERE}",
    "[It's|It is] [raining|snowing|windy|noisy|freezing|awfully warm|rather dark] [here|outside|]",
    f"I [never|always|often|rarely] [liked|wanted|understood|trusted] {_WHO}'s {_THING}",
    f"[There is|I can hear|I smell|Somebody left] [a|the|another] {_THING} {_WHERE}",
    "[Sorry|Pardon me|Excuse me|Hello|Hi there|Good to see you|Thank you so much]",
    f"[Never mind|Ignore|Forget about|Don't ask about] the {_THING}",
)
_ASIDES = (
    f"as {_WHO} [said|suggested|advised|always says|told me]",
    f"[like|the way] {_WHO} [asked|wanted|told me|suggested]",
    f"while the {_THING} [is being mended|gets warm|dries|is quiet|is still here]",
    "before [lunch|dinner|breakfast|supper|the guests arrive|I forget|the tea gets cold]",
    f"if [it's no trouble|you can|you don't mind|{_WHO} agrees|possible]",
    f"with {_WHO} [beside me|watching|waiting]",
    f"[in spite of|because of|thanks to|speaking of] {_WHO}'s {_THING}",
    f"[since|because|although] the {_THING} {_IS}",
)
_OPENERS = (
    "[quick|small|simple|silly|little] [question|request|favour|thing]",
    f"[a favour|a request|a wish|a little thing] [for|from] {_WHO}",
    "[so|well|right|hm|hello|hello again|hey|listen|all right]",
    f"[{_WHO} says|{_WHO} asked me this|message from {_WHO}]",
)
TELLING = re.compile(
    "next|following|previous|prior|preceding|earlier|later|forward|ahead|back|backwards|advance|"
    "rewind|subsequent|before|after|early|late|coming|upcoming|past|follows|comes|precedes|nxt|prev|"
    "right|left|last|final|first|second|third|fourth|fifth|sixth|seventh|eighth|not|no|but|"
    "nobody|other|month|day|date|calendar|picker|field|box|input|entry|form|claim|doctor|provider|"
    "physician|clinician|specialist",
    re.IGNORECASE,
)
"""Words that a text may not lose, for they alone may say what is meant."""
_PLAIN_WORD = re.compile(r"(?<![\w{}'.-])[A-Za-z]{2,}(?![\w{}'.-])")


def talk(
    rng: random.Random,
    phrases: Phrases,
    values: Mapping[str, str],
    naming: frozenset[str] = frozenset(),
) -> str:
    """One instruction of the grammar (see `grammar.word`) as people would say it."""
    return _told(rng, word(rng, phrases, values, naming), values)


def talk_plainly(
    rng: random.Random,
    templates: Sequence[str],
    values: Mapping[str, str],
    naming: frozenset[str] = frozenset(),
) -> str:
    """The same with one of the templates as it is."""
    return _told(rng, word_plainly(rng, templates, values, naming), values)


def _told(rng: random.Random, text: str, values: Mapping[str, str]) -> str:
    if rng.random() < _SLIP_SHARE:
        text = slip(rng, text)
    if rng.random() < _CLAUSE_SHARE:
        text = add_clause(rng, text)
    return finish(rng, text, values)


def clause_templates() -> tuple[str, ...]:
    return (*_SENTENCES, *_ASIDES, *_OPENERS)


def add_clause(rng: random.Random, text: str) -> str:
    """The text, its slots open, with a clause before or after it that means nothing."""
    roll = rng.random()
    before = rng.random() < 0.5 or ends_in_value(text)
    if roll < 0.5:
        sentence = _capital(expand(rng, rng.choice(_SENTENCES)))
        end = "" if text[-1] in ".?!" else "."
        return f"{sentence}. {text}" if before else f"{text}{end} {sentence}."
    if roll < 0.8:
        aside = expand(rng, rng.choice(_ASIDES))
        if before:
            return f"{_capital(aside)}, {lower_first(text)}"
        body = text.rstrip(".?!")
        return f"{body}, {aside}{text[len(body) :]}"
    return f"{_capital(expand(rng, rng.choice(_OPENERS)))}: {lower_first(text)}"


def slip(rng: random.Random, text: str) -> str:
    """The text, its slots open, without one of its words or with another that nobody knows."""
    words = [found for found in _PLAIN_WORD.finditer(text) if _spare(text, found)]
    if not words:
        return text
    chosen = rng.choice(words)
    other = invented_word(rng) if rng.random() < 0.5 else ""
    if chosen.group()[0].isupper():
        other = other.capitalize()
    changed = " ".join(f"{text[: chosen.start()]}{other}{text[chosen.end() :]}".split())
    return re.sub(r"^[ ,:]+|[ ,]+$|\s+(?=[,.?!:])", "", changed)


def _spare(text: str, found: re.Match[str]) -> bool:
    """Whether the text means the same without the word."""
    if TELLING.fullmatch(found.group()):
        return False
    if found.start() == 0 and "{" not in text:
        # "Call the first doctor" without its verb would be another wish.
        return False
    # Beside a value to enter, a word says where the value ends.
    before, after = text[: found.start()].rstrip(), text[found.end() :].lstrip()
    return not before.endswith("{value}") and not after.startswith("{value}")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
