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
    ),
)


LAST = Phrases(
    commands=(
        f"[Take|Click|Pick|Choose|Select|Use|Tap|Press|Hit] the [last|final|very last] {_THING}",
        f"[Go with|Go for|Opt for|Click on|Settle on] the [last|final] {_THING}",
        "[Choose|Pick|Take] the last of [these|them|the options|the choices]",
    ),
    remarks=(
        f"The [last|final] {_THING}[, please|, thanks|]",
        f"I [want|need|would like|prefer] the last {_THING}",
        f"[Let's take|Let's go with|Give me|How about] the last {_THING}",
        f"Last {_THING}[, please|]",
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
