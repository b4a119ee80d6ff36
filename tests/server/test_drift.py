"""Drift, as the server's log and metrics tell it."""

import io
import json
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from pointsman.conversation import make_prompt
from pointsman.engine.engine import Engine
from pointsman.pocket import pocket_folder
from pointsman.routing.drift import spread_of, spreads_of
from pointsman.routing.router import Router
from pointsman.server.drift import WINDOW
from support.server import Server, screen, serve, user


def _small() -> bytes:
    """A screen of which a decision takes little time."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(screen())).resize((320, 200)).save(buffer, "PNG")
    return buffer.getvalue()


SCREEN = _small()
USUAL = [
    f"Pick {month} {day}, 2027 as the appointment date"
    for month in ("May", "June", "July", "August", "September", "October", "November")
    for day in range(1, 31)
][:WINDOW]
OTHERS = [f"Write poem number {n} about the sea and the wind" for n in range(WINDOW)]


def sealed(folder: Path) -> Path:
    """The pocket's router with the record of a validation on the usual requests."""
    with Engine.pocket() as engine:
        prompts = [make_prompt(SCREEN, text) for text in USUAL]
        routes = [
            route
            for at in range(0, WINDOW, 20)
            for route in engine.route_batch(prompts[at : at + 20])
        ]
    with pocket_folder() as pocket:
        router = Router.load(pocket / "router")
    kept = sum(not route.abstained for route in routes)
    record = {
        "validated": {"in_scope": len(routes), "kept": kept},
        "spreads": {name: spread_of(torch.tensor(v)) for name, v in spreads_of(routes).items()},
    }
    replace(router, training=router.training | record).save(folder)
    return folder


def send(server: Server, texts: list[str]) -> None:
    def one(text: str) -> None:
        body = json.dumps({"messages": [user(text, SCREEN)]}).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{server.url}/v1/route", body, headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            assert response.status == 200

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, texts))


def gauges(server: Server, name: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=60) as response:
        text = response.read().decode()
    return {
        signal: float(value)
        for signal, value in re.findall(rf'^{name}{{signal="(\w+)"}} (\S+)$', text, re.MULTILINE)
    }


def told(server: Server) -> list[str]:
    return re.findall(r"WARNING (drift .*)", server.log.read_text())


def test_drift_begins_and_ends(tmp_path: Path) -> None:
    router = sealed(tmp_path / "router")
    with serve(tmp_path / "log", router=router) as server:
        send(server, USUAL)
        assert told(server) == []
        assert gauges(server, "pointsman_drift") == {"abstained": 0, "confidence": 0, "score": 0}
        recent, known = (gauges(server, f"pointsman_drift_{n}") for n in ("recent", "validation"))
        assert recent.keys() == known.keys() == {"abstained", "confidence", "score"}
        assert all(abs(recent[name] - known[name]) < 0.05 for name in recent)
        send(server, OTHERS + OTHERS)
        begun = told(server)
        drifting = {name for name, is_on in gauges(server, "pointsman_drift").items() if is_on}
        assert drifting
        assert len(begun) == len(drifting)  # two windows, one line for each signal
        assert all(line.startswith("drift begins: ") for line in begun)
        send(server, USUAL)
        ended = told(server)[len(begun) :]
        assert len(ended) == len(drifting)
        assert all(line.startswith("drift has ended: ") for line in ended)
        assert not any(gauges(server, "pointsman_drift").values())


def test_a_router_without_the_record_is_not_watched(server: Server) -> None:
    send(server, OTHERS)
    assert told(server) == []
    assert gauges(server, "pointsman_drift") == {}
