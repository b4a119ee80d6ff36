"""The wordings that only count, and those that count on a named widget."""

from __future__ import annotations

from .grammar import Phrases

RANKS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


_THING = "[option|entry|one|item|choice]"


RANK_PLAIN = (
    "Take the {rank} option",
    "Option {number}",
    "Click the {rank} one",
    "Choose number {number}",
    "Go with the {rank} entry, please",
    "I want the {rank} one",
    "Number {number}, please",
    "The {ordinal} one",
    "Pick {thing} {number}",
    "My choice is the {rank} {thing}",
)


RANK = Phrases(
    commands=(
        f"[Take|Click|Pick|Choose|Select|Use|Tap|Press|Hit] the {{rank}} {_THING}",
        f"[Go with|Go for|Opt for|Click on|Tap on|Settle on] the {{rank}} {_THING}",
        "[Take|Pick|Choose|Select|Use] {thing} {number}",
        "[Take|Click|Pick|Choose|Select|Go with|Go for|Tap] number {number}",
        "[Take|Click|Pick|Choose|Select] the {ordinal} [one|option|entry|item]",
        "[Take|Click|Pick|Choose|Select] {thing} [no.|number|#] {number}",
        "[Choose|Pick|Take] the {rank} of [these|them|the options|the choices]",
        "[Skip to|Jump to|Move to] the {rank} one",
        "[Click|Tap] the {rank}",
        f"[Grab|Keep|Try|Get|Mark|Open|Touch] the {{rank}} {_THING}",
        "[Count|Go] [down|along|] to [number {number}|the {rank} one] and [click|take] it",
        f"[Find|Locate] the {{rank}} {_THING} and [click|select|take|press] it",
        "[Pick|Choose|Take] the one that is [{rank} in order|number {number}]",
        "Make it [number {number}|the {rank} one]",
        "[Leave the others|Ignore the rest] and [take|pick|choose] the {rank} one",
        "[Click|Tap|Press] on [no.|number|#] {number}",
        "[Pick|Choose|Take|Click] what [is|stands] in [{ordinal}|{rank}] [place|position]",
        "[Have|Use|Take] [{thing} number {number}|the {thing} that is {rank}]",
        "[Point at|Press on|Stop at] the {rank} [one|of them]",
        f"[Stick|Stay] with the {{rank}} {_THING}",
        f"[Get|Give|Hand|Show] me [the {{rank}} {_THING}|number {{number}}]",
        "Let it be [number {number}|the {rank} one]",
        f"[Put|Place] [me down for|my mark on|a tick at] the {{rank}} {_THING}",
        "[Look for|Search for|Spot] number {number} and [click|take|choose] it",
        "[Decide|Plump|Vote] for [the {rank} one|number {number}]",
    ),
    remarks=(
        "[Option|Number|No.|Entry|Item|Choice] {number}[, please|]",
        f"The {{rank}} {_THING}[, please|, thanks|]",
        "The {ordinal} [one|option|entry]",
        "#{number}",
        f"I [want|need|would like|prefer] the {{rank}} {_THING}",
        f"I'd [like|take|go with] the {{rank}} {_THING}",
        f"{{rank}} {_THING}[, please| please|]",
        f"[Let's take|Let's go with|Give me|How about] the {{rank}} {_THING}",
        f"[It's|It should be|Mine is] the {{rank}} {_THING}",
        "The {rank} [from|of] the [list|start|beginning]",
        f"My [choice|pick|selection] is [the {{rank}} {_THING}|number {{number}}]",
        "[What|How] about [number {number}|the {ordinal} one]?",
        "[The one|That] in [{ordinal}|{rank}] place",
        "[Place|Position|Spot|Slot] {number}[, please|]",
        "I'm [after|thinking of|here for] the {rank} [one|option]",
        "[Number|No.] {number} [is the one|is mine|it is|looks good]",
        "[Counting from the start|From the start], the {rank} [one|]",
        "[Among|Out of] [them|these], the {rank} [one|]",
        "The {rank} [will do|is fine|is right|suits me]",
        "[Can|May|Could] I [have|take|get] [the {rank} one|number {number}]?",
        "What I [want|need] is the {rank} [one|option|of them]",
        f"I was [after|hoping for|thinking of] the {{rank}} {_THING}",
        f"I [chose|picked|decided on|settled on] the {{rank}} {_THING}",
        "[Would|Do] you mind [taking|clicking|choosing] [the {rank} one|number {number}]?",
        f"[Gimme|Wanna have|Need] the {{rank}} {_THING}",
        "[It's|That's] number {number} [I want|I need|for me|that I mean]",
        "If [I may|I can] choose, the {rank} [one|of them]",
        f"The one [I want|I mean|to click] is the {{rank}} {_THING}",
    ),
)


LAST = Phrases(
    commands=(
        f"[Take|Click|Pick|Choose|Select|Use|Tap|Press|Hit] the [last|final|very last] {_THING}",
        f"[Go with|Go for|Opt for|Click on|Settle on] the [last|final] {_THING}",
        "[Choose|Pick|Take] the last of [these|them|the options|the choices]",
        f"[Grab|Keep|Try|Get|Mark|Open|Touch] the [last|final] {_THING}",
        f"[Find|Locate] the [last|final] {_THING} and [click|select|take] it",
        "[Go|Count|Scroll] to the [last|final] one and [click|take] it",
        "[Leave the others|Ignore the rest] and take the last one",
    ),
    remarks=(
        f"The [last|final] {_THING}[, please|, thanks|]",
        f"I [want|need|would like|prefer] the last {_THING}",
        f"[Let's take|Let's go with|Give me|How about] the last {_THING}",
        f"Last {_THING}[, please|]",
        f"My [choice|pick|selection] is the [last|final] {_THING}",
        "[What|How] about the [last|final] one?",
        "[Among|Out of] [them|these], the last [one|]",
        "The last [will do|is fine|is right|suits me]",
        "What I [want|need] is the last [one|option|of them]",
    ),
)


WIDGET_PLACES = {
    "calendar": "[in the calendar|on the calendar|of the month|in the date picker]",
    "claim-window": "[of the claim form|in the claim form|on the form|of the claim]",
    "provider-select": "[in the provider list|of the providers|in the doctor list|of the doctors]",
}


WIDGET_PARTS = {
    "calendar": "[day|date]",
    "claim-window": "[field|input|box]",
    "provider-select": "[doctor|provider|physician]",
}
