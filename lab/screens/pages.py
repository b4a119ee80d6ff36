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
    "[Who|Which company] [made|is behind] this page?",
    "I can't read this, [enlarge it|make it bigger]",
    "[Look up|Explain] the word {word}",
    "[Type|Write] {word} [in|into] the search box",
    "[Send|Show] this to {person}",
    "[Copy|Save] the [link|text|picture]",
    "[Is this|Are you] [real|safe|up to date]?",
    "The page [does not load|looks odd|is slow], [reload it|fix it]",
    "[Hide|Show] the [menu|side bar|pictures]",
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
            "I forgot my password",
            "[Use|Enter] the [code|password] {word}",
            "[Sign|Log] in as {person}",
            "Why can't I [log|sign] in?",
            "[Invite|Register] {person}",
            "Keep me signed in",
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
            "[Filter|Sort] [the goods|everything] by [price|size|colour]",
            "I want the [blue|red|green] one in a larger size",
            "Is [this|the first item] in stock?",
            "[Search for|Show me] {word}",
            "What is the delivery time?",
            "[Wrap|Send] it as a gift for {person}",
            "Show [cheaper|similar] things",
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
            "Which one is [cheapest|newest|in stock]?",
            "[Compare|Rate] the first two",
            "[Filter|Search] for {word}",
            "I want [more|fewer] of the last one",
            "[Print|Export] the list",
            "What does [shipping|the first one] cost?",
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
            "How long is this [article|text]?",
            "[Shorten|Rewrite|Simplify] the first paragraph",
            "When was this [written|published]?",
            "Is there [a video|a second part|more] about {word}?",
            "Quote the last sentence",
            "[Send|Recommend] this article to {person}",
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
            "[Tell|Ask] {person} [to come|about {word}]",
            "[Edit|Unsend|Translate] my last message",
            "Write {word} and send it",
            "Who is {person}?",
            "[Start|Open] a new chat with {person}",
            "Did they [answer|read it]?",
            "Attach a photo",
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
            "[Colour|Paint] the [highest|lowest] bar [red|green]",
            "What do the [colours|lines|axes] mean?",
            "How many bars are there?",
            "I want the figures as a table",
            "[Rename|Label] the chart {word}",
            "Which value is [wrong|missing]?",
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
            "[Move|Enlarge] the [first|last] tile",
            "I want the figures of last month",
            "[Send|Show] the report to {person}",
            "Who are our best customers?",
            "[Explain|Hide] the [first|second] figure",
            "Are we doing [well|better]?",
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
            "[Find|Open|Delete] the file called {word}",
            "[Move|Copy] the [first|last] file to {word}",
            "Who [made|changed] this file?",
            "I want to see hidden files",
            "[Zip|Encrypt] the [first|newest] file",
            "How much space is left?",
            "[Send|Share] it with {person}",
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
            "What does the [first|second] switch do?",
            "I want [louder|quieter|no] sounds",
            "[Rename|Name] this device {word}",
            "[Search|Find] the setting for {word}",
            "Update the software",
            "Is [location|backup] on?",
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
            "[Add|Save] this to my {word} list",
            "Who [sings|plays|directed] this?",
            "[Slow it down|Play it faster|Play it again]",
            "It's too loud",
            "[Search for|Play] something by {person}",
            "How long is it?",
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
            "[Search for|Go to] {word} [street|square|]",
            "I want to [walk|cycle|take the bus] there",
            "[Save|Share] this place",
            "What is this [street|river|building] called?",
            "[Turn|Tilt] the map",
            "Is there [a park|parking] nearby?",
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
            "[Move|Mark] the [first|last] one as spam",
            "Did {person} write to me?",
            "[Forward|Send] it to {person}",
            "What does the newest [mail|message] say?",
            "[Find|Delete] everything about {word}",
            "[Sort|Group] my mail by sender",
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
            "How many results are there?",
            "[Look for|Search] {word} instead",
            "Is the first result [an ad|any good|recent]?",
            "I want [newer|older|shorter] results",
            "[Save|Copy] the [first|last] link",
            "Show results in [French|German|Spanish]",
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
            "[Work out|Calculate] the [root|square] of [9|16|49]",
            "What is half of [86|34|128]?",
            "[Delete|Repeat] the last [key|digit]",
            "Multiply it by [3|6|11]",
            "I typed a wrong number, undo it",
            "Hang up",
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
            "Who is in the [first|second|last] [photo|picture]?",
            "[Rotate|Brighten|Sharpen] the [first|last] one",
            "[Send|Print] [all of them|the first one] for {person}",
            "I want only pictures of {word}",
            "Where was this taken?",
            "Hide the captions",
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
            "[Explain|Translate|Shorten] this code",
            "Is there a mistake in it?",
            "[Find|Replace|Delete] {word}",
            "Which language is this?",
            "[Write|Add] a test for it",
            "I want the [first|last] line gone",
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
            "How [warm|cold|windy|wet] will it be?",
            "I want it in [Fahrenheit|Celsius]",
            "What should I wear?",
            "[Warn|Tell] me if it [snows|rains]",
            "When does the sun set?",
            "Compare it with {word}",
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
            "Who made this [poll|survey]?",
            "[Change|Take back] my vote",
            "I don't know, skip it",
            "[Share|Close] the [poll|survey]",
            "Is it anonymous?",
            "What did {person} answer?",
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
