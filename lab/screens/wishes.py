"""Wishes that no adapter grants, though one of the three widgets is on the screen."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from .chatter import talk
from .grammar import Phrases
from .pages import GENERAL_WISHES
from .words import FILLER, MONTHS, person

NEAR_WISHES = (
    "[Print|Save|Share|Bookmark|Reload|Refresh|Close] this [page|tab|screen]",
    "[Print|Save|Share] [this|the page] as a PDF",
    "[Summarise|Summarize|Describe|Explain] [this page|this screen|what is shown here|the page]",
    "Translate [everything|this page|the page|all of it] into [French|German|Spanish|Chinese]",
    "[Go|Take me] back to the [home|start|previous|last] page",
    "[Go back|Go home|Log out|Sign out|Log me out]",
    "Make the [font|text|letters] [bigger|smaller|larger]",
    "[Zoom in|Zoom out|Zoom to 150%]",
    "Why is the text so [small|big|light]?",
    "[Is this website|Is this page|Is this site] [safe|secure|real|up to date]?",
    "What is [on this screen|this page for|shown here|this]?",
    "[Change|Reset|Forget] my [password|user name|e-mail address|language]",
    "[Open|Show] [the menu|the settings|my profile|a new tab|the help page]",
    "[Read|Read out] [this page|the screen|the text|the heading] [aloud|]",
    "[Switch to|Turn on|Use] dark mode",
    "[Copy|Highlight] [the text|the heading|everything|the address of the page]",
    "[Scroll|Page] [down|up]",
    "Take a screenshot",
    "Who [made|runs|owns] this [website|page|application]?",
    "What colour is the [heading|background|button]?",
    "Search the [web|site|page] for {word}",
    "Send [an e-mail|a message] to {person}",
    "[Remind me|Set an alarm] [tomorrow|in an hour|at noon]",
    "How [do I|does one] use this [page|screen|website]?",
    "[Mute|Turn down] the sound",
    "I [can't|can hardly] read [this|anything here], make it [bigger|clearer|darker]",
    "[Could|Can] I get this in [large print|Spanish|French|plain language]?",
    "[Type|Write|Put] {word} [into|in] the search box",
    "[Look up|Define|Explain] the word {word}",
    "What does {word} mean?",
    "[Is there|Do you have] an app for [this|that]?",
    "[Start|Restart|Shut down|Lock] the [computer|tablet|browser]",
    "[Show|Hide] the [side bar|tool bar|keyboard|bookmarks]",
    "My [screen|battery|mouse] is [too dark|nearly empty|broken], what now?",
    "[I would like|I'd like|I want] [a copy|a print-out|a picture] of this page",
    "[Undo|Redo|Repeat] [that|what I just did]",
    "[Where|How] do I [change|find] [my password|the settings|the language]?",
    "The [text|page|picture] [is too small|does not load|looks odd]",
    "Tell {person} about this [page|website]",
    "[Forward|E-mail|Text] this [link|page] to {person}",
    "[Record|Film] the screen",
    "[Pin|Mute|Duplicate|Move] this [tab|window]",
    "[Remember|Save] my [password|login] for this [site|page]",
    "Who is {person}?",
    "Turn the [brightness|volume|contrast] [up|down|to the maximum]",
    "[Find|Count|Underline] the word {word} [on this page|here|]",
    "[Give me|I need] a summary [of this|in two sentences|of the page]",
    "[Open|Go to] the [home page|start page|imprint|site map] of this [site|company]",
    "How [old|new|long|reliable] is this [page|website]?",
    "Which [browser|website|company] is this?",
    "Nothing [moves|happens|works], reload the page",
    "[Complain|Report an error|Give feedback] about this [page|site]",
)
_ABOUT = {
    "calendar": (
        "How many [Mondays|Sundays|weekends|days] [are|are there] in this month?",
        "What [day of the week|weekday] is the [3rd|12th|20th]?",
        "[Export|Subscribe to|Share|Print|Sync] [this|the] calendar",
        "[Is|Was] {month} a [long|short|leap] month?",
        "[Add|Create] [a reminder|an event|a birthday] [called|named] {word}",
        "Which [days|dates] are [holidays|free|busy]?",
        "[Show|Switch to] the [week|year|day|list] view",
        "What year is this?",
        "[Change|Set] the time zone",
        "Start the week on [Monday|Sunday]",
        "[Colour|Paint] the weekends [red|green|grey]",
        "[Delete|Remove|Rename] the [event|reminder|birthday] [called|named] {word}",
        "How many weeks [does {month} have|are shown|until {month}]?",
        "When is [Easter|my birthday|the next full moon|the next bank holiday]?",
        "[Invite|Ask] {person} to [my|the] {word}",
        "[Connect|Link] this calendar [to|with] my [mail|watch|tablet]",
        "Is [the 4th|the 17th|Friday|Sunday] a holiday?",
        "[Copy|Move] all my [events|reminders] to another calendar",
        "[Tell me|Say] what [is planned|I have to do] [this week|on Monday]",
        "I want [week numbers|public holidays|moon phases] [shown|in this calendar]",
    ),
    "claim-window": (
        "What is the status of [my|this] claim?",
        "[Explain|What is|Define] [a deductible|a copay|the diagnosis code|a claim]",
        "How long [does|will] [a claim|this] take?",
        "[Has my claim been|Was my claim|Is this claim] [paid|approved|denied]?",
        "How many fields [are empty|are there]?",
        "[Translate|Print|Shorten|Redesign] this form",
        "[Call|Contact] the [insurer|insurance company|hotline]",
        "Is my [data|claim] [safe|private]?",
        "Which [fields|boxes] are required?",
        "[Show|List] my [old|earlier|other] claims",
        "Who [handles|reads|decides] [my|this] claim?",
        "[How much|What share] will [I get|they pay|I have to pay] [back|]?",
        "[Check|Proofread|Correct] the spelling [of this form|here]",
        "[Does|Will] my [plan|policy] cover {word}?",
        "What [happens|comes] after I send this?",
        "[Ask|Tell] {person} to fill this in",
        "The form is [too long|confusing], [shorten|explain] it",
        "[Compare|Find] [insurers|insurance plans] [near me|for my family|]",
        "What is the [deadline|time limit] for [claims|this]?",
        "I [don't understand|dislike] this form, [explain it|say it in simple words]",
    ),
    "provider-select": (
        "[Sort|Order] [the list|them|the doctors] by [distance|rating|name]",
        "[Filter|Show only] [women|doctors above 4 stars|nearby doctors|doctors in {word}]",
        "[Show|Put] [the doctors|them] on a map",
        "[Write|Read] a review [of|about] [the first|a|this] doctor",
        "[Call|E-mail|Text|Message] the [first|last|nearest] [doctor|provider|office]",
        "How many [doctors|providers|rows] are [there|listed|shown]?",
        "[Compare|Rank] [the first two|these doctors|all of them]",
        "What does [an oncologist|a neurologist|a dermatologist|an urologist] do?",
        "[Export|Print|Copy] [the|this] [list|table]",
        "Do they speak [Spanish|French|Arabic]?",
        "Which [doctor|provider] is [best|nearest|cheapest|youngest]?",
        "[How far|How old|How busy] is the [first|nearest] one?",
        "What [hours|languages] do [they|these doctors] have?",
        "[Hide|Remove] the [first|last] [row|doctor] from the list",
        "[Add|Invite] {person} to this list",
        "[Widen|Extend|Narrow] the search [to|around] {word}",
        "[Does|Did] anyone here treat {word}?",
        "I want [more|fewer|other] [doctors|results] [shown|]",
        "[Zoom to|Give me directions to|Park near] the nearest [office|clinic]",
        "[Report|Correct] a [mistake|wrong phone number] in the list",
    ),
}


def _slots(rng: random.Random) -> dict[str, str]:
    first, last = person(rng)
    return {
        "word": rng.choice(FILLER),
        "person": f"{first} {last}",
        "month": rng.choice(MONTHS),
    }


def _spoken(rng: random.Random, templates: Sequence[str]) -> str:
    commands = [text for text in templates if not text.endswith("?")]
    questions = [text for text in templates if text.endswith("?")]
    return talk(rng, Phrases(commands, questions), _slots(rng))


def near_wish(rng: random.Random, adapters: Iterable[str], labels: frozenset[str]) -> str:
    """A wish for a screen with these adapters' widgets; it names none of the visible labels."""
    about = tuple(text for adapter in adapters for text in _ABOUT[adapter])
    while True:
        text = _spoken(rng, about if rng.random() < 0.35 else NEAR_WISHES)
        if not any(label.lower() in text.lower().split() for label in labels):
            return text


def page_wish(rng: random.Random, wishes: Sequence[str]) -> str:
    """A wish for a page that no adapter is for."""
    return _spoken(rng, wishes if rng.random() < 0.8 else GENERAL_WISHES)
