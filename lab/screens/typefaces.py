"""Typefaces that come with Python packages, and glyph masks cached for fast text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from pointsman.errors import MissingDependency

_OVERSAMPLING = 4


@dataclass(frozen=True)
class Family:
    """A typeface family: the files of its regular and its bold weight."""

    name: str
    regular: Path
    bold: Path


@dataclass(frozen=True)
class Glyph:
    """One rasterised character: its mask and the mask's offset from the pen on the baseline."""

    mask: Image.Image | None
    left: int
    top: int


@dataclass(eq=False)
class Face:
    """A family in one weight and size.

    Browsers draw text in two ways: hinted with whole-pixel advances, or smooth with fractional
    ones. `hinted` chooses; the smooth way rasterises larger and reduces, which undoes hinting.
    """

    font: ImageFont.FreeTypeFont
    size: float
    hinted: bool
    _advances: dict[str, float] = field(default_factory=dict)
    _glyphs: dict[tuple[str, int], Glyph] = field(default_factory=dict)

    @property
    def _factor(self) -> int:
        return 1 if self.hinted else _OVERSAMPLING

    @property
    def ascent(self) -> float:
        return self.font.getmetrics()[0] / self._factor

    @property
    def height(self) -> float:
        return sum(self.font.getmetrics()) / self._factor

    def advance(self, character: str) -> float:
        width = self._advances.get(character)
        if width is None:
            width = self.font.getlength(character) / self._factor
            self._advances[character] = width
        return width

    def width(self, text: str) -> float:
        return sum(map(self.advance, text))

    def clipped(self, text: str, room: float) -> str:
        """As much of the text as fits into the room."""
        while text and self.width(text) > room:
            text = text[:-1]
        return text

    def glyph(self, character: str, phase: int) -> Glyph:
        """The mask of `character` with the pen `phase` quarters of a pixel right of the grid."""
        key = (character, phase)
        found = self._glyphs.get(key)
        if found is None:
            found = self._rasterise(character, phase)
            self._glyphs[key] = found
        return found

    def _rasterise(self, character: str, phase: int) -> Glyph:
        left, top, right, bottom = (int(v) for v in self.font.getbbox(character, anchor="ls"))
        if right <= left or bottom <= top:
            return Glyph(None, 0, 0)
        factor = self._factor
        shift = phase if factor > 1 else 0
        origin_x, origin_y = math.floor((left + shift) / factor), math.floor(top / factor)
        columns = math.ceil((right + shift) / factor) - origin_x
        rows = math.ceil(bottom / factor) - origin_y
        mask = Image.new("L", (columns * factor, rows * factor))
        pen = (shift - origin_x * factor, -origin_y * factor)
        _draw_character(mask, pen, character, self.font)
        return Glyph(mask.reduce(factor) if factor > 1 else mask, origin_x, origin_y)


def _draw_character(
    mask: Image.Image, pen: tuple[int, int], character: str, font: ImageFont.FreeTypeFont
) -> None:
    ImageDraw.Draw(mask).text(pen, character, fill=255, font=font, anchor="ls")


def _package_folder(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise MissingDependency(
            f"drawing demo screens needs the fonts of {module!r}: "
            "pip install font-roboto font-source-sans-pro"
        )
    return Path(spec.origin).parent / "files"


@lru_cache(maxsize=1)
def bundled_families() -> tuple[Family, ...]:
    """The families every installation has, so that drawn bytes do not depend on the machine.

    Repeated entries are deliberate weights: sans serif faces dominate real pages.
    """
    dejavu = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    roboto = _package_folder("font_roboto")
    source = _package_folder("font_source_sans_pro")
    sans = Family("sans", dejavu / "DejaVuSans.ttf", dejavu / "DejaVuSans-Bold.ttf")
    serif = Family("serif", dejavu / "DejaVuSerif.ttf", dejavu / "DejaVuSerif-Bold.ttf")
    mono = Family("mono", dejavu / "DejaVuSansMono.ttf", dejavu / "DejaVuSansMono-Bold.ttf")
    plain = Family("roboto", roboto / "Roboto-Regular.ttf", roboto / "Roboto-Bold.ttf")
    medium = Family("roboto-medium", roboto / "Roboto-Regular.ttf", roboto / "Roboto-Medium.ttf")
    humanist = Family(
        "source", source / "SourceSansPro-Regular.ttf", source / "SourceSansPro-Semibold.ttf"
    )
    return (sans,) * 8 + (plain,) * 6 + (medium,) * 2 + (humanist,) * 5 + (serif,) * 2 + (mono,)


@lru_cache(maxsize=16)
def families_in(folders: tuple[Path, ...]) -> tuple[Family, ...]:
    """Families found as NAME-Regular.ttf with NAME-Bold.ttf below the given folders."""
    found = []
    for folder in folders:
        for regular in sorted(folder.rglob("*-Regular.ttf")):
            bold = regular.with_name(regular.name.replace("-Regular", "-Bold"))
            if bold.exists():
                found.append(Family(regular.stem.removesuffix("-Regular"), regular, bold))
    return tuple(found)


def families(extra_folders: Sequence[Path] = ()) -> tuple[Family, ...]:
    """The bundled families, and those in folders the caller names, each twice as likely."""
    return bundled_families() + families_in(tuple(extra_folders)) * 2


@lru_cache(maxsize=1024)
def _face(path: Path, size: float, hinted: bool) -> Face:
    pixels = size if hinted else size * _OVERSAMPLING
    font = ImageFont.truetype(str(path), pixels, layout_engine=ImageFont.Layout.BASIC)
    return Face(font, size, hinted)


def face(family: Family, size: float, *, bold: bool = False, hinted: bool = False) -> Face:
    """The cached face nearest to `size`: half-pixel steps for small text, whole ones above."""
    step = 2 if size < 17 else 1
    rounded = max(6.5, round(size * step) / step)
    return _face(family.bold if bold else family.regular, rounded, hinted)
