import json
from pathlib import Path
from typing import Any

import pytest

from pointsman.dialects.json_files import read_values
from pointsman.errors import SampleError

ONE, TWO = {"prompt": "ä"}, {"prompt": "\u2028 ]"}
LINES = "\n".join(json.dumps(value, ensure_ascii=False) for value in (ONE, TWO))
PRETTY = json.dumps(ONE, indent=2) + "\n" + json.dumps(TWO, indent=2) + "\n"
TURNS = [{"from": "human", "value": "x"}]


@pytest.mark.parametrize(
    ("content", "places", "values"),
    [
        (LINES.encode(), [":1", ":2"], [ONE, TWO]),
        (LINES.encode("utf-8-sig"), [":1", ":2"], [ONE, TWO]),
        (LINES.encode("utf-16"), [":1", ":2"], [ONE, TWO]),
        (LINES.encode("utf-16-le"), [":1", ":2"], [ONE, TWO]),
        (LINES.encode("utf-32"), [":1", ":2"], [ONE, TWO]),
        (LINES.replace("\n", "\r").encode(), [":1", ":2"], [ONE, TWO]),
        (LINES.replace("\n", "\r\n\r\n").encode(), [":1", ":3"], [ONE, TWO]),
        (PRETTY.encode("utf-16"), ["[0]", "[1]"], [ONE, TWO]),
        (json.dumps(ONE, indent=2).encode(), [""], [ONE]),
        (json.dumps([ONE, TWO]).encode(), ["[0]", "[1]"], [ONE, TWO]),
        (b"\n" + json.dumps([ONE, TWO], indent=1).encode("utf-8"), ["[0]", "[1]"], [ONE, TWO]),
        (json.dumps([[ONE], [TWO, ONE]]).encode(), ["[0][0]", "[1][0]", "[1][1]"], [ONE, TWO, ONE]),
        (b"\n".join([json.dumps([ONE]).encode()] * 2), [":1[0]", ":2[0]"], [ONE, ONE]),
        (json.dumps({"data": [ONE, TWO]}).encode(), [":1[0]", ":1[1]"], [ONE, TWO]),
        (json.dumps({"version": 1, "data": [ONE]}, indent=2).encode(), ["[0]"], [ONE]),
        (json.dumps([TURNS, TURNS]).encode(), ["[0]", "[1]"], [{"messages": TURNS}] * 2),
        (b"", [], []),
        (b"\xef\xbb\xbf \n", [], []),
        (b"[]", [], []),
    ],
)
def test_samples_are_found_in_every_form(
    tmp_path: Path, content: bytes, places: list[str], values: list[Any]
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(content)
    assert list(read_values(file)) == [
        (f"{file}{place}", value) for place, value in zip(places, values, strict=True)
    ]


def test_a_broken_line_is_one_error_and_the_rest_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{broken\n\n{"a": 1}\n{"a": "\xff"}\n{"a": 2}\n[')
    found = dict(read_values(file))
    assert list(found) == [f"{file}:{line}" for line in (1, 3, 4, 5, 6)]
    assert [found[f"{file}:{line}"] for line in (3, 5)] == [{"a": 1}, {"a": 2}]
    for line, reason in ((1, "Expecting property name"), (4, "not UTF-8"), (6, "Expecting value")):
        error = found[f"{file}:{line}"]
        assert isinstance(error, SampleError)
        assert str(error).startswith(f"{file}:{line}: not a line of JSON ({reason}")


def test_a_cut_off_object_over_several_lines_is_one_error(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(PRETTY + PRETTY[:20])
    (_, one), (_, two), (where, error) = read_values(file)
    assert (one, two) == (ONE, TWO)
    assert where == f"{file}[2]"
    assert str(error).startswith(f"{file}[2]: not JSON")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[{]", "not JSON"),
        (b"[" + b"[" * 100_000, "not JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "a.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SampleError, match=message) as raised:
        list(read_values(file))
    assert str(raised.value).startswith(f"{file}: ")
    assert "\n" not in str(raised.value)
