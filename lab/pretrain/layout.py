"""What is on a drawn screen: its texts, its things and its characters, as far as they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lab.screens.canvas import Box, centre
from lab.screens.marks import Element, Fill, Mark, Writing
from lab.screens.scene import Scene

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:/$#-@&()?!+=_%*<>"
"""What the auxiliary loss tells apart; capitals count as small letters."""
_CLASSES = {character: index for index, character in enumerate(CHARACTERS)}
_CLASSES |= {character.upper(): index for character, index in _CLASSES.items()}
_SCENES = {"calendar": "a calendar", "claim-window": "a form", "provider-select": "a provider list"}
_PAGES = {
    "login": "a sign-in page",
    "products": "a product list",
    "files": "a file list",
    "player": "a media player",
    "mail": "a mailbox",
    "search": "search results",
    "code": "code",
    "settings": "settings",
    "weather": "a weather report",
    "article": "an article",
    "text-and-things": "a page of texts and controls",
}


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    box: Box


@dataclass(frozen=True, slots=True)
class Thing:
    """An element; ``owner`` is the text whose row it stands in, where labels are all alike."""

    kind: str
    box: Box
    label: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the month that a calendar shows; ``values`` as in ``calendar_look.day_values``."""

    box: Box
    values: dict[str, str]


@dataclass(frozen=True)
class Layout:
    """A screen and what can be seen on it. Boxes are pixels of the image."""

    image: Image.Image
    what: str
    runs: tuple[Text, ...]
    """Lines of text as they were drawn."""
    words: tuple[Text, ...]
    """The words of lines that have several."""
    things: tuple[Thing, ...]
    columns: tuple[Thing, ...]
    """Fields of a form in the order of its columns; empty without a form."""
    days: tuple[Day, ...]
    """Of the calendar; empty without one."""
    month: str
    """Month and year of the calendar; empty without one."""
    characters: NDArray[np.float32]
    """(M, 3): class, x and y of the middle"""


def layout_of(scene: Scene) -> Layout:
    return make_layout(scene.image, scene.marks, _description(scene), scene)


def make_layout(
    image: Image.Image, marks: Sequence[Mark], what: str, scene: Scene | None = None
) -> Layout:
    shown = _uncovered(marks)
    writings = [mark for mark in shown if isinstance(mark, Writing) and mark.text.strip()]
    things = [
        Thing(mark.kind, mark.box, mark.label.strip())
        for mark in shown
        if isinstance(mark, Element)
    ]
    columns: tuple[Thing, ...] = ()
    days: tuple[Day, ...] = ()
    for widget in scene.widgets if scene else ():
        if widget.adapter == "claim-window":
            columns = tuple(Thing("field", t.box, t.values["field"]) for t in widget.options)
        elif widget.adapter == "calendar":
            days = tuple(Day(target.box, target.values) for target in widget.options)
        else:
            owners = {target.box: target.values["name"] for target in widget.options}
            things = [
                Thing(thing.kind, thing.box, thing.label, owners.get(thing.box, ""))
                for thing in things
            ]
    return Layout(
        image=image,
        what=what,
        runs=tuple(Text(writing.text.strip(), writing.box) for writing in writings),
        words=tuple(word for writing in writings for word in _words(writing)),
        things=tuple(things),
        columns=columns,
        days=days,
        month="{month} {year}".format_map(days[0].values) if days else "",
        characters=_characters(writings),
    )


def _description(scene: Scene) -> str:
    if scene.page:
        return _PAGES.get(scene.page, f"a {scene.page}")
    across = sorted(scene.widgets, key=lambda widget: (widget.box[0], widget.box[1]))
    return " and ".join(_SCENES[widget.adapter] for widget in across)


def _uncovered(marks: Sequence[Mark]) -> list[Writing | Element]:
    """The marks over which nothing was filled in later."""
    fills = [(order, mark.box) for order, mark in enumerate(marks) if isinstance(mark, Fill)]
    seen = [(order, mark) for order, mark in enumerate(marks) if not isinstance(mark, Fill)]
    if not fills or not seen:
        return [mark for _, mark in seen]
    later = np.array([order for order, _ in fills])[None] > np.array([o for o, _ in seen])[:, None]
    boxes = np.array([_core(mark) for _, mark in seen])[:, None]  # (marks, 1, 4)
    covers = np.array([box for _, box in fills])[None]  # (1, fills, 4)
    inside = (boxes[..., :2] >= covers[..., :2]) & (boxes[..., 2:] <= covers[..., 2:])
    hidden: list[bool] = np.any(later & np.all(inside, axis=-1), axis=1).tolist()
    return [mark for (_, mark), gone in zip(seen, hidden, strict=True) if not gone]


def _core(mark: Writing | Element) -> Box:
    """What must be covered for the mark to be gone: half of a text's height, all of an element."""
    if isinstance(mark, Element):
        return mark.box
    left, top, right, bottom = mark.box
    quarter, slack = (bottom - top) / 4, (right - left) * 0.1
    return left + slack, top + quarter, right - slack, bottom - quarter


def _words(writing: Writing) -> list[Text]:
    if " " not in writing.text:
        return []
    _, top, _, bottom = writing.box
    pen, words, space = writing.left, [], writing.face.advance(" ")
    for word in writing.text.split(" "):
        width = writing.face.width(word)
        if word:
            words.append(Text(word, (pen, top, pen + width, bottom)))
        pen += width + space
    return words


def _characters(writings: Sequence[Writing]) -> NDArray[np.float32]:
    rows = []
    for writing in writings:
        # Small letters fill the lower middle of a line.
        y = writing.top + writing.face.height * 0.55
        for character, x in zip(writing.text, writing.centres(), strict=True):
            known = _CLASSES.get(character)
            if known is not None:
                rows.append((known, x, y))
    return np.array(rows, np.float32).reshape(-1, 3)


def row_of(box: Box, texts: Sequence[Text]) -> list[Text]:
    """The texts whose middle lies between the upper and the lower edge of a box."""
    return [text for text in texts if box[1] <= centre(text.box)[1] <= box[3]]
