"""What a drawn widget reports: the things on it that can be clicked."""

from __future__ import annotations

from dataclasses import dataclass, field

from .canvas import Box

ADAPTERS = ("calendar", "claim-window", "provider-select")


@dataclass(frozen=True)
class Target:
    """A clickable thing.

    `values` fill the slots of instruction templates; a value is there only if it is unique on the
    screen, so a template whose slots are all there can mean nothing else.
    """

    kind: str
    box: Box
    values: dict[str, str]


@dataclass(frozen=True)
class Widget:
    """A widget on a screen.

    `options` are the targets that "the third option" counts: the days of the month, the fields of
    a form (down its columns), the rows of a list. `complete` says that the last one is visible.
    """

    adapter: str
    name: str
    box: Box
    targets: tuple[Target, ...]
    options: tuple[Target, ...]
    complete: bool = True
    labels: frozenset[str] = field(default_factory=frozenset)
