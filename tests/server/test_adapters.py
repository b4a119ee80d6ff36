"""Adapters that come and go while the server runs, and keys."""

import asyncio
import json
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from pointsman.conversation import make_prompt
from pointsman.engine.engine import Engine
from pointsman.routing.router import Router
from pointsman.routing.seal import router_digest
from pointsman.server.options import ServerOptions
from pointsman.server.service import Service
from support.server import CALENDAR, Server, screen, serve, user
from support.tiny import REPOSITORY

ADAPTERS = REPOSITORY / "src/pointsman/pocket/model/adapters"
KEYS = {"POINTSMAN_API_KEY": "use", "POINTSMAN_ADMIN_KEY": "admin"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    for name in ("calendar", "claim-window", "provider-select"):
        shutil.copytree(ADAPTERS / name, folder / name)
    (folder / "broken").mkdir()
    strict = Router.load(ADAPTERS.parent / "router")
    strict = replace(strict, calibration=replace(strict.calibration, threshold=1e9))
    strict.save(folder / "strict")
    shutil.copytree(ADAPTERS.parent / "router", folder / "usual")
    (folder / "outside").symlink_to(ADAPTERS / "calendar")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    table = {"adapter_root": str(root), "decision_log": str(log.parent / "decisions")}
    with serve(log, table={**table, "log_pictures": True}, environment=KEYS) as found:
        yield found


def call(server: Server, path: str, key: str | None, **body: Any) -> tuple[int, str, Any]:
    headers = {"content-type": "application/json"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(server.url + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode(), response.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def load(server: Server, name: str, path: str, **more: Any) -> tuple[int, str]:
    more = {"lora_name": name, "lora_path": path, **more}
    return call(server, "/v1/load_lora_adapter", "admin", **more)[:2]


def unload(server: Server, name: str, **more: Any) -> tuple[int, str]:
    return call(server, "/v1/unload_lora_adapter", "admin", lora_name=name, **more)[:2]


def answer(server: Server, model: str, **more: Any) -> tuple[str, Any]:
    with server.client("use") as client:
        found: Any = client.chat.completions.create(
            model=model, messages=[user(CALENDAR, screen())], **more
        )
    return found.choices[0].message.content, found.pointsman


@pytest.mark.parametrize(
    "path", ["/v1/models", "/metrics", "/load", "/version", "/ready", "/samples"]
)
def test_every_route_needs_the_key(server: Server, path: str) -> None:
    for key in (None, "", "wrong", "USE"):
        status, body, headers = call(server, path, key)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert "API key" in json.loads(body)["error"]["message"]
    assert call(server, path, "use")[0] == 200
    assert call(server, path, "admin")[0] == 200


def test_health_and_the_page_need_none(server: Server) -> None:
    for path in ("/health", "/", "/page.js", "/page.css"):
        assert call(server, path, None)[0] == 200


def test_the_use_key_changes_no_model(server: Server) -> None:
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
        body = {"lora_name": "x", "lora_path": "calendar"}
        assert call(server, path, "use", **body)[0] == 401


def test_load_replace_and_unload(server: Server) -> None:
    calendar, _ = answer(server, "calendar")
    claim, _ = answer(server, "claim-window")
    status, text = load(server, "fourth", "calendar")
    assert (status, "Success" in text) == (200, True)
    said, shown = answer(server, "fourth")
    assert said == calendar
    first = shown["generation"]
    assert "already been loaded" in load(server, "fourth", "claim-window")[1]
    refused = load(server, "fourth", "claim-window", load_inplace=True, expected_generation="0")
    assert (refused[0], first in refused[1]) == (400, True)
    done = load(server, "fourth", "claim-window", load_inplace=True, expected_generation=first)
    assert done[0] == 200
    said, shown = answer(server, "fourth")
    assert (said, shown["generation"] == first) == (claim, False)
    assert 'pointsman_request_seconds_count{adapter="fourth"}' in call(server, "/metrics", "use")[1]
    assert "fourth--" not in call(server, "/metrics", "use")[1]
    assert unload(server, "fourth", expected_generation=first)[0] == 400
    assert unload(server, "fourth")[0] == 200
    with pytest.raises(openai.NotFoundError):
        answer(server, "fourth")
    assert unload(server, "fourth")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "outside",
        "../root",
        "/etc",
        "..",
        "nothing",
        "calendar/../../x",
        "calendar\x00",
        "~",
        "a" * 5000,
    ],
)
def test_nothing_outside_the_root_is_read(server: Server, root: Path, path: str) -> None:
    status, text = load(server, "fifth", path)
    assert status == 404
    assert str(root) not in text
    assert "adapter_root" in text


def test_bad_adapters(server: Server, root: Path) -> None:
    status, text = load(server, "broken", "broken")
    assert status == 400
    assert str(root) not in text
    assert load(server, "calendar", "calendar")[0] == 400  # sealed
    assert load(server, "auto", "calendar")[0] in (400, 404)
    assert load(server, "a.b", "calendar")[0] in (400, 404)
    assert unload(server, "calendar")[0] == 400
    assert answer(server, "calendar")[0]  # and the others still answer


def test_a_request_ends_with_the_generation_that_it_began_with(server: Server) -> None:
    load(server, "sixth", "calendar")
    right, _ = answer(server, "sixth", max_tokens=40, extra_body={"ignore_eos": True})
    said: list[str] = []
    began = threading.Event()

    def ask() -> None:
        with server.client("use") as client:
            for event in client.chat.completions.create(
                model="sixth",
                messages=[user(CALENDAR, screen())],
                max_tokens=40,
                stream=True,
                extra_body={"ignore_eos": True},
            ):
                said.append(event.choices[0].delta.content or "")
                began.set()

    thread = threading.Thread(target=ask)
    thread.start()
    began.wait(30)
    assert load(server, "sixth", "claim-window", load_inplace=True)[0] == 200
    assert unload(server, "sixth")[0] == 200
    thread.join(60)
    assert "".join(said).strip() == right
    time.sleep(0.5)
    assert load(server, "sixth", "provider-select")[0] == 200


def test_another_router_without_dropping_a_request(server: Server, root: Path) -> None:
    """Requests that were asked before it, meanwhile and after it are all answered, and each names
    the router that decided."""
    usual, strict = (router_digest(root / name) for name in ("usual", "strict"))
    seen: list[tuple[str, bool]] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            _, shown = answer(server, "auto", max_tokens=4)
            seen.append((shown["router_digest"], shown["abstained"]))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for name in ("strict", "usual") * 8:
        time.sleep(0.2)
        status, text, _ = call(server, "/v1/router", "admin", router_path=name)
        assert (status, json.loads(text)["router_digest"]) == (200, router_digest(root / name))
    stop.set()
    for thread in threads:
        thread.join(60)
    assert {*seen} == {(usual, False), (strict, True)}
    shown = answer(server, "auto", max_tokens=4)[1]
    assert (shown["router_digest"], shown["abstained"]) == (usual, False)
    assert call(server, "/v1/router", "admin", router_path="calendar")[0] == 400
    assert call(server, "/v1/router", "use", router_path="usual")[0] == 401


def test_decisions_are_logged_with_their_pictures(server: Server) -> None:
    answer(server, "auto", max_tokens=4)
    folder = server.log.parent / "decisions"
    last = json.loads((folder / "decisions.jsonl").read_text().splitlines()[-1])
    assert (last["model"], last["adapter"]) == ("auto", "calendar")
    [picture] = [path for path in (folder / "pictures").iterdir() if path.stem == last["images"][0]]
    assert picture.read_bytes() == screen()


def test_a_decision_names_the_router_that_made_it(root: Path) -> None:
    """Also if another one was put in place before the response was written."""
    digests = [router_digest(root / name) for name in ("usual", "strict")]
    options = ServerOptions(adapter_root=str(root))
    with Engine.pocket() as engine:
        service, prompt = Service(engine, digests[0], options), make_prompt(screen(), CALENDAR)
        before = engine.route_prompt(prompt)
        asyncio.run(service.replace_router("strict"))
        shown = [service.shown(route) for route in (before, engine.route_prompt(prompt))]
    assert [each["router_digest"] for each in shown] == digests
    assert [each["abstained"] for each in shown] == [False, True]
    thresholds = [Router.load(root / name).calibration.threshold for name in ("usual", "strict")]
    assert [each["threshold"] for each in shown] == thresholds
