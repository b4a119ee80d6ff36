"""The wordings of every task: plain ones, very short ones, and a grammar of many more.

The plain and short ones are few and frequent; the grammar gives the long tail. See
`grammar.Phrases` for the notation.
"""

from __future__ import annotations

from .grammar import Phrases

_CLICK = "[Click|Click on|Select|Pick|Choose|Tap|Press|Hit|Open]"


_PICK = "[Select|Pick|Choose|Take|Use|Go with|Go for]"


_CALENDAR = "[calendar|date picker|datepicker|month view|calendar widget|month grid]"


_DAY_OF_MONTH = "[{month} {day}|{month} {ordinal}|the {ordinal} of {month}|{day} {month}]"


_FULL_DATE = (
    "[{month} {day}, {year}|{day} {month} {year}|{weekday}, {month} {day}|{iso}|"
    "{mon} {day}, {year}|{number}/{day}/{year}|{weekday} {day} {month}|{day}. {month} {year}]"
)


_VISIT = "[appointment|visit|check-up|booking|consultation|meeting|session]"


DAY_PLAIN = (
    "Click {month} {day} in the calendar",
    "Select the {ordinal} of {month}",
    "Pick {month} {day}, {year} as the appointment date",
    "Choose day {day} on the date picker",
    "Click the {bare}",
    "Book {month} {day}",
    "Set the date to {month} {day}, {year}",
    "Choose {day} {month} {year}",
    "Open day {day} in the calendar",
    "{month} {day}",
    "Go to {mon} {day} in the date picker",
    "Schedule it for {month} {ordinal}",
    "Select {number}/{day}/{year}",
    "Pick the {ordinal} as the visit date",
)


DAY_SHORT = (
    "Click {sole}",
    "{sole}, please",
    "Pick the one that says {sole}",
    "{sole}",
    "Tap {sole}",
    "I want {sole}",
    "Select {sole}",
    "Choose {sole}",
)


DAY = Phrases(
    commands=(
        f"{_CLICK} {_DAY_OF_MONTH} [in|on] the {_CALENDAR}",
        f"{_CLICK} {_DAY_OF_MONTH}",
        f"{_CLICK} {_FULL_DATE} [in the calendar|on the calendar|in the date picker|]",
        f"{_PICK} {_FULL_DATE} as the [appointment|visit|service|start|check-in|due] date",
        f"{_CLICK} [day|date] {{day}} [in|on] the {_CALENDAR}",
        f"{_PICK} day {{day}} [for the {_VISIT}|as the date|of this month|of the month]",
        f"[Set|Change|Move] the [date|{_VISIT}|day] to {_DAY_OF_MONTH}",
        f"[Set|Change|Move] the [date|{_VISIT}] to {_FULL_DATE}",
        f"[Book|Schedule|Reserve|Put|Make] [it|the {_VISIT}|a {_VISIT}] [for|on] {_DAY_OF_MONTH}",
        f"[Book|Reserve] {_FULL_DATE}",
        f"[Mark|Highlight|Choose] the {{ordinal}} [in|on] the {_CALENDAR}",
        "[Go|Jump|Move] to [{mon} {day}|day {day}|the {ordinal}] [in|on] the [calendar|picker]",
        "[Click|Tap|Pick|Choose] the {ordinal} of [this|the] month",
        "[Click|Tap|Pick|Choose] the {bare}",
        "[Click|Choose|Pick] {weekday} the {ordinal}",
        "[Click|Choose|Pick] the {nth} {weekday} of [the month|{month}|this month]",
        "[Click|Choose|Pick] the {last} day of [the month|{month}]",
        "[Click|Choose|Pick] the {first} day of [the month|{month}]",
        "[Find|Locate] {month} {day} [in|on] the calendar and [click|tap|select] it",
        "[Click|Tap] on the cell [for|of] [{month} {day}|the {ordinal}]",
        "[Click|Tap|Hit] the [square|cell|box|day] [that says|labelled|with] {sole}",
    ),
    remarks=(
        "I'd like [{month} {day}|the {ordinal}|{weekday} the {ordinal}]",
        f"[The date should be|Make it|Let's do|How about] {_DAY_OF_MONTH}",
        f"My {_VISIT} is on {_DAY_OF_MONTH}",
        "[I am|We are|I'm] free on [the {ordinal}|{month} {day}]",
        f"{_FULL_DATE}[, please|]",
        "[Date|Visit date|Appointment]: {iso}",
        "[The|] {ordinal} of {month}[, please|]",
    ),
)


def _arrow_commands(way: str, direction: str) -> tuple[str, ...]:
    return (
        f"[Go to|Show|Show me|Open|View|Switch to|Flip to|Move to|Turn to] the {way} month",
        f"[Click|Press|Hit|Tap] the {way} month [arrow|button]",
        f"[Click|Press|Hit|Tap] the arrow [to|for] the {way} month",
        f"[Go|Move|Page|Skip] {direction} [one|a] month [in the calendar|]",
    )


ARROWS = {
    "next-month": Phrases(
        commands=(
            *_arrow_commands("[next|following]", "[forward|ahead]"),
            "[Advance|Scroll] the calendar [by one month|to the next month]",
        ),
        remarks=("[Next month|The next month][, please|]", "[One|A] month later[, please|]"),
    ),
    "previous-month": Phrases(
        commands=(
            *_arrow_commands("[previous|prior|preceding]", "[back|backwards]"),
            "[Take|Bring] the calendar back one month",
        ),
        remarks=(
            "[Previous month|The previous month][, please|]",
            "[One|A] month earlier[, please|]",
        ),
    ),
}


ARROW_PLAIN = {
    "next-month": ("Go to the next month", "Show the next month", "Next month"),
    "previous-month": (
        "Go to the previous month",
        "Show the previous month",
        "Previous month",
    ),
}


_FORM = "[claim|claim form|claim window|insurance claim|form|claim screen]"


_INPUT = "[field|box|input|text box|text field|entry|input field]"


FIELD_PLAIN = (
    "Click the {field} field of the claim",
    "Put the cursor in {field}",
    "Fill in {field} on the claim form",
    "Enter the {field}",
    "Focus the {field} box",
    "Type the {field} into the claim",
    "Go to the {field} input",
    "Edit {field} in the claim window",
)


FIELD_SHORT = (
    "Click {field}",
    "{field}, please",
    "Pick the one that says {field}",
    "{field}",
    "Tap {field}",
    "I want {field}",
    "Select {field}",
)


FIELD = Phrases(
    commands=(
        f"[Click|Click on|Tap|Select|Focus|Activate] the {{field}} {_INPUT}",
        f"[Click|Tap|Select|Focus|Edit] the {{field}} {_INPUT} [of|on|in] the {_FORM}",
        f"[Click|Tap|Select|Edit|Focus|Change] {{field}} [on|in] the {_FORM}",
        "[Put|Place|Set|Move] the [cursor|caret] [in|into] [the {field} field|{field}]",
        f"[Fill in|Fill out|Complete|Enter|Edit|Update|Change] [the|my|] {{field}} "
        f"[on|in] the {_FORM}",
        "[Fill in|Fill out|Complete|Enter|Type in|Provide|Add|Update|Correct] [the|my|] {field}",
        f"[Type|Write|Enter|Put] the {{field}} [into|in] the {_FORM}",
        "[Go|Jump|Move|Tab] to [the {field} field|{field}|the {field} input]",
        "[Click|Tap] [into|inside|in] [the {field} box|{field}]",
        "[Open|Click|Tap] {field} so [I|we] can [type|enter it|fill it in]",
        "[Find|Locate] {field} on the form and click it",
        f"[Start|Begin] typing in the {{field}} {_INPUT}",
    ),
    remarks=(
        "[I need to|I want to|I have to|Let me] [enter|fill in|edit|change|type] [the|my|] {field}",
        "[The|] {field} is [missing|wrong|empty|still blank][, click it|, go there|]",
        f"[Next is|Now for|Now] the {{field}} {_INPUT}",
        "{field} [field|box|input]",
        "Where it says {field}, click there",
    ),
)


BUTTON_PLAIN = (
    "Click {button}",
    "Press the {button} button in the claim window",
    "{button} for this claim",
    "Hit {button}",
    "Use the {button} button on the claim form",
    "Push {button} in the claim window",
    "Press {button}",
)


BUTTON_SHORT = (
    "Click {button}",
    "{button}, please",
    "Pick the one that says {button}",
    "{button}",
    "Tap {button}",
    "I want {button}",
    "Select {button}",
)


BUTTON = Phrases(
    commands=(
        "[Click|Click on|Press|Hit|Push|Tap|Use] [the {button} button|{button}]",
        f"[Click|Press|Hit|Push|Tap|Use] the {{button}} button [of|on|in] the {_FORM}",
        f"[Click|Press|Hit|Push|Tap] {{button}} [on|in] the {_FORM}",
        "[Click|Press|Hit|Tap] the button [labelled|that says|named|marked|called] {button}",
        "[Choose|Select|Pick] {button} [for|on] [this|the] claim",
        "[Find|Locate] the {button} button and [click|press|hit] it",
    ),
    remarks=(
        "{button} [for|on] [this|the|my] [claim|form|request]",
        "{button}[, please| please| now|]",
        "[Time to|I'm ready, so|I want to|Let me] click {button}",
        "The {button} button[, please|]",
    ),
)


_DOCTOR = "[provider|doctor|physician|clinician|specialist]"


_NAMED = "[Dr. {name}|{name}|Dr {name}|doctor {name}]"


ROW_PLAIN = (
    "Select Dr. {name}",
    "Choose Dr. {name} as my provider",
    "Pick the provider Dr. {name}",
    "Book with Dr. {name} ({specialty})",
    "Book an appointment with Dr. {name}",
    "Choose provider {name}",
    "I would like to see Dr. {name}",
    "Make Dr. {name} my doctor",
    "Pick doctor {name}",
    "Select the provider {name}",
    "Choose Dr. {last}",
)


ROW_SHORT = (
    "Dr. {name}, please",
    "Pick {name}",
    "{name}",
    "I want Dr. {name}",
    "Click {name}",
    "Click the one for {last}",
    "{last}, please",
    "The one for {first}",
)


ROW = Phrases(
    commands=(
        f"[Select|Choose|Pick|Book|Take|Click|Go with] {_NAMED}",
        f"[Select|Choose|Pick|Take|Click] {_NAMED} [as|for] my {_DOCTOR}",
        f"[Select|Choose|Pick|Take|Click] the {_DOCTOR} {_NAMED}",
        f"[Select|Choose|Pick|Click] {_NAMED} [from|in|on] the [list|provider list|results]",
        "[Book|Schedule|Make|Set up|Request] [an appointment|a visit|a consultation] "
        f"with {_NAMED}",
        f"[Book|Go|Sign me up] with {_NAMED}",
        "[Book|Go|Schedule] with Dr. {name} [({specialty})|from {specialty}|in {specialty}]",
        f"[Make {_NAMED} my|Set {_NAMED} as my] {_DOCTOR}",
        "[Click|Press|Hit|Tap] the button [next to|beside|for|in the row of] Dr. {name}",
        "[Select|Choose|Pick|Click] Dr. {last}",
        "[Select|Choose|Pick|Click] the one [for|named] {last}",
        "[Choose|Pick|Select|Book] the [{only} provider|{only} doctor|doctor for {only}]",
        f"[Assign|Request|Add] {_NAMED} as [the|my|our] {_DOCTOR}",
        f"[Find|Locate] {_NAMED} and [select|choose|pick|click] [them|the button]",
    ),
    remarks=(
        f"I [would like|want|need|wish] to see {_NAMED}",
        f"I'd [like|rather have|prefer] {_NAMED}",
        f"My {_DOCTOR} [is|should be|will be] {_NAMED}",
        f"{_NAMED}[, please| please|]",
        "[Dr. {last}|{last}][, please|]",
        "The [row|entry|one] [of|for|with] [Dr. {name}|{name}][, please|]",
        f"[I was referred to|We go to|I'm going to see] {_NAMED}",
    ),
)
