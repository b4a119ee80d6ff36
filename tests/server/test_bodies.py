"""Request bodies as stock clients send them, and those that are refused."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from support.server import CALENDAR, Server, data_url, screen, user

SCREEN = data_url(screen())
IMAGE = {"type": "image_url", "image_url": {"url": SCREEN}}
TEXT = {"type": "text", "text": CALENDAR}


def post(server: Server, body: Any, path: str = "/v1/chat/completions") -> tuple[int, Any, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        server.url + path, content, {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read()), response.headers
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()), error.headers


BODIES: dict[str, dict[str, Any]] = {
    "UI-TARS": {
        "stream": False,
        "seed": None,
        "stop": None,
        "frequency_penalty": None,
        "presence_penalty": None,
        "max_tokens": 65535,
        "temperature": 0,
        "top_p": 0.7,
        "thinking": {"type": "disabled"},
    },
    "Agent-S": {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "You click."}]},
            {
                "role": "user",
                "content": [
                    TEXT,
                    {
                        "type": "image_url",
                        "image_url": {"url": data_url(screen(), "data:image;base64,")},
                    },
                ],
            },
        ],
        "max_tokens": 512,
        "temperature": 0.0,
        "top_p": 0.8,
        "repetition_penalty": 1.05,
    },
    "cua": {"max_tokens": 500, "temperature": 0, "do_sample": False},
    "browser-use": {
        "max_completion_tokens": 4096,
        "temperature": 0.2,
        "frequency_penalty": 0.3,
        "service_tier": "auto",
        "seed": 1,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": SCREEN, "detail": "high"}},
                    TEXT,
                ],
            }
        ],
    },
    "Qwen-Agent": {"top_k": 20, "repetition_penalty": 1.05, "temperature": 0.1},
    "LangChain": {"max_completion_tokens": 64, "parallel_tool_calls": None, "n": 1},
    "LiteLLM": {"max_tokens": 64, "reasoning_effort": "low", "thinking": None, "user": "x"},
    "bare image": {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": SCREEN}, TEXT]}
        ]
    },
    "input_image": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "image_url": SCREEN, "detail": "original"},
                    {"type": "input_text", "text": CALENDAR},
                ],
            }
        ]
    },
    "load generator": {"min_tokens": 2, "ignore_eos": True, "max_tokens": 4, "top_k": -1},
    "Open WebUI": {"stream": False, "metadata": {"chat": "1"}, "options": {}, "chat_id": "7"},
}


@pytest.mark.parametrize("client", BODIES)
def test_bodies_of_stock_clients(server: Server, client: str) -> None:
    whole = {"model": "auto", "messages": [user(CALENDAR, screen())], **BODIES[client]}
    status, body, headers = post(server, whole)
    assert status == 200, body
    assert body["pointsman"]["adapter"] == "calendar"
    known = {"thinking", "do_sample", "service_tier", "reasoning_effort", "user", "metadata"}
    for name in known & {n for n, value in whole.items() if value is not None}:
        assert name in headers["x-pointsman-ignored"]


def test_names_of_ignored_fields_may_be_any_text(server: Server) -> None:
    """They are the client's, and a header cannot hold all of them."""
    names = [" spaced ", "~f", "", "tab\t", "line\r\nset-cookie: a", "\u65e5", "x" * 2000]
    for name in names:  # each one first and last
        for fields in ([name], [*names, name], [name, *names]):
            whole = {"model": "auto", "messages": [user(CALENDAR, screen())]}
            status, _, headers = post(server, whole | dict.fromkeys(fields, 1) | {"max_tokens": 1})
            assert status == 200
            assert len(headers["x-pointsman-ignored"]) <= 1000
            assert "set-cookie" not in headers


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 101}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "messages"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages"),
        ({"messages": [{"role": {}, "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": ["text"]}]}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, None),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"regex": "[0-9]+"}, "regex"),
        ({"use_beam_search": True}, "use_beam_search"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"messages": [user("long " * 6000)]}, None),
        ({"modalities": ["audio"]}, "modalities"),
        ({"tools": [{}], "tool_choice": "required"}, "tool_choice"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 30}, "top_logprobs"),
        ({"messages": [user("x", b"no image")]}, None),
        ({"messages": [user("x", b"")]}, None),
        ({"messages": [user("x", *[screen()] * 17)]}, "messages"),
    ],
)
def test_what_would_change_the_answer_is_refused(
    server: Server, change: dict[str, Any], param: str | None
) -> None:
    body = {"model": "auto", "messages": [user(CALENDAR, screen())], **change}
    status, found, headers = post(server, body)
    assert status == 400, found
    error = found["error"]
    assert (error["param"], error["code"]) == (param, 400)
    assert "\n" not in error["message"]
    assert headers["x-should-retry"] == "false"


@pytest.mark.parametrize("model", ["auto", "calendar"])
def test_a_stream_that_cannot_begin_has_a_status(server: Server, model: str) -> None:
    body = {"model": model, "messages": [user("long " * 6000, screen())], "stream": True}
    status, found, _ = post(server, body)
    assert (status, found["error"]["code"]) == (400, 400)
    assert "is longer than the model's context length of 4096" in found["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"model": 1}', b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe"],
)
def test_bodies_that_are_no_request(server: Server, body: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/decisions", "/v1/route"):
        status, found, _ = post(server, body, path)
        assert status == 400, found
        assert set(found) == {"error"}


def test_paths_and_methods(server: Server) -> None:
    assert post(server, {}, "/v1/nothing")[0] == 404
    assert post(server, {}, "/v1/models")[0] == 405
    assert post(server, {}, "/v1/load_lora_adapter")[0] == 403  # no admin key is set
