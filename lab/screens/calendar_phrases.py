"""The wordings that ask for a day of a calendar; those for its arrows are in `arrow_phrases`.

The plain and short ones are few and frequent; the grammar gives the long tail. See
`grammar.Phrases` for the notation.
"""

from __future__ import annotations

from .grammar import Phrases

_CLICK = "[Click|Click on|Select|Pick|Choose|Tap|Press|Hit|Open]"
_PICK = "[Select|Pick|Choose|Take|Use|Go with|Go for]"
_CALENDAR = "[calendar|date picker|datepicker|month view|calendar widget|month grid]"
_DAY_OF_MONTH = "[{month} {day}|{month} {ordinal}|the {ordinal} of {month}|{day} {month}]"
_DATED = (
    "[{month} {day}, {year}|{day} {month} {year}|{iso}|{mon} {day}, {year}|"
    "{number}/{day}/{year}|{day}. {month} {year}|the {ordinal} of {month} {year}]"
)
_FULL_DATE = f"[{_DATED}|{{weekday}}, {{month}} {{day}}|{{weekday}} {{day}} {{month}}]"
_DATE = f"[{_DAY_OF_MONTH}|{_DAY_OF_MONTH}|{_DATED}]"
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
    "I need an appointment on {month} {day}",
    "Mark {month} {day}",
    "Choose {weekday}, {month} {day}",
    "The visit is on the {ordinal} of {month}",
    "Reserve {iso}",
    "Tap the cell of {month} {ordinal}",
    "Move the appointment to {day} {month}",
    "Is {month} {day} free? Then take it",
    "{mon} {day} works for me",
    "Plan the visit for {month} {day}, {year}",
    "On the calendar, click the {ordinal}",
    "We are coming on {weekday} the {ordinal}",
    "My date is {month} {day}",
    "How about {month} {ordinal}?",
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
    "Press {sole}",
    "Take {sole}",
    "{sole} it is",
    "How about {sole}?",
    "The {sole}",
    "Where it says {sole}",
    "Mine is {sole}",
    "Touch {sole}",
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
        f"[Arrange|Plan|Organise|Organize] [the|a|my|our] {_VISIT} for {_DATE}",
        f"[Look for|Search for|Spot|Look up] {_DATE} and [click|tap|press|choose] [it|that day]",
        f"[Shift|Push|Postpone|Reschedule|Transfer] [my|the|our] {_VISIT} to {_DATE}",
        f"Find me [a slot|a place|an opening|something|a time] on {_DATE}",
        f"[Touch|Point at|Point to|Press on] [the date|the day|] {_DATE}",
        f"[Block|Hold|Keep|Set aside] {_DATE} for [me|us|the {_VISIT}|my family]",
        f"[Start|Begin] [it|the treatment|the {_VISIT}] on {_DATE}",
        f"[Use|Open|Take] the {_CALENDAR} to [pick|choose|select|set] {_DATE}",
        f"[Confirm|Accept|Agree to|Decide for] {_DATE} [as the date|for the {_VISIT}|]",
        "[Click|Tap|Select|Choose] day [number|no.|] {day} [of {month}|]",
        "[Click|Choose|Pick|Take] the {weekday} that is the {ordinal}",
        "[Click|Choose|Pick|Take] {month}'s {ordinal}",
        f"[Pick|Choose] the day [my|the] {_VISIT} is on: {_DATE}",
        f"Make {_DATE} the day of [the|my] {_VISIT}",
        "[Choose|Pick|Click] the {ordinal} of {month}, [it's|which is] a {weekday}",
        f"[Click|Select] the [square|cell|box] [for|of|belonging to] {_DATE}",
        f"[Fit|Squeeze|Slot] [me|us] in on {_DATE}",
        f"[Put|Write|Pencil|Note] [me|us] down for {_DATE}",
        f"[Get|Give] me {_DATE} [for the {_VISIT}|as the date|if you can|]",
        f"[Let|Have] the {_VISIT} [be|take place] on {_DATE}",
        f"[See|Check] whether {_DATE} [is free|is possible|works] and [take|choose|book] it",
        f"[Stick|Stay] with {_DATE} for [the|my|our] {_VISIT}",
        f"[Enter|Record|Register] {_DATE} as the [day|date] of [the|my|our] {_VISIT}",
        f"[Drop|Land|Stop] on {_DATE} [in|on] the {_CALENDAR}",
        f"[Highlight|Check|Hit|Grab] {_FULL_DATE}",
        f"[Plan|Expect] [me|us] on {_DATE}",
        f"[Sign|Book] [me|us|my son|my wife] [up|in] for {_DATE}",
    ),
    remarks=(
        "I'd like [{month} {day}|the {ordinal}|{weekday} the {ordinal}]",
        f"[The date should be|Make it|Let's do|How about] {_DAY_OF_MONTH}",
        f"My {_VISIT} is on {_DAY_OF_MONTH}",
        "[I am|We are|I'm] free on [the {ordinal}|{month} {day}]",
        f"{_FULL_DATE}[, please|]",
        "[Date|Visit date|Appointment]: {iso}",
        "[The|] {ordinal} of {month}[, please|]",
        f"[In|On] the {_CALENDAR}, [click|choose|pick|take|mark] {_DATE}",
        f"[It|This|The {_VISIT}] [has|needs|ought] to be on {_DATE}",
        f"[Can|Could] [we|you] [do|manage|make it] {_DATE}?",
        f"Is {_DATE} [free|open|still available|possible]? [If so, take it|Then click it]",
        f"{_DATE} [works|is fine|is good|is best|suits us]",
        f"Since I work [nights|shifts|abroad], {_DATE} is the [day|date] I need",
        f"The [day|date] [I need|we want|I'm after|to choose|I have in mind] is {_DATE}",
        f"The [cell|square|day] [I mean|to click|you want] is the one for {_DATE}",
        f"{_DATE}[ it is| then|, that's the one|, nothing else]",
        f"[Why not|Maybe|Perhaps|What do you say to] {_DATE}?",
        f"I [can only|could|can] [make it|come|do it] on {_DATE}",
        f"I [was told|have|promised|am asked] to come on {_DATE}",
        f"[Looking for|Hoping for|Aiming for|Thinking of] {_DATE}",
        f"[An|My|Our] [appointment|outing|operation] on {_DATE}[, please|]",
        "[The|] {ordinal}, a {weekday}",
        f"[My train|My flight|My sitter] is on {_DATE}, so [choose|pick|click] that day",
        f"What I [want|need] is a {_VISIT} on {_DATE}",
        f"We [agreed|arranged|said]: {_DATE}",
        f"No day but {_DATE}[, please|]",
        f"Any [time|hour] on {_DATE} [will do|is fine]",
        f"I was [after|hoping for|thinking of|told to take] {_DATE}",
        f"[We|I] [settled on|decided on|picked|fixed] {_DATE}",
        f"[Would|Does] {_DATE} [work|suit you|be all right]? Then [book|take|click] it",
        f"I've got [time|a day off|a lift] on {_DATE}, [so|] [click|choose|book] that",
        f"[My notes say|It says here|They wrote]: {_DATE}",
        f"[See you|I'll come|We'll be there|Count me in] on {_DATE}",
        f"The {_VISIT}? On {_DATE}[, please|]",
        f"If {_DATE} is [free|open], [take|book|choose] it",
        f"It all [depends on|comes down to] {_DATE}, [so|] [click|choose|take] that day",
        f"[Gimme|Wanna have|Need|Want] {_DATE}",
    ),
)
