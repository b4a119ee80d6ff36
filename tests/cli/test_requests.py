"""``--requests``: one result for each line; what is wrong with a line is told by its number."""

import base64
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from support.commands import Result, refused, run, succeeds
from support.inputs import shot
from support.tiny import ADAPTERS

SHORT = ("--max-new-tokens", 2)


def write_lines(path: Path, *records: Any) -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def results(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.out.splitlines()]


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    """The same request in four formats, an image beside the file, and a text alone."""
    url = "data:image/png;base64," + base64.b64encode(shot(tmp_path).read_bytes()).decode()
    part = {"type": "image_url", "image_url": {"url": url}}
    turns = [{"from": "human", "value": "<image>\nPick day 3"}, {"from": "gpt", "value": "no"}]
    content = [part, {"type": "text", "text": "Pick day 3"}]
    return write_lines(
        tmp_path / "requests.jsonl",
        {"image": "shot.png", "text": "Pick day 3"},
        {"conversations": turns, "image": "shot.png", "label": 0},
        {"messages": [{"role": "user", "content": content}]},
        "",
        {"text": "Pick day 4"},
    )


def test_route_decides_each_line_as_alone(config: Path, requests: Path, tmp_path: Path) -> None:
    found = results(succeeds("route", "--requests", requests, "--config", config))
    assert [result.pop("line") for result in found] == [1, 2, 3, 5]
    asked = ((tmp_path / "shot.png", "Pick day 3"), ("Pick day 4",))
    alone = [json.loads(succeeds("route", *a, "--config", config, "--json").out) for a in asked]
    for result, expected in zip(found, [alone[0]] * 3 + [alone[1]], strict=True):
        assert (result["label"], result["adapter"]) == (expected["label"], expected["adapter"])
        assert list(result["probabilities"]) == list(ADAPTERS)
        assert result["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-4)


def test_generate_answers_each_line_as_alone(config: Path, requests: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    asked = ("generate", "--requests", requests, "--config", config, *SHORT)
    assert succeeds(*asked, "--out", out).out == f"{out}: 4 results\n"
    found = [json.loads(line) for line in out.read_text().splitlines()]
    alone = succeeds(
        "generate", tmp_path / "shot.png", "Pick day 3", "--config", config, "--json", *SHORT
    )
    expected = json.loads(alone.out)
    for result in found[:3]:
        assert (result["text"], result["adapter"]) == (expected["text"], expected["adapter"])
    named = results(succeeds(*asked, "--adapter", "claim-window"))
    assert [result["adapter"] for result in named] == ["claim-window"] * 4


def test_bad_lines_are_told_by_number_and_the_others_answered(config: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG junk")
    shot(tmp_path)
    path = write_lines(
        tmp_path / "requests.jsonl",
        {"text": "Pick day 3"},
        "{not JSON",
        {"image": "broken.png", "text": "Pick day 3"},
        {"image": "gone.png", "text": "Pick day 3"},
        {"image": 3, "text": "Pick day 3"},
        {"text": ["Pick"]},
        {"image": "https://example.org/a.png", "text": "x"},
        {"conversations": [{"from": "gpt", "value": "ok"}]},
        [1],
        {"image": "shot.png", "text": "Pick day 4"},
    )
    for command in (("route",), ("generate", *SHORT)):
        result = run(*command, "--requests", path, "--config", config)
        assert result.code == 1
        assert [line["line"] for line in results(result)] == [1, 10]
        *errors, last = result.err.splitlines()
        assert last == "error: 8 of 10 requests failed"
        for number, message in (
            (2, "not a line of JSON"),
            (3, "not an image that is read"),
            (4, "gone.png: no such image"),
            (5, "an image is given as 3; give its path"),
            (6, "text is ['Pick']; give a string"),
            (7, "is a URL; download it first and give its path"),
            (8, "no human turn"),
            (9, "a sample is a JSON object, not list"),
        ):
            line = errors[number - 2]
            assert line.startswith(f"error: {path}:{number}: "), line
            assert message in line


def test_standard_input(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"text": "Pick day 3"}\n{}\n'))
    result = run("route", "--requests", "-", "--config", config)
    assert result.code == 1
    assert [line["line"] for line in results(result)] == [1]
    assert result.err.startswith("error: standard input:2: ")


def test_a_text_router_leaves_images_unread(
    tiny_text_router: Path, requests: Path, tmp_path: Path
) -> None:
    shutil.copy(requests, tmp_path / "elsewhere.jsonl")
    (tmp_path / "shot.png").unlink()
    found = results(succeeds("route", "--requests", requests, "--router", tiny_text_router))
    assert [line["line"] for line in found] == [1, 2, 3, 5]
    assert len({line["label"] for line in found[:3]}) == 1


def test_what_does_not_go_together(config: Path, requests: Path, tmp_path: Path) -> None:
    given = ("--config", config)
    both = refused("route", "Pick day 3", "--requests", requests, *given)
    assert both == f"'Pick day 3': give one request or --requests {requests}, not both"
    assert "goes with --requests" in refused("route", "x", "--out", tmp_path / "out", *given)
    assert "none.jsonl: no such file" in refused("route", "--requests", tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    line = refused("route", "--requests", tmp_path / "empty.jsonl", *given)
    assert line == f"{tmp_path / 'empty.jsonl'}: holds no requests"
    line = refused("generate", "--requests", requests, *given, "--adapter", "nobody")
    assert "unknown adapter 'nobody'" in line


@pytest.mark.parametrize("command", ["route", "generate"])
@pytest.mark.parametrize("image", ["shot.png", "nowhere.JPEG"])
def test_an_image_without_a_text_is_told(command: str, image: str) -> None:
    assert refused(command, image).startswith(f"{image}: the text is missing; give the instruction")


def test_an_image_of_any_name_without_a_text_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shot(tmp_path).rename(tmp_path / "screen")
    monkeypatch.chdir(tmp_path)
    assert "screen: the text is missing" in refused("route", "screen")


def test_no_request_is_a_usage_error() -> None:
    result = run("route")
    assert result.code == 2
    assert "'[IMAGE] TEXT': missing; give an instruction, or --requests FILE" in result.err
