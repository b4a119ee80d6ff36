"""Self-contained HTML pages: templates, with pictures embedded as data."""

import base64
from dataclasses import dataclass
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

_TEMPLATES = Environment(
    loader=PackageLoader("pointsman.evaluation"),
    autoescape=True,  # what users wrote stays text
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True)
class Picture:
    """A picture of a page."""

    source: str
    """A ``data:`` URL"""
    alt: str
    caption: str
    kind: Literal["", "wide"] = ""


def render(template: str, **values: Any) -> str:
    """A page of ``templates/``; every value is escaped."""
    return _TEMPLATES.get_template(template).render(values).lstrip()


def png(content: bytes, alt: str, caption: str, kind: Literal["", "wide"] = "") -> Picture:
    """A PNG as a picture of a page."""
    return Picture(data_address(content, "png"), alt, caption, kind)


def data_address(content: bytes, kind: Literal["png", "jpeg"]) -> str:
    """An image file as a ``data:`` URL."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
