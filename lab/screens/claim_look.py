"""The choices that make one claim form unlike another."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from .canvas import Canvas
from .style import ButtonLook, Style
from .typefaces import Face
from .widget import Target
from .words import (
    COMMON_FIELDS,
    FILLER,
    MAIN_BUTTONS,
    OTHER_BUTTONS,
    OTHER_FIELDS,
    SPECIALTIES,
)

_LABELS = ("above",) * 8 + ("left",) * 3 + ("right", "inside", "inside", "floating", "notched")


_INPUTS = ("box",) * 5 + ("line", "fill", "fill-line")


_PLACES = ("left",) * 7 + ("right",) * 3 + ("centre", "spread", "top", "wide")


@dataclass(frozen=True)
class FormField:
    label: str
    kind: str
    value: str


@dataclass(frozen=True)
class FormLook:
    """The choices of one form. Lengths are already scaled."""

    columns: int
    label: str
    label_size: float
    label_bold: bool
    label_suffix: str
    inputs: str
    input_height: float
    row_gap: float
    even_widths: bool
    widest: float
    ragged: bool
    place: str
    framed: bool
    legend: bool
    padding: float
    button: ButtonLook
    button_gap: float
    helper: bool


@dataclass
class FormDrawing:
    """One form under way."""

    canvas: Canvas
    rng: random.Random
    style: Style
    look: FormLook
    left: float
    right: float
    y: float
    targets: list[Target] = field(default_factory=list)

    @property
    def inner_left(self) -> float:
        return self.left + self.look.padding

    @property
    def inner_right(self) -> float:
        return self.right - self.look.padding

    @property
    def label_face(self) -> Face:
        return self.style.face(self.look.label_size, bold=self.look.label_bold)

    @property
    def label_height(self) -> float:
        return self.label_face.height * 1.12 if self.look.label == "above" else 0.0


def draw_fields(rng: random.Random, least: int, most: int) -> list[FormField]:
    count = rng.randint(least, max(least, most))
    common = rng.sample(COMMON_FIELDS, min(count, rng.randint(2, 7)))
    labels = common + rng.sample(OTHER_FIELDS, count - len(common))
    rng.shuffle(labels)
    return [_draw_field(rng, label) for label in labels]


def _draw_field(rng: random.Random, label: str) -> FormField:
    kind = "text"
    if label in ("Place of service", "Relationship", "Claim type", "Currency", "Plan name"):
        kind = rng.choice(("text", "select"))
    elif label in ("Notes", "Comments", "Reason for visit"):
        kind = rng.choice(("text", "text", "area"))
    elif label.startswith("Date") or label.endswith("date"):
        kind = rng.choice(("text", "date"))
    elif rng.random() < 0.06:
        kind = "select"
    return FormField(label, kind, _value(rng, kind) if rng.random() < 0.4 else "")


def _value(rng: random.Random, kind: str) -> str:
    if kind == "date":
        return f"{rng.randint(1, 12):02d}/{rng.randint(1, 28):02d}/{rng.randint(2020, 2030)}"
    if kind == "select":
        return rng.choice(("Select…", "Choose one", "Office", rng.choice(SPECIALTIES)))
    return rng.choice(
        (
            str(rng.randint(100, 99999)),
            str(rng.randint(1000, 99999)),
            f"${rng.randint(10, 900)}.{rng.randint(0, 99):02d}",
            f"{rng.choice('ABCDEFGHKM')}{rng.randint(10, 99)}.{rng.randint(0, 9)}",
            rng.choice(FILLER).capitalize(),
        )
    )


def draw_button_labels(rng: random.Random, excluded: frozenset[str]) -> list[str]:
    labels = rng.sample(MAIN_BUTTONS, rng.randint(2, 4))
    if rng.random() < 0.3:
        extra = rng.choice(OTHER_BUTTONS)
        # "Submit" beside "Submit claim" would leave no unique way to name it.
        if extra not in excluded and not any(extra in label for label in labels):
            labels.append(extra)
    rng.shuffle(labels)
    return labels


def draw_look(rng: random.Random, style: Style, width: float) -> FormLook:
    px = style.px
    columns = rng.choice((1, 2, 2, 2, 2, 3)) if width > px(300) else rng.choice((1, 1, 2))
    while columns > 1 and width / columns < px(125):
        columns -= 1
    label = rng.choice(_LABELS)
    if label in ("left", "right") and min(width, px(600)) / columns < px(240):
        label = "above"
    size = max(7.5 / style.scale, rng.uniform(11.5, 16.5))
    tall = label in ("floating",)
    return FormLook(
        columns=columns,
        label=label,
        label_size=size,
        label_bold=rng.random() < 0.25,
        label_suffix=rng.choice(("",) * 8 + (":", " *")),
        inputs=rng.choice(_INPUTS) if label != "notched" else "box",
        input_height=max(px(rng.uniform(20, 36)), px(size * (2.5 if tall else 1.45))),
        row_gap=px(rng.uniform(2, 12) + (6 if label == "notched" else 0)),
        even_widths=rng.random() < 0.5,
        # Fields that stick out of their column are common where style sheets meet by accident.
        widest=rng.choice((1.0, 1.0, 1.0, 1.15)),
        ragged=rng.random() < 0.5,
        place=rng.choice(_PLACES),
        framed=rng.random() < 0.65,
        legend=rng.random() < 0.12,
        padding=px(rng.uniform(6, 20)),
        button=ButtonLook.draw(rng, style),
        button_gap=px(rng.uniform(2, 12)),
        helper=rng.random() < 0.05 and label == "above",
    )
