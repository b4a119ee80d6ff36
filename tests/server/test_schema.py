"""The schema at ``/openapi.json`` against what is really sent."""

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from support.server import CALENDAR, Server, screen, serve, user
from support.tiny import REPOSITORY

POCKET = REPOSITORY / "src/pointsman/pocket/model"
MESSAGES = [user(CALENDAR, screen())]
CHOICES = [{"value": name} for name in ("calendar", "claim-window", "provider-select")]
QUESTION = {"type": "choice", "name": "which", "choices": CHOICES}
DECIDE = {"model": "auto", "input": MESSAGES, "questions": [QUESTION]}
TOOLS = [{"type": "function", "function": {"name": "computer_use", "parameters": {}}}]
CHAT = {"model": "auto", "messages": MESSAGES, "max_tokens": 4}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("schema")
    shutil.copytree(POCKET / "adapters/calendar", place / "root/calendar")
    shutil.copytree(POCKET / "router", place / "root/router")
    keys = {"POINTSMAN_ADMIN_KEY": "admin"}
    with serve(place / "log", table={"adapter_root": str(place / "root")}, environment=keys) as it:
        yield it


@pytest.fixture(scope="module")
def schema(server: Server) -> Any:
    return json.loads(call(server, "GET", "/openapi.json")[2])


def call(
    server: Server, method: str, path: str, body: Any = None, key: str = "admin"
) -> tuple[int, str, str]:
    """Status, media type and body of a response."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            found = response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        found = error.code, error.headers, error.read()
    kind = (found[1]["content-type"] or "").partition(";")[0]
    return found[0], kind, found[2].decode()


def check(schema: Any, part: Any, value: Any) -> None:
    whole = {**part, "components": schema["components"]}
    jsonschema_rs.validator_for(whole).validate(value)


def contents(schema: Any, method: str, path: str, status: int) -> Any:
    """What the schema says of a response's body, by media type."""
    responses = schema["paths"][path][method.lower()]["responses"]
    return responses.get(str(status), responses.get(f"{status // 100}XX"))["content"]


ANSWERS: list[tuple[str, str, str, Any, int]] = [
    ("POST", "/v1/chat/completions", "", CHAT, 200),
    ("POST", "/chat/completions", "", {**CHAT, "model": "calendar"}, 200),
    ("POST", "/v1/chat/completions", "", {**CHAT, "model": "base"}, 200),
    ("POST", "/v1/chat/completions", "", {**CHAT, "n": 2, "logprobs": True, "seed": 1}, 200),
    ("POST", "/v1/chat/completions", "", {**CHAT, "logprobs": True, "top_logprobs": 2}, 200),
    ("POST", "/v1/chat/completions", "", {**CHAT, "max_tokens": 100, "tools": TOOLS}, 200),
    ("POST", "/v1/chat/completions", "", {**CHAT, "messages": [user("hello")]}, 200),
    ("POST", "/v1/chat/completions", "", {**CHAT, "n": 0}, 400),
    ("POST", "/v1/chat/completions", "", {**CHAT, "model": "nobody"}, 404),
    ("POST", "/v1/chat/completions", "", [], 400),
    (
        "POST",
        "/v1/decisions",
        "",
        {"model": "auto", "input": MESSAGES, "questions": [QUESTION]},
        200,
    ),
    (
        "POST",
        "/v1/decisions",
        "",
        {"model": "auto", "input": "hello", "questions": [QUESTION]},
        200,
    ),
    ("POST", "/v1/decisions", "", {"model": "auto", "input": "hello", "questions": []}, 400),
    ("POST", "/v1/route", "", {"messages": MESSAGES}, 200),
    ("POST", "/v1/route", "", {"messages": [user("hello")]}, 200),
    ("POST", "/v1/route", "", {}, 400),
    ("GET", "/v1/models", "", None, 200),
    ("GET", "/v1/models/{model}", "/v1/models/auto", None, 200),
    ("GET", "/v1/models/{model}", "/v1/models/base:calendar", None, 200),
    ("GET", "/v1/models/{model}", "/v1/models/nobody", None, 404),
    ("POST", "/v1/load_lora_adapter", "", {"lora_name": "x", "lora_path": "calendar"}, 200),
    ("POST", "/v1/load_lora_adapter", "", {"lora_name": "x", "lora_path": "calendar"}, 400),
    ("POST", "/v1/load_lora_adapter", "", {"lora_name": "y", "lora_path": "../log"}, 404),
    ("GET", "/v1/models", "", None, 200),
    ("POST", "/v1/chat/completions", "", {**CHAT, "model": "x"}, 200),
    ("POST", "/v1/unload_lora_adapter", "", {"lora_name": "x"}, 200),
    ("POST", "/v1/unload_lora_adapter", "", {"lora_name": "x"}, 404),
    ("POST", "/v1/router", "", {"router_path": "router"}, 200),
    ("POST", "/v1/router", "", {"router_path": "calendar"}, 400),
    ("GET", "/ready", "", None, 200),
    ("GET", "/version", "", None, 200),
    ("GET", "/load", "", None, 200),
    ("GET", "/metrics", "", None, 200),
]


def test_answers_are_what_the_schema_says(server: Server, schema: Any) -> None:
    for method, path, real, body, expected in ANSWERS:
        status, kind, text = call(server, method, real or path, body)
        assert status == expected, (path, body, text)
        content = contents(schema, method, path, status)
        check(schema, content[kind]["schema"], text if kind == "text/plain" else json.loads(text))
    asked = {(method.lower(), path) for method, path, *_ in ANSWERS}
    told = {(method, path) for path, each in schema["paths"].items() for method in each}
    assert told - asked == {("get", "/health")}  # which has no body
    assert "content" not in schema["paths"]["/health"]["get"]["responses"]["200"]
    assert call(server, "GET", "/health") == (200, "", "")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"n": 2, "logprobs": True, "top_logprobs": 1, "stream_options": {"include_usage": True}},
        {"model": "calendar", "tools": TOOLS, "max_tokens": 100},
    ],
)
def test_events_are_what_the_schema_says(server: Server, schema: Any, more: Any) -> None:
    path = "/v1/chat/completions"
    status, kind, text = call(server, "POST", path, {**CHAT, "stream": True, **more})
    assert status == 200
    item = contents(schema, "POST", path, status)[kind]["itemSchema"]
    events = [{"data": line.removeprefix("data: ")} for line in text.split("\n\n") if line]
    assert events.pop() == {"data": "[DONE]"}
    assert len(events) > 3
    for event in events:
        check(schema, item, event)
        check(
            schema,
            item["properties"]["data"]["anyOf"][0]["contentSchema"],
            json.loads(event["data"]),
        )


def test_the_schema_is_closed(schema: Any) -> None:
    """A response with another field, or without one of its own, is none that it describes."""
    reference = contents(schema, "GET", "/version", 200)["application/json"]["schema"]
    check(schema, reference, {"version": "1"})
    for wrong in ({}, {"version": "1", "more": 1}, {"version": 1}):
        with pytest.raises(jsonschema_rs.ValidationError):
            check(schema, reference, wrong)


def test_requests_are_what_the_schema_says(schema: Any) -> None:
    for path in ("/v1/chat/completions", "/v1/decisions", "/v1/route", "/v1/load_lora_adapter"):
        part = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        for _, asked, _, body, status in ANSWERS:
            if asked == path and status == 200:
                check(schema, part, body)
        with pytest.raises(jsonschema_rs.ValidationError):
            check(schema, part, {"model": 1, "messages": "x"})


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"messages": [NaN]}', "no JSON"),
        (b'{"messages": [Infinity]}', "no JSON"),
        (b'{"messages": [1' + b"0" * 5000 + b"]}", "no JSON"),
        (b'{"messages": "\\ud800"}', "no text"),
        (b'{"messages": "\\uDC00\\ud800"}', "no text"),
        (b'{"messages": "\xed\xa0\x80"}', "no text"),
        (b'"\xff"', "no text"),
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_bodies_that_no_answer_could_hold(server: Server, body: bytes, told: str) -> None:
    for path in ("/v1/route", "/v1/decisions", "/v1/chat/completions"):
        request = urllib.request.Request(
            server.url + path, body, {"content-type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=60)
        assert caught.value.code == 400
        assert told in json.loads(caught.value.read())["error"]["message"]


def test_names_come_back_as_they_were_given(server: Server) -> None:
    """Whole surrogate pairs are text."""
    for name in ("\U0001f600", "é", None, 7, {"a": [1.5]}):
        body = {"model": "auto", "input": MESSAGES, "questions": [{**QUESTION, "name": name}]}
        status, _, text = call(server, "POST", "/v1/decisions", body)
        assert (status, json.loads(text)["answers"][0]["name"]) == (200, name)
    assert Path(server.log).read_text().count("Traceback") == 0
