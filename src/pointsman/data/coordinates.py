"""Coordinates in answers: which convention a training set writes them in.

Qwen3-VL writes 0 to 1000 whatever the picture's size, Qwen2.5-VL writes pixels, others 0 to 1.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pointsman.sample import Box, RoutingSample, is_inside

RANGE = 1000
Convention = Literal["pixels", "0 to 1", "0 to 1000"]
OURS: Convention = "0 to 1000"
Point = tuple[float, float]
Size = tuple[int, int]
_FEWEST = 20  # answers, below which all may lie in a part of the range by chance
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_PAIR = rf"{_NUMBER}\s*,\s*{_NUMBER}"
# Only forms that can be nothing else: two numbers in a sentence are no place on a screen.
_FORMS = [
    re.compile(form)
    for form in (
        rf'"bbox(?:_2d)?"\s*:\s*\[\s*{_PAIR}\s*,\s*{_PAIR}\s*\]',
        rf'"(?:\w*coordinate|point(?:_2d)?)"\s*:\s*\[\s*{_PAIR}\s*\]',
        rf"<\|box_start\|>\s*\(\s*{_PAIR}\s*\)(?:\s*,\s*\(\s*{_PAIR}\s*\))?",
        rf"<point>\s*{_NUMBER}[\s,]+{_NUMBER}\s*</point>",
        rf"\b\w*(?:[cC]lick|[tT]ap|moveTo|dragTo)\w*\(\s*(?:x\s*=\s*)?{_NUMBER}\s*,\s*(?:y\s*=\s*)?"
        rf"{_NUMBER}\s*[,)]",
        rf"\A\s*[\[(]\s*{_PAIR}\s*(?:,\s*{_PAIR}\s*)?[\])]\s*\Z",
    )
]


@dataclass(frozen=True)
class Place:
    """Where one answer points."""

    corners: tuple[Point, ...]
    """A point, or two corners of a box, as written."""
    size: Size
    """Width and height of the picture."""
    bbox: Box | None
    """The sample's own box, in pixels."""

    def fits(self, convention: Convention) -> bool:
        """Whether it lies in the range of a convention and, read so, inside its own box."""
        x_side, y_side = (1, 1) if convention == "0 to 1" else (RANGE, RANGE)
        if convention == "pixels":
            x_side, y_side = self.size
        if not all(0 <= x <= x_side and 0 <= y <= y_side for x, y in self.corners):
            return False
        if self.bbox is None:
            return True
        x, y = (sum(values) / len(values) for values in zip(*self.corners, strict=True))
        return is_inside((x / x_side * self.size[0], y / y_side * self.size[1]), self.bbox)


def places_of(sample: RoutingSample, size: Size) -> list[Place]:
    """The places that a sample's answer names: ``coordinate`` of a call, ``click(x, y)`` and such.

    The first of them is the one that belongs to the sample's own box.
    """
    answer = sample.answer or ""
    matches = sorted(
        (match.start(), match.groups()) for form in _FORMS for match in form.finditer(answer)
    )
    numbers = [[float(number) for number in groups if number is not None] for _, groups in matches]
    return [
        Place(
            tuple(zip(found[::2], found[1::2], strict=True)), size, sample.bbox if not n else None
        )
        for n, found in enumerate(numbers)
    ]


def fits(places: Sequence[Place]) -> dict[Convention, int]:
    """How many places fit each convention."""
    kinds: tuple[Convention, ...] = (OURS, "pixels", "0 to 1")
    return {kind: sum(place.fits(kind) for place in places) for kind in kinds}


def convention(places: Sequence[Place]) -> Convention:
    """The one that a training set seems to use; Qwen3-VL's own where nothing else is sure."""
    counts = fits(places)
    numbers = [n for place in places for corner in place.corners for n in corner]
    if all(0 <= n <= 1 for n in numbers) and any(0 < n < 1 for n in numbers):
        return "0 to 1"
    if counts["pixels"] != counts[OURS]:
        return "pixels" if counts["pixels"] > counts[OURS] else OURS
    small = [place for place in places if min(place.size) < 0.8 * RANGE]
    # In 0 to 1000, some of many answers would lie beyond the edge of so small a picture.
    is_pixels = len(small) >= _FEWEST and all(place.fits("pixels") for place in small)
    return "pixels" if is_pixels else OURS


def fault(places: Sequence[Place]) -> str | None:
    """What is wrong with the coordinates of a training set, with counts; None if nothing is."""
    counts, seems = fits(places), convention(places) if places else OURS
    if seems != OURS:
        return (
            f"seem to be written as {seems}: {counts[seems]} of {len(places)} coordinates fit "
            f"that, {counts[OURS]} fit {OURS}, which Qwen3-VL writes whatever the picture's size; "
            "convert them"
        )
    if wrong := len(places) - counts[OURS]:
        return (
            f"have {wrong} of {len(places)} coordinates beyond {OURS}, Qwen3-VL's range, or "
            "outside their own bbox; correct them"
        )
    return None
