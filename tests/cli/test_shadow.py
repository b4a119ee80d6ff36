"""``shadow`` and ``data corrections`` on the log of a real router on real screens."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pointsman.data.dataset import read_dataset
from pointsman.engine.engine import Engine
from pointsman.evaluation.demo import demo_samples
from pointsman.pocket import pocket_folder
from pointsman.routing.route import Route
from pointsman.routing.router import Router
from pointsman.routing.seal import router_digest
from pointsman.sample import RoutingSample, load_prompt
from pointsman.server.decision_log import DecisionLog, read_log
from support.commands import refused, succeeds

N = 8
"""Decisions in the log"""
EVIL = "<script>alert(1)</script>\n<image> Pick day 3"


def label(route: Route) -> str | None:
    return None if route.abstained else route.adapter


@pytest.fixture(scope="module")
def pocket() -> Iterator[Engine]:
    with Engine.pocket() as engine:
        yield engine


@pytest.fixture(scope="module")
def router() -> Iterator[Path]:
    with pocket_folder() as folder:
        yield folder / "router"


@pytest.fixture(scope="module")
def samples() -> Iterator[list[RoutingSample]]:
    with demo_samples() as found:
        yield found[::2]


@pytest.fixture(scope="module")
def made(
    pocket: Engine,
    router: Path,
    samples: list[RoutingSample],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The log of the pocket on half of its own screens, ``r0`` to ``r7``."""
    folder = tmp_path_factory.mktemp("served") / "log"
    log = DecisionLog(folder, pictures=True, router_digest=router_digest(router))
    for number, sample in enumerate(samples):
        prompt = load_prompt(sample)
        log.write(
            request_id=f"r{number}",
            model="auto",
            session=None,
            prompt=prompt,
            route=pocket.route_batch([prompt])[0],
            plan=pocket.plan.name,
            image_bytes=[Path(path).read_bytes() for path in sample.images],
        )
    return folder


@pytest.fixture
def log(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "log"))


@pytest.fixture(scope="module")
def permuted(router: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another router: what the pocket's sends to one adapter, it sends to the next."""
    folder = tmp_path_factory.mktemp("permuted") / "router"
    loaded = Router.load(router).to(torch.device("cpu"))
    head = loaded.head
    with torch.inference_mode(False), torch.no_grad():
        for tensor in head[-1].state_dict().values():
            tensor.copy_(tensor.roll(1, 0))
    with torch.inference_mode():
        evidence = loaded.read(loaded.probes.features)
    probes = loaded.probes._replace(logits=evidence.logits, scores=evidence.scores)
    replace(loaded, probes=probes).save(folder)
    return folder


def edit(log: Path, **changes: Any) -> None:
    """Changes every record."""
    path = log / "decisions.jsonl"
    records = [json.loads(line) | changes for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def correct(log: Path, *pairs: tuple[str, str | None]) -> None:
    lines = [json.dumps({"id": name, "adapter": adapter}) + "\n" for name, adapter in pairs]
    (log / "corrections.jsonl").write_text("".join(lines))


def test_the_same_router_agrees_with_itself(log: Path, router: Path) -> None:
    found = json.loads(succeeds("shadow", router, "--log", log, "--json").out)
    assert found["compared"] == N
    assert found["agreement"]["value"] == 1
    assert found["agreement"]["low"] == pytest.approx(0.6756, abs=1e-3)  # Wilson, 8 of 8
    assert found["abstained"]["old"] == found["abstained"]["new"] > 0
    assert found["confidence"]["old"] == pytest.approx(found["confidence"]["new"], abs=1e-4)
    assert all(move["old"] == move["new"] for move in found["moves"])
    assert sum(move["n"] for move in found["moves"]) == N
    assert found["estimated_gain"] == {side: {"n": 0, "mean": None} for side in ("old", "new")}
    assert found["accuracy"] is None
    assert not any(found["skipped"].values())
    assert any("too few" in line for line in found["drift"])


def test_another_router_disagrees(
    log: Path, permuted: Path, samples: list[RoutingSample], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = succeeds("shadow", permuted, "--log", log, "--out", out)
    assert result.progress[-1].startswith(f"shadow {N}/{N}")
    found = json.loads((out / "shadow.json").read_text())
    moves = {(m["old"], m["new"]): m["n"] for m in found["moves"]}
    abstained = [d for d in read_log(log) if d.route.abstained]
    assert moves.pop(("(abstained)", "(abstained)")) == len(abstained)
    following = {
        "calendar": "claim-window",
        "claim-window": "provider-select",
        "provider-select": "calendar",
    }
    assert dict(moves.keys()) == following
    disagreements = N - len(abstained)
    assert f"{len(abstained)} of {N} decisions are the same" in result.out
    gains = found["estimated_gain"]
    assert gains["new"]["n"] == gains["old"]["n"] == disagreements
    assert gains["new"]["mean"] > 0.3
    assert gains["old"]["mean"] == pytest.approx(-gains["new"]["mean"], abs=0.01)
    assert "estimate, not accuracy" in result.out
    lines = [json.loads(line) for line in (out / "disagreements.jsonl").read_text().splitlines()]
    assert len(lines) == disagreements
    assert all(following[line["old"]] == line["new"] for line in lines)
    page = (out / "shadow.html").read_text()
    assert page.count("data:image/jpeg;base64,") == disagreements
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "<script" not in page


def test_corrections_tell_which_is_right(
    log: Path, permuted: Path, router: Path, tmp_path: Path
) -> None:
    decisions = list(read_log(log))
    right = [d for d in decisions if not d.route.abstained]
    pairs = [(d.id, d.choice) for d in right[:4]] + [(right[4].id, None), ("gone", "calendar")]
    correct(log, (right[0].id, "calendar"), *pairs)  # the last line of an id counts
    same = json.loads(succeeds("shadow", router, "--log", log, "--json").out)["accuracy"]
    assert (same["n"], same["old"]["value"], same["only_old"]) == (5, 0.8, 0)
    assert same["new"] == same["old"]
    text = succeeds("shadow", permuted, "--log", log, "--out", tmp_path / "out").out
    other = json.loads((tmp_path / "out/shadow.json").read_text())["accuracy"]
    assert (other["new"]["value"], other["only_old"]) == (0, 4)
    assert other["old"]["low"] == pytest.approx(0.3755, abs=1e-3)  # Wilson, 4 of 5
    assert "right on 5 corrected decisions: old 80.0%" in text
    assert "looks worse than it is" in text


def test_what_cannot_be_compared_is_counted_in_words(
    log: Path, router: Path, tmp_path: Path
) -> None:
    records = [json.loads(line) for line in (log / "decisions.jsonl").read_text().splitlines()]
    records[0]["held"] = True
    lost = {records[1]["images"][0], records[2]["images"][0]}
    for path in (log / "pictures").iterdir():
        if path.stem in lost:
            path.unlink()
    left = [r for r in records[1:] if not lost & {*r["images"]}]
    broken = left[0]["images"][0]
    next((log / "pictures").glob(f"{broken}.*")).write_bytes(b"\x89PNG junk")
    unusable = [r for r in left if broken in r["images"]]
    lines = [json.dumps(record) for record in records] + ["{torn"]
    (log / "decisions.jsonl").write_text("\n".join(lines))
    out = succeeds("shadow", router, "--log", log, "--out", tmp_path / "out").out
    found = json.loads((tmp_path / "out/shadow.json").read_text())
    assert found["skipped"] == {
        "lines": 1,
        "held": 1,
        "without_picture": N - 1 - len(left),
        "unusable": len(unusable),
    }
    assert found["compared"] == len(left) - len(unusable) >= 3
    assert found["agreement"]["value"] == 1
    assert f"{N - 1 - len(left)} decisions are not compared: the log did not keep their" in out
    assert "1 decisions are the sessions'" in out


def test_a_log_without_pictures_is_refused(log: Path, router: Path, tmp_path: Path) -> None:
    shutil.rmtree(log / "pictures")
    line = refused("--quiet", "shadow", router, "--log", log)
    assert f"{N} decisions are not compared: the log did not keep their pictures" in line
    assert "log with pictures" in line
    assert "holds no decisions.jsonl" in refused("shadow", router, "--log", tmp_path)
    assert "pointsman train" in refused("shadow", tmp_path, "--log", log)


def test_a_text_router_needs_no_pictures(log: Path, tiny_text_router: Path) -> None:
    shutil.rmtree(log / "pictures")
    found = json.loads(succeeds("shadow", tiny_text_router, "--log", log, "--json").out)
    assert found["compared"] == N


def test_text_of_users_stays_text(log: Path, permuted: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in (log / "decisions.jsonl").read_text().splitlines()]
    for record in records:
        record["turns"] = [{"role": "user", "parts": [None, EVIL + "\ud800"]}]
        record["id"] = EVIL
    (log / "decisions.jsonl").write_text("\n".join(map(json.dumps, records)))
    succeeds("shadow", permuted, "--log", log, "--out", tmp_path / "out")
    page = (tmp_path / "out/shadow.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_data_generate_reads_the_corrected(log: Path, tmp_path: Path) -> None:
    decisions = list(read_log(log))
    names = ("calendar", "claim-window", "provider-select")
    pairs = [(d.id, (*names, None)[n % 4]) for n, d in enumerate(decisions)]
    correct(log, *pairs, ("gone", "calendar"))
    out = tmp_path / "corrected"
    result = succeeds("data", "corrections", log, "--out", out)
    assert f"{out / 'calendar.jsonl'}: 2 samples" in result.out
    assert result.err == "1 corrections name a decision that is not in the log\n"
    sources = [f"--source={name}={out / name}.jsonl" for name in names]
    outside = ("--out-of-scope", out / "out_of_scope.jsonl")
    data = tmp_path / "data"
    succeeds("data", "generate", *sources, *outside, "--out", data, "--val=0", "--test=0")
    found = [s for split in read_dataset(data).splits.values() for s in split]
    given = {d.id: d.turns for d in decisions}
    expected = [(adapter, given[name]) for name, adapter in pairs]
    assert len(found) == N
    for sample in found:
        assert (sample.adapter, sample.turns) in expected
        assert Path(sample.images[0]).is_file()
    line = refused("data", "corrections", log, "--out", out)
    assert line == f"{out}: is there already; choose another --out or delete it"


def test_corrected_text_with_a_placeholder_stays_text(log: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in (log / "decisions.jsonl").read_text().splitlines()]
    records[0]["turns"] = [{"role": "user", "parts": [None, EVIL]}]
    (log / "decisions.jsonl").write_text("\n".join(map(json.dumps, records)))
    correct(log, ("r0", "calendar"), ("r1", "claim-window"))
    succeeds("data", "corrections", log, "--out", tmp_path / "out")
    names = ("calendar", "claim-window")
    sources = [f"--source={name}={tmp_path / 'out' / name}.jsonl" for name in names]
    shared = ("--out", tmp_path / "data", "--val=0", "--test=0")
    succeeds("data", "generate", *sources, *shared)
    train = read_dataset(tmp_path / "data").splits["train"]
    assert [s.turns[0].text for s in train if s.adapter == "calendar"] == [EVIL]


def test_corrections_that_say_nothing(log: Path, router: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "holds no corrections" in refused("data", "corrections", log, "--out", out)
    for line, message in (
        ("{", "not a line of JSON"),
        ('{"id": "r0"}', "corrections.jsonl:1: not a correction; write"),
        ('{"id": 3, "adapter": null}', "id 3 and adapter None"),
        ('{"id": "r0", "adapter": "base"}', "reserved"),
        ('{"id": "r0", "adapter": "../up"}', "not legal"),
    ):
        (log / "corrections.jsonl").write_text(line + "\n" + '{"id": "r1", "adapter": null}\n')
        assert message in refused("data", "corrections", log, "--out", out)
        assert message in refused("shadow", router, "--log", log)
    # One id of two decisions says nothing about either; without pictures there is no sample.
    edit(log, id="same")
    correct(log, ("same", "calendar"))
    done = json.loads(succeeds("data", "corrections", log, "--out", out, "--json").out)
    assert (done["files"], done["ambiguous"]) == ({}, 1)
