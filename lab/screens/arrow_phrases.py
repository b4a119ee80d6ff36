"""The wordings that ask for an arrow of a calendar, in the same frames for both directions.

See `grammar.Phrases` for the notation. Wherever a frame says neither "month" nor "calendar", its
words for the direction are among those that a slip of the tongue leaves alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from .grammar import Phrases

_CALENDAR = "[calendar|date picker|datepicker|month view|calendar widget|month grid]"
_THIS = "[this|this one|the one shown|the current one]"
_VISIT = "[appointment|visit|check-up|booking|consultation|meeting|session]"


@dataclass(frozen=True)
class _Way:
    """The words of one direction."""

    strict: str
    wide: str
    near: str
    """A month by itself, without 'the ... month' around it"""
    onward: str
    farther: str
    later: str
    after: str
    follows: str
    wind: str
    too: str
    """What the month shown is"""
    contrary: str
    behind: str
    short: str
    sign: str
    side: str


_NEXT = _Way(
    strict="[next|following|subsequent]",
    wide="[next|next|following|coming|upcoming|subsequent]",
    near="[next month|the coming month|the upcoming month|the month to come]",
    onward="[forward|ahead]",
    farther="[further on|further ahead|later]",
    later="later",
    after="after",
    follows="[follows|comes after|comes next after]",
    wind="[Advance|Fast-forward|Wind forward]",
    too="early",
    contrary="[back|backwards]",
    behind="behind",
    short="nxt",
    sign="+",
    side="right",
)
_PREVIOUS = _Way(
    strict="[previous|prior|preceding]",
    wide="[previous|previous|prior|preceding|last|past]",
    near="[last month|the past month|the month gone by|the month just past]",
    onward="[back|backwards]",
    farther="[further back|further backwards|earlier]",
    later="earlier",
    after="before",
    follows="[precedes|comes before|comes right before]",
    wind="[Rewind|Roll back|Wind back]",
    too="late",
    contrary="[ahead|forward]",
    behind="ahead",
    short="prev",
    sign="-",
    side="left",
)


def _commands(way: _Way) -> tuple[str, ...]:
    strict, wide, onward = way.strict, way.wide, way.onward
    later, after = way.later, way.after
    that = f"[the {wide} month|the month {after} this]"
    return (
        f"[Go to|Show|Show me|Open|View|Switch to|Flip to|Move to|Turn to] the {wide} month",
        f"[Click|Press|Hit|Tap] the {strict} month [arrow|button]",
        f"[Click|Press|Hit|Tap] the arrow [to|for] the {wide} month",
        f"[Go|Move|Page|Skip] {onward} [one|a] month [in the calendar|]",
        f"[Load|Find|Reveal|Call up|Pull up|Get|Jump to] the {wide} month",
        f"[Step|Flip|Jump|Roll|Shift|Go] {onward} by [one|a single] month",
        f"[Change|Move|Set|Switch|Take] the [calendar|month view|date picker] to the {wide} month",
        f"[Use|Click|Press|Touch] the arrow that [goes|leads|takes us|moves] to the {wide} month",
        f"Make the [calendar|date picker|page] show the {wide} month",
        f"[Move|Take|Bring] the [calendar|date picker|month view] {onward} [one|a] month",
        f"Leave this month and go to the {strict} one",
        f"[Scroll|Wind|Spin] the calendar [{onward} by one month|to the {wide} month]",
        f"{way.wind} the {_CALENDAR} [by|] [one|a] month",
        f"[Turn|Flip|Leaf|Page|Browse] [one|a] page {onward} in the {_CALENDAR}",
        f"[Turn|Flip] the [page|leaf|sheet] of the {_CALENDAR} {onward}",
        f"[Show|Give|Bring|Get|Find|Fetch] me the month {after} {_THIS}",
        f"[Go|Move|Skip|Jump|Turn|Hop] to the month [right|just|] {after} {_THIS}",
        f"[Show|Display|Open|Load] the month that {way.follows} {_THIS}",
        f"[Show|Show me|Check|Open|View|Display|Look at|Browse] {way.near}",
        f"[Click|Press|Tap|Use] whatever [takes|gets] [me|us] [one month {onward}|to {that}]",
        f"[Click|Tap|Press] the {way.side} [arrow|chevron] [of|on|in] the [calendar|date picker]",
        f"[Click|Tap|Press|Use] the [arrow|button|chevron|symbol] [for|towards] {later} months",
        f"[Push|Nudge|Shift|Drag|Slide] the {_CALENDAR} [a|one] [month|page|step] {onward}",
        f"[Take|Make] one [step|hop|jump] {onward} in the {_CALENDAR}",
        f"[Have|Let] the {_CALENDAR} [show|display|go to] {that}",
        f"[Switch|Flip|Turn|Skip|Jump] from this month to the [{strict} one|one {after} it]",
        f"[Skip|Ignore|Forget] this month and [show|open|go to] the [{strict} one|one {after} it]",
        f"[Go|Look|Search|Browse] [a|one] month {way.farther}",
        f"[Get|Take|Bring|Move|Carry] me [{onward} [one|a] month|to {that}]",
        f"[Show|Find|Give|Get] me [dates|days] {later} than [these|the ones shown|those here]",
        f"[Continue|Proceed|Head|Hurry|Change over|Navigate] to {that}",
        f"[Show|Click|Open|Go to] {way.short} month",
        f"[Replace|Swap] this month with {that}",
        f"[Find|See] what comes {after} this month",
        f"[Look|Peek|Glance] [one|a] month {onward}",
    )


def _remarks(way: _Way) -> tuple[str, ...]:
    strict, wide, onward = way.strict, way.wide, way.onward
    later, after = way.later, way.after
    that = f"[the {wide} month|the month {after} this|the month that {way.follows} this one]"
    that_one = f"[{strict} one|one {after} it]"
    return (
        f"{strict} month[, please|]",
        f"The {wide} month[, please|]",
        f"[One|A] month {later}[, please|]",
        f"[I'd like|I need|I want] [to see|to look at|] the {wide} month",
        f"[Can|May|Could] I [see|have|look at] the {wide} month?",
        f"The {wide} month[ would be better| is the one I need| is what I'm after|, I mean]",
        f"This month is [full|no good|wrong|not it], so the {strict} one",
        f"[This is the wrong month|Wrong month|Not this month]: [one|a month] {later}",
        f"A month {later} [would be better|suits me|is what I want]",
        f"I'm [done with|through with|not free] this month, [so|] the {strict} one[, please|]",
        f"The day [I want|we need|I'm after] is in the {wide} month",
        # Wishes
        f"Let me [see|look at|view|check|browse|go to] {that}",
        f"I [was|am] [after|looking for|hoping for|thinking of|interested in] {that}",
        f"I [was going to|meant to|wanted to|wish to|hope to|have to] [see|open|check] {that}",
        f"I'd [rather|sooner] [see|have|look at|check] {that}",
        f"[I'd be grateful|It would be nice|It'd be great] if you [showed me|turned to] {that}",
        f"[We need|I need|I want|We have] to [go|move|page|flip|turn] {onward} [one|a] month",
        f"I [have|need|want] to [check|look up|compare|find] something in {that}",
        f"I want to [see|know] what comes {after} this month",
        f"[Gimme|Lemme see|Wanna see|Gotta see|Need|Want] the {wide} month",
        # Questions
        f"[What about|How about|And what of|Why not] {way.near}?",
        f"What does {way.near} look like?",
        f"[How|Where] do I [get|go|move|flip] to {that}?",
        f"Where [do I|can I|should I] [click|press|tap] for the {wide} month?",
        f"Which [button|arrow] [shows|leads to|is for|takes me to] the {wide} month?",
        f"[Can|Could|May] [I|we] [go|move|skip|jump|flip] [one|a] month {onward}?",
        f"[Is it possible|Would it be possible|Is there a way] to [see|get to|view] {that}?",
        f"[Would|Do] you mind [showing|opening|going to|turning to] the {wide} month?",
        f"Do you have [anything|something|days|dates] {later} than this month?",
        f"Isn't there a month {after} this one?",
        # Reasons
        f"[This|This month|What I see] is too {way.too}[ for me|], [show|try] the {strict} one",
        f"[This|The {_CALENDAR}|The month shown] is [still|] too {way.too}: a month {later}",
        f"Too {way.too} for [me|us], [go|move|flip] [one|a] month {onward}",
        f"[These|All these] [dates|days] are [far|much|] too {way.too}, show {later} ones",
        f"[These|The] days are too {way.too}. [I need|Show me|Open] the month {after}",
        f"[I|We|It|You] went {way.contrary} [too far|a month too far]. [Show|Open|Now] {that}",
        f"[I|We] went too far {way.contrary}, [so|] [one|a] month {onward}[, please|]",
        f"[That's|This is|We are] not far enough {onward}[ yet|]: [another|one more] month",
        f"The {_CALENDAR} is a month {way.behind}, [move|take|bring] it {onward}",
        f"The [date|day] I [want|need|wrote down] is not here but [a|one] month {later}",
        f"My [day|date] is [not in|missing from] this month[, it's in| but in] the {strict} one",
        f"[My|The|Our] {_VISIT} [falls in|is in|belongs in] {that}",
        f"There's nothing [free|for me|useful|left] [here|this month], [so|] try the {wide} month",
        f"[I've seen|I know|I'm finished with] this month[. Now|, so] show the {that_one}",
        f"[If you can|If you like|When you're ready], [show|open|go to|turn to] the {wide} month",
        f"[Wrong month|This isn't the right month]. [Try|Show|Open] the {that_one}",
        f"[Hm|Oops|No|Wait|Sorry], [I meant|I need|make it|it's] {that}",
        # Short ones
        f"[One|A] month [further|] {onward}[, please|]",
        f"[One|A] page {onward} in the {_CALENDAR}[, please|]",
        f"The month {after}[ this| this one| the current one|][, please|]",
        f"The [arrow|button|chevron] [for|to|towards] {later} [dates|months][, please|]",
        f"[A|One] [click|press|tap] on the {strict} month [arrow|button][, please|]",
        f"[Calendar|Month] {onward}[, please|]",
        f"[{strict}|{way.short}] month [plz|thx|asap]",
        f"{strict} [mo|mth][ pls| please|]",
        f"{way.sign}1 month[, please|]",
        f"Not this month[, the| but the] [{strict} one|one {after}]",
        f"{way.later.capitalize()}, by [a|one] month",
        # Other statements
        f"The {wide} month is [what|the one] I [came for|should look at|was thinking of|meant]",
        f"It [should|ought to|has to|must] be [a|one] month {later}",
        f"What I [want|need|was looking for|asked for] is {that}",
        f"[Something|A day|A date] {later} than this month[, please|]",
        f"[You can|You may|We should|It's time to] [go|move|turn|flip] to {that}",
        f"[I'm|We're] [ready for|moving to|going to|off to] the {wide} month",
        f"[I clicked|I opened|I see] the wrong month, it's the [{strict} one|one {after}]",
    )


ARROWS = {
    "next-month": Phrases(_commands(_NEXT), _remarks(_NEXT)),
    "previous-month": Phrases(_commands(_PREVIOUS), _remarks(_PREVIOUS)),
}


ARROW_PLAIN = {
    "next-month": (
        "Go to the next month",
        "Show the next month",
        "Next month",
        "Click the arrow for the next month",
        "I want to see the next month",
        "One month later, please",
        "Forward one month",
        "Show me the month after this one",
        "Turn the calendar to the following month",
        "This is too early, show a later month",
    ),
    "previous-month": (
        "Go to the previous month",
        "Show the previous month",
        "Previous month",
        "Click the arrow for the previous month",
        "I want to see the previous month",
        "One month earlier, please",
        "Back one month",
        "Show me the month before this one",
        "Turn the calendar to the preceding month",
        "This is too late, show an earlier month",
    ),
}
