"""Pages that no adapter is for, with the wishes that go with them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from . import pages_text, pages_things
from .canvas import Box, Canvas
from .page import Page
from .style import Style

GENERAL_WISHES = (
    "What is [on this screen|this page about|shown here|this]?",
    "[Close|Refresh|Reload|Bookmark|Share|Print|Save] this [page|tab]",
    "[Scroll|Go] to the [top|bottom] of the page",
    "Take a screenshot",
    "[Make the font bigger|Zoom in|Zoom out|Enlarge the text]",
    "[Switch to|Turn on] dark mode",
    "Describe [the picture|what you see|the screen]",
    "[Tell me a joke|Set a timer for ten minutes|Play some music|What's the weather like]",
    "How many [words|pictures|buttons|links|colours] are [there|on this page]?",
)


@dataclass(frozen=True)
class _Kind:
    draw: Callable[[Page], None]
    wishes: tuple[str, ...]


PAGES: dict[str, _Kind] = {
    "login": _Kind(
        pages_text.draw_login,
        (
            "[Log|Sign] me in",
            "[Reset|Recover|Change] my password",
            "[Create|Open] [a new|an] account",
            "[Click|Tap] the password field",
            "Show the password",
            "[Remember|Forget] me on this device",
            "Type my e-mail address",
        ),
    ),
    "shop": _Kind(
        pages_things.draw_shop,
        (
            "Apply a coupon",
            "Add the [blue|red|black|green] [shoes|shirt|bag|lamp] to my cart",
            "[Buy|Order|Add] the [cheapest|most expensive|first] [item|product]",
            "[Check out|Go to checkout|Empty the cart]",
            "[How much is the first item|What does the last product cost]?",
            "Remove the last item from my [cart|basket]",
            "[Track|Cancel|Return] my order",
        ),
    ),
    "products": _Kind(
        pages_things.draw_product_list,
        (
            "[Buy|Open|Edit|Track] the [first|second|last] one",
            "Sort by price",
            "[Delete|Duplicate|Archive] the [first|last] row",
            "[Book|Find] the cheapest [flight|hotel|ticket]",
            "Download the invoice",
            "Add the second product to my basket",
        ),
    ),
    "article": _Kind(
        pages_text.draw_article,
        (
            "Summarise this [article|story|page|text]",
            "What is this [story|article|text] about?",
            "Translate [the first paragraph|this text|the page|everything] [into|to] "
            "[French|German|Spanish|English]",
            "Who wrote this [article|text]?",
            "Read [this|the article|the first paragraph] aloud",
            "[Share|Save|Like] this [article|story]",
            "Find the word {word}",
        ),
    ),
    "chat": _Kind(
        pages_text.draw_chat,
        (
            "Reply to the last message",
            "Send a [thumbs up|heart|smile|photo]",
            "[Mute|Leave|Archive|Delete] this [conversation|chat|group]",
            "Write [hello|good morning|see you tomorrow]",
            "Who sent the last message?",
            "[Call|Block] [them|this person]",
            "Press send",
        ),
    ),
    "chart": _Kind(
        pages_things.draw_chart,
        (
            "Which bar is [tallest|shortest|highest|lowest]?",
            "What is the [highest|lowest|average] value?",
            "[Export|Download] the [chart|data|figures]",
            "Is the trend going [up|down]?",
            "Change it to a [line|bar|pie] chart",
            "Explain this [chart|graph|diagram]",
        ),
    ),
    "dashboard": _Kind(
        pages_things.draw_dashboard,
        (
            "What [is|was] our revenue?",
            "[Export|Print] the [report|dashboard]",
            "Compare it with last [year|week]",
            "[Add|Remove] a [tile|panel]",
            "Refresh the numbers",
            "Which figure went up?",
        ),
    ),
    "files": _Kind(
        pages_things.draw_files,
        (
            "[Open|Delete|Rename|Share|Download] the [first|last|newest|largest] file",
            "Create a new folder",
            "Sort the files by [size|name|date]",
            "Upload a [photo|document]",
            "Empty the trash",
            "How [big|large] is the last file?",
            "Select all files",
        ),
    ),
    "settings": _Kind(
        pages_things.draw_settings,
        (
            "Turn [on|off] notifications",
            "[Change|Set] the language to [French|Japanese|English]",
            "[Enable|Disable] [dark mode|sounds|location|two-factor login]",
            "Toggle the [first|third] switch",
            "[Delete|Close] my account",
            "Reset all settings",
        ),
    ),
    "player": _Kind(
        pages_things.draw_player,
        (
            "[Play|Pause|Stop|Skip|Restart] the [video|song|movie]",
            "Turn [up|down] the volume",
            "[Turn on|Show] subtitles",
            "Skip [ahead|back] ten seconds",
            "Go full screen",
            "Next [track|episode]",
            "What song is this?",
        ),
    ),
    "map": _Kind(
        pages_things.draw_map,
        (
            "Zoom [in|out] on the map",
            "How do I get [there|to the station|home]?",
            "Find a [restaurant|petrol station|hotel|bakery] near me",
            "Show [satellite view|the traffic]",
            "How far is it?",
            "Where am I?",
        ),
    ),
    "mail": _Kind(
        pages_text.draw_mail,
        (
            "[Open|Delete|Archive|Forward] the [first|last|newest] [mail|e-mail|message]",
            "[Reply to|Write to] the first sender",
            "Mark everything as read",
            "Write a new [mail|e-mail]",
            "Search my inbox for invoices",
            "How many unread [mails|messages] do I have?",
        ),
    ),
    "search": _Kind(
        pages_text.draw_search,
        (
            "Open the [first|second|last] result",
            "Search for [something else|cheap flights|cat pictures]",
            "Go to the next page of results",
            "Show [images|news|videos] instead",
            "Which result is best?",
            "Clear the search box",
        ),
    ),
    "keypad": _Kind(
        pages_things.draw_keypad,
        (
            "[Press|Click|Type|Tap] [7|3|9|5] on the [keypad|calculator]",
            "What is [12 times 8|7 plus 15|100 minus 1]?",
            "[Dial|Call] the number",
            "Clear the display",
            "Press the equals [key|sign]",
            "Add [15|20|42] to it",
        ),
    ),
    "gallery": _Kind(
        pages_things.draw_gallery,
        (
            "[Open|Delete|Share|Enlarge] the [first|second|last] [photo|picture]",
            "[Start|Show] a slide show",
            "Make an album",
            "Which picture is the [brightest|darkest|greenest]?",
            "Upload a photo",
            "Crop the [first|last] picture",
        ),
    ),
    "code": _Kind(
        pages_text.draw_code,
        (
            "[Run|Format|Save|Commit|Debug] [the code|this file|it]",
            "What does this [function|program|line] do?",
            "Fix the bug",
            "Add a comment to the [first|last] line",
            "Rename the variable",
            "Go to line [12|40|7]",
        ),
    ),
    "weather": _Kind(
        pages_things.draw_weather,
        (
            "Will it rain [tomorrow|on Sunday|this week]?",
            "What's the temperature [now|on Friday]?",
            "Change the [city|units]",
            "Which day is the [warmest|coldest]?",
            "Do I need an umbrella?",
            "Show the radar",
        ),
    ),
    "poll": _Kind(
        pages_text.draw_poll,
        (
            "Vote for the [first|second|last] answer",
            "[Skip|Answer] this question",
            "Show the results",
            "How many people voted?",
            "Which answer is right?",
            "Tick the third box",
        ),
    ),
}


def draw_page(
    canvas: Canvas, rng: random.Random, style: Style, area: Box
) -> tuple[str, tuple[str, ...]]:
    """Draws one of the pages and returns its kind and the wishes that go with it."""
    kind = rng.choice(tuple(PAGES))
    left, top, right, bottom = area
    # Lines of text longer than a hand's width are rare on real pages.
    right = min(right, left + style.px(rng.uniform(420, 900)))
    PAGES[kind].draw(Page(canvas, rng, style, left, right, top, bottom))
    return kind, PAGES[kind].wishes
