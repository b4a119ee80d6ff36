"""The choices that make one provider list unlike another, and what its rows can be called."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from .canvas import Box, Canvas, Colour
from .style import ButtonLook, Style, draw_button
from .typefaces import Face
from .words import SPECIALTIES, person

_FORMS = ("table",) * 5 + ("right",) * 6 + ("centre",) * 3 + ("left", "grid", "grid", "under")


_WORDS = ("Select", "Choose") * 4 + ("Book", "Pick", "Request", "View", "Schedule", "Book now")


@dataclass(frozen=True)
class Provider:
    first: str
    last: str
    specialty: str
    distance: str
    rating: str


@dataclass(frozen=True)
class ListLook:
    """The choices of one list. Lengths are already scaled."""

    form: str
    word: str
    name: str
    name_bold: bool
    size: float
    muted_details: bool
    padding: float
    gap: float
    framed: bool
    two_lines: bool
    avatar: str
    button: ButtonLook
    button_height: float
    lines: str
    striped: bool
    header: str
    details: tuple[str, ...]
    button_first: bool
    distance_shown: bool


@dataclass
class ListDrawing:
    """One list under way."""

    canvas: Canvas
    rng: random.Random
    style: Style
    look: ListLook
    left: float
    right: float
    y: float
    described: set[str] = field(default_factory=set)

    @property
    def name_face(self) -> Face:
        return self.style.face(self.look.size, bold=self.look.name_bold)

    @property
    def detail_face(self) -> Face:
        return self.style.face(self.look.size * 0.93)

    @property
    def detail_colour(self) -> Colour:
        return self.style.muted if self.look.muted_details else self.style.ink

    @property
    def button_width(self) -> float:
        return self.look.button.width(self.style, self.look.word)

    def shown_name(self, provider: Provider) -> str:
        return self.look.name.format(first=provider.first, last=provider.last)

    def narrowed(self, text: str, room: float) -> Face:
        """The face of names, smaller where the text would not fit."""
        size, text_face = self.look.size, self.name_face
        while text_face.width(text) > room and size * self.style.scale > 7:
            size *= 0.92
            text_face = self.style.face(size, bold=self.look.name_bold)
        return text_face

    def describe(self, x: float, y: float, text: str, provider: Provider, anchor: str) -> None:
        """Writes details of a provider and remembers that the specialty can be read."""
        self.canvas.text(x, y, text, self.detail_face, self.detail_colour, anchor)
        self.described.add(provider.specialty)

    def button(self, x: float, y: float) -> Box:
        return draw_button(self.canvas, self.style, self.look.button, x, y, self.look.word)


def draw_look(rng: random.Random, style: Style, width: float) -> ListLook:
    px = style.px
    button = ButtonLook.draw(rng, style)
    count = 3 if rng.random() < 0.6 else rng.randint(1, 2)
    details: tuple[str, ...] = ("specialty", "distance", "rating")
    if count < 3:
        details = tuple(rng.sample(details, count))
    form = rng.choice(_FORMS)
    if form == "grid" and width < px(330):
        form = "right"
    return ListLook(
        form=form,
        word=rng.choice(_WORDS),
        name=rng.choice(("Dr. {first} {last}",) * 7 + ("{first} {last}, MD", "{first} {last}")),
        name_bold=rng.random() < 0.55,
        size=max(7.5 / style.scale, rng.uniform(11.5, 16.5)),
        muted_details=rng.random() < 0.5,
        padding=px(rng.uniform(4, 11)),
        gap=px(rng.uniform(2, 10)),
        framed=rng.random() < 0.82,
        two_lines=rng.random() < 0.28,
        avatar=rng.choice(("",) * 6 + ("circle", "square")),
        button=button,
        button_height=px(button.height),
        lines=rng.choice(("all", "rows", "rows", "none")),
        striped=rng.random() < 0.35,
        header=rng.choice(("plain", "bold", "bold", "tint", "dark", "none")),
        details=details,
        button_first=rng.random() < 0.07,
        distance_shown=rng.random() < 0.9,
    )


def draw_providers(rng: random.Random, least: int) -> list[Provider]:
    names: list[tuple[str, str]] = []
    count = rng.randint(least, max(least, 8))
    while len(names) < count:
        name = person(rng)
        if name not in names:
            names.append(name)
    distances = rng.sample(range(1, 120), count)
    return [
        Provider(
            first,
            last,
            rng.choice(SPECIALTIES),
            f"{distance / 10:.1f} mi",
            f"{rng.uniform(3, 5):.1f}",
        )
        for (first, last), distance in zip(names, distances, strict=True)
    ]


def row_values(providers: list[Provider], described: set[str]) -> list[dict[str, str]]:
    """Slot values of each row; those that another row shares are left out."""
    firsts = Counter(provider.first for provider in providers)
    lasts = Counter(provider.last for provider in providers)
    specialties = Counter(provider.specialty for provider in providers)
    shared = set(firsts) & set(lasts)
    found = []
    for provider in providers:
        values = {
            "name": f"{provider.first} {provider.last}",
            "specialty": provider.specialty,
        }
        if lasts[provider.last] == 1 and provider.last not in shared:
            values["last"] = provider.last
        if firsts[provider.first] == 1 and provider.first not in shared:
            values["first"] = provider.first
        if specialties[provider.specialty] == 1 and provider.specialty in described:
            values["only"] = provider.specialty
        found.append(values)
    return found
