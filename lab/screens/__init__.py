"""Draws demo screens: calendars, claim forms, provider lists and pages that are none of them.

The pictures train the demo adapters and routers; every target's box is known to the pixel. A
screen belongs to a stratum, which says what decides the adapter:

- ``plain``: instruction and image both do;
- ``image-decides``: the instruction only counts ("Take the second option");
- ``text-decides``: two widgets on the screen, the instruction means one;
- ``out-of-scope``: another page, another wish;
- ``near-out-of-scope``: one of the widgets, another wish.
"""

from __future__ import annotations

from .screen import STRATA, Screen, draw_screen, draw_screens
from .write import write_screens

__all__ = ["STRATA", "Screen", "draw_screen", "draw_screens", "write_screens"]
