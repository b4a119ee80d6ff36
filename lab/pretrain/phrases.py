"""How the questions are put: a grammar for each kind of question.

The notation is that of ``data.screens.grammar``: ``[a|b|]`` is a choice, ``{slot}`` a value. What
``heldout.json`` holds must never come out of these; a test compares them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from lab.screens.grammar import Phrases, say

_T = "[\"{text}\"|'{text}'|{text}]"
_AT = "[{x},{y}|({x},{y})|{x}, {y}|x={x} y={y}]"
_POINT = "[point|position|place|spot|coordinates|location]"
_THE_TEXT = "[the text|the word|the words|the writing|the line|the string]"
_SCREEN = "[on this screen|on the screen|in this picture|in the image|here|on this page|]"
_FIND = "[Find|Locate|Point to|Point at|Show me|Mark|Give the position of|Give the coordinates of]"
_BESIDE = "[right next to|directly|immediately|just|]"
_FIELD = "[field|input|box|text box|input field]"

LOCATE = Phrases(
    commands=(
        f"{_FIND} {_THE_TEXT} {_T} {_SCREEN}",
        f"{_FIND} {_T} {_SCREEN}",
        f"[Say|Tell me|Work out] where {_T} is [written|shown|printed|] {_SCREEN}",
        f"[Give|Name|Return|Output] the {_POINT} of {_T}",
        f"[Give|Return] x and y of {_THE_TEXT} {_T}",
        f"[Look for|Search for] {_T} [and give its {_POINT}|and say where it is]",
    ),
    remarks=(
        f"Where [is|does it say] {_T} {_SCREEN}?",
        f"Where is {_THE_TEXT} {_T} {_SCREEN}?",
        f"Where can [I|one|you] [see|read|find] {_T} {_SCREEN}?",
        f"What [is|are] the {_POINT} of {_T}?",
        f"At [what|which] {_POINT} [is|stands] {_T}?",
        f"{_T} is where?",
        f"Which [x and y|x,y] [has|does] {_T} [have|]?",
        f"Position of {_T}",
    ),
)

READ = Phrases(
    commands=(
        f"Read [the text|what is written|the words|the label|what it says|] at {_AT}",
        f"[Read out|Spell out|Copy|Write down|Transcribe] the [text|words|writing|line] at {_AT}",
        f"[Give|Tell me|Return|Say] [the text|what is written|the words|what it says] at {_AT}",
    ),
    remarks=(
        f"What [is written|does it say|is printed|text is|stands|can be read] at {_AT} {_SCREEN}?",
        f"Which [text|word|words|writing|line] [is|stands|do you see] at {_AT}?",
        f"Text at {_AT}",
        f"What does the [text|label|writing] at {_AT} say?",
        f"{_AT} says what?",
    ),
)

BOX = Phrases(
    commands=(
        f"[Give|Return|Output|Name] the [box|bounding box|edges|rectangle|frame] of {_T}",
        f"[Draw|Put] a [box|rectangle] around {_T}",
        f"[Mark|Outline|Frame] {_T} with a [box|rectangle]",
    ),
    remarks=(
        f"What is the [box|bounding box|rectangle] of {_T} {_SCREEN}?",
        f"What [box|rectangle|area] does {_T} [fill|take up|cover|occupy]?",
        f"Where does {_T} begin and end?",
        f"[Box|Bounding box|Edges] of {_T}",
    ),
)

KIND = Phrases(
    commands=(
        f"[Name|Say|Tell me] the [kind|type|sort] of [element|thing|control|item] at {_AT}",
        f"[Say|Tell me] what [kind of element|sort of thing|type of control] is at {_AT}",
    ),
    remarks=(
        f"What [kind|type|sort] of [element|thing|control|item] [is|stands|do you see] at {_AT}?",
        f"What [element|control|kind of thing] is at {_AT} {_SCREEN}?",
        f"Is it a button, a field or what, at {_AT}?",
        f"[Kind|Type] of [element|control] at {_AT}",
    ),
)

BESIDE = Phrases(
    commands=(
        f"[Read|Name|Give|Tell me|Say] [what is|the text|what stands] {_BESIDE} {{side}} {_T}",
        f"[Find|Look for] the [text|words|writing] {{side}} {_T} and read it",
    ),
    remarks=(
        f"What [is|stands|is written|comes|do you see] {_BESIDE} {{side}} {_T} {_SCREEN}?",
        f"Which [text|word|label|line] [is|stands] {_BESIDE} {{side}} {_T}?",
        f"{{side}} {_T}, what [is written|does it say|can be read]?",
    ),
)
SIDES = {
    "left": "[left of|to the left of|on the left of|on the left side of]",
    "right": "[right of|to the right of|on the right of|on the right side of]",
    "above": "[above|over|on top of]",
    "below": "[below|under|beneath|underneath]",
}

_RANKED = "[the {rank} {thing}|{thing} number {number}|the {ordinal} {thing}]"
_COUNTED = "[{order}|counting {order}|when counted {order}|]"
RANK_WHERE = Phrases(
    commands=(
        f"{_FIND} {_RANKED} {_COUNTED}",
        f"[Give|Return] the {_POINT} of {_RANKED} {_COUNTED}",
        f"Count the {{things}} {_COUNTED} and [give|point to|locate] the {{ordinal}}",
    ),
    remarks=(
        f"Where is {_RANKED} {_COUNTED}?",
        f"What is the {_POINT} of {_RANKED} {_COUNTED}?",
        f"Which {_POINT} has {_RANKED} {_COUNTED}?",
        f"Of the {{things}} {_COUNTED}, where is [the {{rank}}|number {{number}}]?",
    ),
)
RANK_READ = Phrases(
    commands=(
        f"[Read|Name|Give] the [label|text|name] of {_RANKED} {_COUNTED}",
        f"[Say|Tell me] what {_RANKED} [says|is called|is labelled] {_COUNTED}",
    ),
    remarks=(
        f"What does {_RANKED} say {_COUNTED}?",
        f"What is [written on|the label of|the name of] {_RANKED} {_COUNTED}?",
        f"How is {_RANKED} [called|labelled] {_COUNTED}?",
    ),
)
# Where the order is not the usual one, which needs no word.
RANK_IN_ORDER = Phrases(
    commands=(
        f"{_FIND} {_RANKED} {{order}}",
        f"[Give|Return] the {_POINT} of {_RANKED} {{order}}",
        "Count the {things} {order} and [give|point to|locate] the {ordinal}",
    ),
    remarks=(f"Where is {_RANKED} {{order}}?", f"{{order}}, where is {_RANKED}?"),
)
ORDERS = {
    "reading": "[in reading order|row by row|line by line|from left to right and top to bottom]",
    "columns": "[column by column|down the columns|from top to bottom and column by column]",
    "down": "[from the top|from top to bottom|down the screen|in the list]",
}

LIST = Phrases(
    commands=(
        f"[List|Name|Enumerate] the [kinds|types|sorts] of [elements|things|controls] {_SCREEN}",
        f"[Say|Tell me] which [elements|controls|kinds of things] there are {_SCREEN}",
    ),
    remarks=(
        f"[Which|What] [elements|controls|kinds of things] are {_SCREEN}?",
        f"What [elements|controls] [does this screen have|do you see|can be seen] {_SCREEN}?",
        f"[Which|What] [kinds|sorts] of elements are there {_SCREEN}?",
    ),
)

COUNT = Phrases(
    commands=(
        f"Count the {{things}} {_SCREEN}",
        f"[Say|Tell me] how many {{things}} there are {_SCREEN}",
        "[Give|Return] the number of {things}",
    ),
    remarks=(
        f"How many {{things}} [are there|do you see|can be seen|are] {_SCREEN}?",
        f"What is the number of {{things}} {_SCREEN}?",
        "Number of {things}",
    ),
)

LABEL = Phrases(
    commands=(
        f"[Read|Name|Give|Tell me] the [label|name|caption|title] of the {{thing}} at {_AT}",
        f"[Say|Tell me] [what|how] the {{thing}} at {_AT} is [called|labelled|named]",
    ),
    remarks=(
        f"What is the [label|name|caption] of the {{thing}} at {_AT} {_SCREEN}?",
        f"[What|How] is the {{thing}} at {_AT} [called|labelled|named]?",
        f"Which [label|name] belongs to the {{thing}} at {_AT}?",
        f"Label of the {{thing}} at {_AT}",
    ),
)

PRESENT = Phrases(
    commands=(
        f"[Say|Tell me|Check] whether {_T} is [there|shown|written|visible] {_SCREEN}",
        f"[Say|Tell me|Check] if [there is|you see|you can read] {_T} {_SCREEN}",
    ),
    remarks=(
        f"Is {_T} [there|shown|written|visible|to be seen] {_SCREEN}?",
        f"Is there {_T} {_SCREEN}?",
        f"[Do you see|Can you see|Can you read] {_T} {_SCREEN}?",
        f"Does [it|the screen|this page] [say|show|contain] {_T}?",
    ),
)

_NAMED = (
    '[the {text} {thing}|the {thing} {text}|the {thing} "{text}"|the {thing} labelled {text}|'
    "the {thing} [called|named|for|that says] {text}]"
)
ELEMENT = Phrases(
    commands=(
        f"{_FIND} {_NAMED} {_SCREEN}",
        f"[Give|Return|Name] the [{_POINT}|middle|centre] of {_NAMED}",
        f"[Say|Tell me] where {_NAMED} is {_SCREEN}",
    ),
    remarks=(
        f"Where is {_NAMED} {_SCREEN}?",
        f"Where [can I find|do you see] {_NAMED} {_SCREEN}?",
        f"What is the {_POINT} of {_NAMED}?",
        f"[Position|Centre|Middle] of {_NAMED}",
    ),
)

_ROW = "[in the row of|in the same row as|next to|beside|belonging to|that goes with]"
OWNED = Phrases(
    commands=(
        f"{_FIND} the {{thing}} {_ROW} {_T}",
        f"[Give|Return] the {_POINT} of the {{thing}} {_ROW} {_T}",
    ),
    remarks=(
        f"Where is the {{thing}} {_ROW} {_T} {_SCREEN}?",
        f"What is the {_POINT} of the {{thing}} {_ROW} {_T}?",
        f"{_T} has a {{thing}}, where is it?",
    ),
)

DESCRIBE = Phrases(
    commands=(
        "[Describe|Name] [this screen|the screen|the page|this page|the picture] [in a few words|]",
        "[Say|Tell me] what [this screen|the screen|the page|the picture] [shows|is|has on it]",
    ),
    remarks=(
        "What [does this screen show|is this screen|kind of screen is this|is this a picture of]?",
        "What [is shown|do you see|can be seen] [here|on this screen|in the picture]?",
        "What [kind|sort] of [page|screen|window] is [this|it]?",
    ),
)
MONTH = Phrases(
    commands=(
        "[Read|Name|Give|Tell me] the month [and year|] [of the calendar|that is shown|]",
        "[Say|Tell me] which month [the calendar|this calendar] [shows|is at]",
    ),
    remarks=(
        "[Which|What] month [does the calendar show|is shown|is the calendar at|is it]?",
        "[Which|What] month and year [does the calendar show|is shown|do you see]?",
    ),
)
_DATE = "[{date}|the date {date}|the day {date}]"
DATE = Phrases(
    commands=(
        f"{_FIND} {_DATE} {_SCREEN}",
        f"[Give|Return|Name] the [{_POINT}|middle|cell] of {_DATE}",
        f"[Say|Tell me] where {_DATE} [is|stands] {_SCREEN}",
    ),
    remarks=(
        f"Where is {_DATE} {_SCREEN}?",
        f"Where [can I find|do you see] {_DATE} {_SCREEN}?",
        f"What is the {_POINT} of {_DATE}?",
        f"Which [cell|place] is that of {_DATE}?",
        "[Position|Cell|Middle] of {date}",
    ),
)
DATES = (
    "{month} {day}",
    "{month} {ordinal}",
    "[the|] {ordinal} of {month}",
    "{day} {month}",
    "{day}. {month}",
    "{mon} {day}",
    "{month} {day}, {year}",
    "{mon} {day}, {year}",
    "{day} {month} {year}",
    "{weekday}, {month} {day}",
    "{weekday} {day} {month}",
    "{weekday} the {ordinal}",
    "{number}/{day}/{year}",
    "{iso}",
    "the {ordinal}",
    "{day}",
    "the {nth} {weekday} [of the month|of {month}|]",
    "the {last} day of [the month|{month}]",
    "the {first} day of [the month|{month}]",
)
NUMBERED = Phrases(
    commands=(
        "[Give|Name|Say|Tell me] the number of the month [shown|that is shown|of the calendar]",
        "[Say|Tell me] which month of the year [the calendar|this] [shows|is], as a number",
    ),
    remarks=(
        "[Which|What] number has the month [shown|that is shown|of the calendar]?",
        "What is the number of the month [shown|that is shown|of this calendar]?",
        "The month [shown|of the calendar] as a number",
    ),
)
_ON_SHOW = "[the month shown|the one shown|the month that is shown|this month]"
FOLLOWS = Phrases(
    commands=(
        f"[Name|Say|Tell me|Give] the month {{side}} {_ON_SHOW}",
        f"[Say|Tell me] [which|what] month [is|comes|lies] {{side}} {_ON_SHOW}",
    ),
    remarks=(
        f"[Which|What] month [is|comes|lies] {{side}} {_ON_SHOW}?",
        f"{{side}} {_ON_SHOW}, which month is it?",
    ),
)
SHIFTS = {
    1: "[right after|just after|one month after|directly after]",
    -1: "[right before|just before|one month before|directly before]",
    2: "two months after",
    -2: "two months before",
    3: "three months after",
    -3: "three months before",
}
_SHOWN_OR_ARROW = "[itself or the arrow|or the arrow|or else the arrow|or an arrow]"
TOWARDS = Phrases(
    commands=(
        f"{_FIND} {_DATE} {_SHOWN_OR_ARROW} [towards|to|leading to] it",
        f"[Give|Return] the {_POINT} of {_DATE} {_SHOWN_OR_ARROW} [towards|to] it",
    ),
    remarks=(
        f"Where is {_DATE} {_SHOWN_OR_ARROW} [towards|to] it?",
        f"Where [does one|do I|do you] get to {_DATE}?",
        f"Which [place|point|spot] leads to {_DATE}?",
        f"What leads to {_DATE} {_SCREEN}?",
    ),
)
ARROW = Phrases(
    commands=(
        f"{_FIND} the [arrow|mark|sign] [to|for|towards|of] {{text}} {_SCREEN}",
        f"[Give|Return|Name] the {_POINT} of the [arrow|mark|sign] [to|for|towards] {{text}}",
    ),
    remarks=(
        f"Where is the [arrow|mark|sign] [to|for|towards|that leads to] {{text}} {_SCREEN}?",
        "Which [arrow|place] leads to {text}?",
        f"What is the {_POINT} of the arrow [to|for|towards] {{text}}?",
        "[Position|Middle] of the arrow [to|for] {text}",
    ),
)
ARROWS = {
    "previous month": (
        "[the [previous|prior|preceding|past|last|earlier|foregoing] month|the month before|"
        "[earlier|former|past|prior|preceding] [months|days|dates]|what [came before|precedes]|"
        "the month that [precedes|came before|comes before|went before]|going back|"
        "[a|one] month [back|earlier|backwards|ago|less]|the month just gone]"
    ),
    "next month": (
        "[the [next|following|subsequent|coming|upcoming|later|ensuing] month|the month after|"
        "[later|future|coming|subsequent|following] [months|days|dates]|what [comes after|follows]|"
        "the month that [follows|comes after|comes next|comes then]|going forward|going on|"
        "[a|one] month [on|later|forward|ahead|more]|the month to come]"
    ),
}
"""What the arrows of a calendar lead to, by their label."""
FACT = Phrases(
    commands=(),
    remarks=(
        "{fact} [What|Which] is the {name}?",
        "{fact} [And|So|Then] the {name}?",
        "{fact} {name}?",
        "What is the {name} [here|in this|if it says]: {fact}",
        "[Give|Name|Say|Repeat] the {name}. {fact}",
    ),
)
"""The fact is one of those below; they are kept apart because each has forms by the thousand."""
_OUR = "[the|my|our|their|her|]"
FACTS = (
    f"{_OUR} {{name}} [is|was|reads|runs|will be|seems to be] {{value}}",
    f"{{value}} [is|was|remains] {_OUR} {{name}}",
    "{name} [:|=|-] {value}",
    "{value} [stands|was noted|is found|was written] [under|for|as|beside|by] {name}",
    "[we|she|he|somebody] [wrote|noted|gave|has|had|heard] {value} [as|for|under] {name}",
    "[with|under|as|for] {name} [we have|there is|we find|she noted] {value}",
)
BEFORE_FACT = (
    "",
    "[So|Well|Listen|Now]:",
    "{other} [is|was|reads] {second}[,|;|.] [and|but|while|]",
    "{second} is {other}[;|.]",
)
AFTER_FACT = (
    "[.|;|!]",
    "[, as far as I know|, I think|, thanks|, please|; that is all|, right][.|!|]",
    "[then|too|now][.|;|!]",
)
WHEN = Phrases(
    commands=(
        "[Say|Tell me] whether {month} [is|comes|lies] before or after the month [shown|on show]",
        "Compare {month} [with|to] the month [of the calendar|that is shown]",
    ),
    remarks=(
        "Is {month} [earlier or later|before or after] [than|] [the month shown|this calendar]?",
        "[Is|Lies] {month} before or after [the month that is shown|this month]?",
        "{month}, is [that|it] [earlier|later|before|after]?",
        "Which way [is|lies] {month} from the month [shown|of the calendar]?",
        "Does {month} [precede or follow|come before or after] the month shown?",
    ),
)
ORDER = Phrases(
    commands=(
        "[Say|Tell me] whether {month} [is|comes|lies] before or after {other}",
        "Compare {month} [with|to] {other}",
    ),
    remarks=(
        "Is {month} [earlier or later|before or after] [than|] {other}?",
        "[Is|Lies] {month} before or after {other}?",
        "{month}, is [that|it] [earlier|later|before|after] [than|] {other}?",
        "Which way [is|lies] {month} from {other}?",
        "Does {month} [precede or follow|come before or after] {other}?",
    ),
)
COPY = Phrases(
    commands=(
        "[Repeat|Copy|Say again|Write again|Echo] [these symbols|this|the following|these signs]:",
        "[Repeat|Copy] exactly:",
    ),
    remarks=("[The same again|Once more|Again]:",),
)
QUOTED = Phrases(
    commands=(
        "[Repeat|Copy|Say again|Write again] [only|just|] what [is|stands] [quoted|in quotes]:",
        "[Repeat|Copy|Find] [the quote|the quoted part|the part in quotes]:",
    ),
    remarks=("What is [quoted|in quotes] [here|]:", "Which part is [quoted|in quotes]:"),
)

WORDINGS = {
    "locate": (LOCATE,),
    "read": (READ,),
    "box": (BOX,),
    "kind": (KIND,),
    "beside": (BESIDE,),
    "rank": (RANK_WHERE, RANK_IN_ORDER),
    "rank-label": (RANK_READ,),
    "list": (LIST,),
    "count": (COUNT,),
    "label": (LABEL,),
    "present": (PRESENT,),
    "element": (ELEMENT,),
    "row": (OWNED,),
    "describe": (DESCRIBE,),
    "month": (MONTH,),
    "date": (DATE,),
    "when": (WHEN,),
    "numbered": (NUMBERED,),
    "follows": (FOLLOWS,),
    "towards": (TOWARDS,),
    "arrow": (ARROW,),
    "order": (ORDER,),
    "fact": (FACT,),
    "copy": (COPY, QUOTED),
}
"""By task; the order gives each task its number."""
TASKS = tuple(WORDINGS)

_WORD = re.compile(r"[a-z]{5,}")


def phrase(rng: random.Random, wording: Phrases, values: Mapping[str, str]) -> str:
    """A question of the grammar, politeness, letter case and now and then a typo included."""
    text = say(rng, wording, values)
    if rng.random() < 0.05:
        text = _slip(rng, text, " ".join(values.values()).lower())
    return text


def _slip(rng: random.Random, text: str, spared: str) -> str:
    """Drops, doubles or swaps a letter in a word that is none of the values."""
    words = [match for match in _WORD.finditer(text) if match.group() not in spared]
    if not words:
        return text
    word = rng.choice(words)
    place = rng.randrange(word.start() + 1, word.end() - 1)
    here, following = text[place], text[place + 1]
    change = rng.choice((following, here * 2 + following, following + here))
    return text[:place] + change + text[place + 2 :]
