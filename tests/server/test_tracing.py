"""Traces, as a collector gets them over OTLP/HTTP."""

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pointsman.errors import ConfigError
from pointsman.server.tracing import Tracing
from support.server import CALENDAR, Server, data_url, screen, serve, user

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE, SPAN = (bytes.fromhex(part) for part in PARENT.split("-")[1:3])
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203331-00"


class Span(NamedTuple):
    name: str
    trace: bytes
    id: bytes
    parent: bytes
    start: int
    end: int
    is_error: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector(ThreadingHTTPServer):
    """Receives spans as a real collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.spans: list[Span] = []
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def request(self, name: str, **attributes: Any) -> list[Span]:
        """The spans of requests with this name and these attributes, as soon as there are any."""
        wanted = {f"gen_ai.{key}": value for key, value in attributes.items()}.items()
        until = time.monotonic() + 20
        while time.monotonic() < until:
            found = [span for span in self.spans if span.name == name]
            if found := [span for span in found if wanted <= _hashable(span.attributes)]:
                return found
            time.sleep(0.05)
        raise AssertionError(f"no span {name!r} among {[span.name for span in self.spans]}")

    def inside(self, span: Span) -> list[Span]:
        found = [each for each in self.spans if each.parent == span.id]
        return sorted(found, key=lambda each: (each.start, each.end))


class _Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.path == "/v1/traces"
        self.server.bodies.append(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _plain(group.resource.attributes)
            for span in (span for scope in group.scope_spans for span in scope.spans):
                self.server.spans.append(
                    Span(
                        span.name,
                        span.trace_id,
                        span.span_id,
                        span.parent_span_id,
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        span.status.code == span.status.STATUS_CODE_ERROR,
                        _plain(span.attributes),
                        resource,
                    )
                )
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def _hashable(attributes: dict[str, Any]) -> Any:
    return {(key, value) for key, value in attributes.items() if not isinstance(value, list)}


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Server]:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }
    log = tmp_path_factory.mktemp("traced") / "log"
    with serve(log, environment=environment, table={"deadline": 8}) as found:
        yield found


def post(server: Server, path: str, body: Mapping[str, Any], **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(
        server.url + path,
        json.dumps(body).encode(),
        {"content-type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_routed_request(traced: Server, collector: Collector) -> None:
    with traced.client(default_headers={"traceparent": PARENT, "x-session-id": "s1"}) as client:
        began = time.time_ns()
        answer: Any = client.chat.completions.create(
            model="auto", messages=[user(CALENDAR, screen())], max_tokens=200, temperature=0.7
        )
    [span] = collector.request("chat auto")
    assert (span.trace, span.parent) == (TRACE, SPAN)
    assert began <= span.start < span.end <= time.time_ns()
    assert span.resource["service.name"] == "pointsman"
    assert span.resource["deployment.environment.name"] == "test"
    shown, usage = answer.pointsman, answer.usage
    expected = {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "pointsman",
        "gen_ai.request.model": "auto",
        "gen_ai.request.max_tokens": 200,
        "gen_ai.request.temperature": 0.7,
        "gen_ai.request.stream": False,
        "gen_ai.conversation.id": "s1",
        "gen_ai.response.id": answer.id,
        "gen_ai.response.model": "calendar",
        "gen_ai.response.finish_reasons": [answer.choices[0].finish_reason],
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "pointsman.images": 1,
        "pointsman.adapter": "calendar",
        "pointsman.label": shown["label"],
        "pointsman.abstained": False,
        "pointsman.held": False,
        "pointsman.confidence": pytest.approx(max(shown["probabilities"].values())),
        "pointsman.score": pytest.approx(shown["score"]),
        "pointsman.router": shown["router_digest"],
        "pointsman.generation": shown["generation"],
        "pointsman.plan": shown["plan"],
    }
    assert span.attributes == expected
    assert not span.is_error
    parts = collector.inside(span)
    assert [part.name for part in parts] == ["read", "queue", "route", "first token", "generate"]
    assert {part.trace for part in parts} == {TRACE}
    assert parts[0].start == span.start
    assert all(one.end == other.start for one, other in pairwise(parts))
    assert all(part.start <= part.end <= span.end for part in parts)
    assert parts[2].attributes["pointsman.adapter"] == "calendar"


def test_streams_named_models_and_several_answers(traced: Server, collector: Collector) -> None:
    with traced.client() as client:
        events = client.chat.completions.create(
            model="claim-window", messages=[user(CALENDAR, screen())], stream=True, n=2
        )
        chunks = len(list(events))
    assert chunks > 4
    [span] = collector.request("chat claim-window")
    assert span.parent == b""
    assert span.attributes["gen_ai.request.choice.count"] == 2
    assert span.attributes["gen_ai.request.stream"] is True
    assert len(span.attributes["gen_ai.response.finish_reasons"]) == 2
    assert "pointsman.confidence" not in span.attributes
    parts = collector.inside(span)
    names = sorted(part.name for part in parts)
    assert names == sorted(["read", *2 * ["queue", "first token", "generate"]])
    assert {part.attributes.get("pointsman.choice") for part in parts} == {None, 0, 1}


def test_requests_that_are_routed_apart(traced: Server, collector: Collector) -> None:
    tool = {"type": "function", "function": {"name": "click", "parameters": {"type": "object"}}}
    text = {"role": "user", "content": "Title?"}
    body = {"model": "auto", "messages": [text], "max_tokens": 4, "tools": [tool]}
    assert post(traced, "/v1/chat/completions", body, traceparent=UNSAMPLED)[0] == 200
    _, answer = post(traced, "/v1/chat/completions", body)
    [span] = collector.request("chat auto", **{"response.id": answer["id"]})
    assert span.attributes["pointsman.abstained"] is True
    assert [part.name for part in collector.inside(span)][:3] == ["read", "route", "queue"]
    image = {"type": "image_url", "image_url": {"url": data_url(screen())}}
    content = [image, {"type": "text", "text": CALENDAR}]
    _, found = post(traced, "/v1/route", {"messages": [{"role": "user", "content": content}]})
    [span] = collector.request("POST /v1/route")
    assert span.attributes["pointsman.adapter"] == found["pointsman"]["adapter"] == "calendar"
    # The client did not sample this one.
    assert bytes.fromhex(UNSAMPLED.split("-")[1]) not in {each.trace for each in collector.spans}


def test_errors(traced: Server, collector: Collector) -> None:
    message = {"role": "user", "content": "a secret"}
    body = {"model": "x" * 300, "messages": [message]}
    path = "/v1/chat/completions"
    assert post(traced, path, body, traceparent="00-" + "0" * 32 + "-x-01")[0] == 404
    [span] = collector.request(f"POST {path}")
    assert span.attributes["http.response.status_code"] == 404
    assert span.attributes["gen_ai.request.model"] == "x" * 200
    assert not span.is_error, "the client's fault is no error of the server's"
    collector.spans.clear()
    too_long = {"role": "user", "content": "word " * 9000}
    assert post(traced, path, {"model": "provider-select", "messages": [too_long]})[0] == 400
    [span] = collector.request(f"POST {path}")
    assert span.attributes["http.response.status_code"] == 400
    assert collector.inside(span) == []
    long = {"model": "base", "messages": [message], "max_tokens": 9000, "ignore_eos": True}
    assert post(traced, path, long | {"n": 16})[0] == 504
    [span] = collector.request("chat base")
    assert (span.is_error, span.attributes["error.type"]) == (True, "504")
    # Nothing that users wrote, and no trace of what is asked all the time.
    assert not any(b"secret" in body or b"Pick" in body for body in collector.bodies)
    assert not any("/health" in each.name for each in collector.spans)


def test_what_is_left_is_sent_at_the_end(tmp_path: Path, collector: Collector) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_SERVICE_NAME": "mine",
        "OTEL_BSP_SCHEDULE_DELAY": "600000",
    }
    with serve(tmp_path / "log", environment=environment) as server:
        body = {"model": "calendar", "messages": [user("Hi")], "max_tokens": 2}
        assert post(server, "/v1/chat/completions", body)[0] == 200
        assert not any(span.name == "chat calendar" for span in collector.spans)
    [span] = collector.request("chat calendar")
    assert span.resource["service.name"] == "mine"


def test_a_collector_that_is_not_there(tmp_path: Path) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with serve(tmp_path / "log", environment=environment) as server:
        body = {"model": "calendar", "messages": [user("Hi")], "max_tokens": 2}
        assert [post(server, "/v1/chat/completions", body)[0] for _ in range(5)] == [200] * 5
    assert server.process.returncode == 0


def test_nothing_is_imported_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys; from pointsman.server.app import make_app; "
        "from pointsman.server.tracing import Tracing; found = Tracing.from_environment(); "
        "parts = ('opentelemetry.sdk', 'opentelemetry.exporter'); "
        "print(found, [name for name in sys.modules if name.startswith(parts)])"
    )

    def run(**environment: str) -> str:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
        ).stdout

    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    assert run() == "None []\n"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    assert run(OTEL_TRACES_EXPORTER="none") == "None []\n"
    assert run(OTEL_TRACES_EXPORTER="otlp", OTEL_SDK_DISABLED="true") == "None []\n"
    monkeypatch.delenv("OTEL_SDK_DISABLED")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ConfigError, match="is 'grpc'; traces are sent by http/protobuf"):
        Tracing.from_environment()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(ConfigError, match="is 'zipkin'; give otlp, or none"):
        Tracing.from_environment()
