"""JSON files in the forms that editors and exports leave: lines, lists, objects, any Unicode."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from pointsman.dialects.values import is_turn
from pointsman.errors import SampleError

_WRAPPERS = ("data", "train", "samples", "examples", "records", "rows", "items")
_BLANK = re.compile(r"\s*")
_ESCAPED = re.compile("[\udc80-\udcff]")
"""What ``surrogateescape`` makes of bytes that are no UTF-8."""


def read_values(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields (``file:line`` or ``file[index]``, decoded value) for each sample of a JSON file.

    It reads JSONL, a list, an object that wraps a list (``{"data": […]}``), objects over several
    lines, and packed lists, in UTF-8, UTF-16 or UTF-32, with any line ends. A broken value comes
    back as a ``SampleError``, so that all of them can be reported.

    Raises:
        SampleError: the file is missing, cannot be read, or holds a broken list.
    """
    try:
        with path.open("rb") as content:
            encoding = json.detect_encoding(content.read(4))
        with path.open(encoding=encoding, errors="surrogateescape") as lines:
            for where, value in _values(lines, path):
                yield from _unpacked(where, value)
    except FileNotFoundError:
        raise SampleError(f"{path}: no such file") from None
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SampleError(f"{path}: cannot be read ({reason})") from None


def _values(lines: TextIO, path: Path) -> Iterator[tuple[str, Any]]:
    filled = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    given = list(islice(filled, 2))
    if not given:
        return
    value = _decoded(given[0][1], str(path))
    if isinstance(value, SampleError) or (isinstance(value, list) and len(given) == 1):
        lines.seek(0)
        yield from _whole(lines.read(), path)
        return
    for number, line in chain(given, filled):
        yield f"{path}:{number}", _decoded(line, f"{path}:{number}")


def _whole(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    """The values of a text that is not one value per line."""
    decoder, values = json.JSONDecoder(), []
    place = _after_blank(text, 0)
    try:
        while place < len(text):
            value, place = decoder.raw_decode(text, place)
            values.append(value)
            place = _after_blank(text, place)
    except (ValueError, RecursionError) as error:
        if not values and text[place] == "[":
            raise SampleError(f"{path}: not JSON ({error})") from None
        values.append(SampleError(f"{path}[{len(values)}]: not JSON ({error})"))
    if isinstance(values[0], SampleError):
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield f"{path}:{number}", _decoded(line, f"{path}:{number}")
        return
    for index, value in enumerate(values):
        yield str(path) if len(values) == 1 else f"{path}[{index}]", value


def _after_blank(text: str, place: int) -> int:
    found = _BLANK.match(text, place)
    return found.end() if found else place


def _decoded(line: str, where: str) -> Any:
    if _ESCAPED.search(line):
        return SampleError(f"{where}: not a line of JSON (not UTF-8)")
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return SampleError(f"{where}: not a line of JSON ({error})")


def _unpacked(where: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The samples that a value holds: of a list its items, unless those are turns."""
    if isinstance(value, Mapping):
        wrapped = [value[key] for key in _WRAPPERS if _is_wrapped(value.get(key))]
        value = wrapped[0] if len(wrapped) == 1 else value
    if isinstance(value, list) and value and all(map(is_turn, value)):
        value = {"messages": value}
    if not isinstance(value, list):
        yield where, value
        return
    for index, item in enumerate(value):
        yield from _unpacked(f"{where}[{index}]", item)


def _is_wrapped(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping | list) for item in value)
