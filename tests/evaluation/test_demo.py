from pathlib import Path

import pytest
from PIL import Image

from pointsman.conversation import Turn, user_turn
from pointsman.engine.answer import Answer
from pointsman.evaluation.demo import DemoResult, DemoRow, demo_samples, run_demo
from pointsman.routing.route import Route
from pointsman.sample import RoutingSample


def test_shipped_screens_cover_every_adapter() -> None:
    with demo_samples() as samples:
        counts: dict[str | None, int] = {}
        for sample in samples:
            counts[sample.adapter] = counts.get(sample.adapter, 0) + 1
    assert all(counts[name] >= 3 for name in ("calendar", "claim-window", "provider-select"))
    assert counts[None] >= 2


@pytest.mark.parametrize(
    ("typed", "hit", "right"), [("4711", True, "yes"), (None, False, "no"), ("4712", False, "no")]
)
def test_rows_say_what_was_done_and_whether_it_was_right(
    typed: str | None, hit: bool, right: str
) -> None:
    click = {"action": "left_click", "coordinate": [150, 300]}
    said = (
        '<tool_call>{"arguments": {"action": "left_click", "coordinate": [1,1]}}</tool_call>\n'
        '<tool_call>{"arguments": {"action": "type", "text": "4711"}}</tool_call>'
    )
    turns = (user_turn("Enter 4711 as Member ID"), Turn("assistant", (said,)))
    sample = RoutingSample(turns, ("a.png",), 0, "claim-window", (10, 20, 30, 40))
    actions = (click,) if typed is None else (click, {"action": "type", "text": typed})
    route = Route(0, "claim-window", {"claim-window": 1.0}, False, 0.0)
    answer = Answer("...", "claim-window", actions, (15, 30), typed, route, "stop", 0, 0)
    result = DemoResult([DemoRow(sample, answer, "01.png")])
    assert result.entries[0].hit is hit
    done = "left_click [150, 300]" + (f", type {typed}" if typed else "")
    assert result.rows()[0][-2:] == (done, right)
    assert result.summary() == f"1 of 1 routed right, {int(hit)} of 1 answered right"
    row = result.to_json()[0]
    assert (row["actions"], row["typed"], row["hit"]) == (actions, typed, hit)


def test_demo_writes_pictures_and_a_page(tmp_path: Path) -> None:
    result = run_demo(tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert len(result.entries) >= 11
    for entry in result.entries:
        assert f'src="{entry.picture}"' in page
        with Image.open(tmp_path / entry.picture) as picture:
            assert picture.size == tuple(entry.sample.extra["size"])
    assert len(result.rows()[0]) == len(result.COLUMNS)
    assert result.summary() in page
    json_row = result.to_json()[0]
    assert sum(json_row["probabilities"].values()) == pytest.approx(1, abs=1e-4)
