"""Traces: a trace of OpenTelemetry for each request, sent over OTLP.

Its spans are made when the request is over, from times that were noted on its way, so that tracing
delays no answer. What users wrote is in none of them. Unless a variable of the environment asks
for traces, OpenTelemetry's SDK is not imported.

Source of the names: OpenTelemetry's semantic conventions for HTTP and for generative AI.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, Self

from pointsman import __version__
from pointsman.engine.answer import Answer
from pointsman.engine.sampling import Sampling
from pointsman.engine.stream import Stream
from pointsman.errors import ConfigError, MissingDependency
from pointsman.protocol.shown import answering
from pointsman.routing.route import Route
from pointsman.server.chat import Asked
from pointsman.server.service import Running

TRACED = ("/v1/chat/completions", "/chat/completions", "/v1/decisions", "/v1/route")
_SWITCHES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_SAMPLING = ("temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty")
_PARENT = ("traceparent", "tracestate")
Attributes = dict[str, Any]


class Tracing:
    """Sends traces to the collector that the environment names."""

    def __init__(self, api: Any, provider: Any, parent: Callable[[Mapping[str, str]], Any]) -> None:
        self._api, self._provider, self._parent = api, provider, parent
        self._tracer = provider.get_tracer("pointsman", __version__)

    @classmethod
    def from_environment(cls) -> Self | None:
        """None: no variable asks for traces.

        Raises:
            ConfigError: they are to be sent by another protocol.
            MissingDependency: the extra ``otel`` is not installed.
        """
        value = os.environ.get
        is_off = value("OTEL_SDK_DISABLED", "").lower() == "true"
        wanted = value("OTEL_TRACES_EXPORTER", "otlp" if any(map(value, _SWITCHES)) else "none")
        if is_off or wanted == "none":
            return None
        if wanted != "otlp":
            raise ConfigError(f"OTEL_TRACES_EXPORTER is {wanted!r}; give otlp, or none")
        protocol = next(filter(None, map(value, _PROTOCOLS)), _PROTOCOL)
        if protocol != _PROTOCOL:
            raise ConfigError(f"{_PROTOCOLS[1]} is {protocol!r}; traces are sent by {_PROTOCOL}")
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f"the environment asks for traces (OTEL_…), and {error.name} is not installed; "
                "run: pip install 'pointsman[otel]', or set OTEL_SDK_DISABLED=true"
            ) from None
        own = Resource.create({"service.name": "pointsman", "service.version": __version__})
        provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(trace, provider, TraceContextTextMapPropagator().extract)

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()

    def record(self, scope: Mapping[str, Any], status: int, began: int) -> None:
        """Makes the spans of a request that is over.

        Args:
            scope: of ASGI; its state has what the route noted: ``asked``, ``running``, ``route``.
            began: when it came, in nanoseconds since 1970.
        """
        noted = scope.get("state", {})
        asked, running = noted.get("asked"), noted.get("running")
        route, ended = noted.get("route"), time.time_ns()
        name = f"{scope['method']} {scope['path']}" if running is None else f"chat {asked.model}"
        attributes = _of_http(scope, status) | ({} if asked is None else _of_request(asked))
        if running is not None:
            attributes |= _of_response(running)
            route = running.route
        if route is not None:
            attributes |= _of_route(route)
        fault = _fault(running, status)
        span = self._tracer.start_span(
            name,
            context=self._parent(_carrier(scope)),
            kind=self._api.SpanKind.SERVER,
            attributes=attributes | ({} if fault is None else {"error.type": fault}),
            start_time=began,
        )
        if fault is not None:
            span.set_status(self._api.StatusCode.ERROR)
        inside = self._api.set_span_in_context(span)
        for part, start, end, more in [] if running is None else _parts(running, began):
            child = self._tracer.start_span(part, inside, attributes=more, start_time=start)
            child.end(end)
        span.end(ended)


def _carrier(scope: Mapping[str, Any]) -> dict[str, str]:
    """What the client says about the span that its request is part of."""
    headers = ((name.decode("latin-1"), value) for name, value in scope["headers"])
    return {name: value.decode("latin-1") for name, value in headers if name in _PARENT}


def _of_http(scope: Mapping[str, Any], status: int) -> Attributes:
    return {
        "http.request.method": scope["method"],
        "http.route": scope["path"],
        "http.response.status_code": status or 499,  # 499: the client went before there was one
    }


def _of_request(asked: Asked) -> Attributes:
    sampling, usual = asked.samplings[0], Sampling()
    values = {name: getattr(sampling, name) for name in _SAMPLING}
    set_ = {name: value for name, value in values.items() if value != getattr(usual, name)}
    given = {
        "model": _text(asked.model),
        "max_tokens": asked.max_new_tokens,
        "choice.count": len(asked.samplings) if len(asked.samplings) > 1 else None,
        "stream": asked.is_stream,
        **set_,
    }
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "pointsman",
        **{f"gen_ai.request.{name}": value for name, value in given.items() if value is not None},
        **({} if asked.session is None else {"gen_ai.conversation.id": _text(asked.session)}),
        "pointsman.images": len(asked.pictures),
    }


def _text(value: str) -> str:
    """A client's text as an attribute, which should not be long."""
    return value[:200]


def _of_response(running: Running) -> Attributes:
    shown, answers = running.shown, list(_answers(running))
    found = {
        "gen_ai.response.id": running.id,
        "gen_ai.response.model": shown["adapter"] or "base",
        "pointsman.router": shown["router_digest"],
        "pointsman.plan": shown["plan"],
    }
    if shown["generation"]:
        found["pointsman.generation"] = shown["generation"]
    if answers:
        found["gen_ai.usage.input_tokens"] = answers[0].prompt_tokens
        found["gen_ai.usage.output_tokens"] = sum(each.completion_tokens for each in answers)
        found["gen_ai.response.finish_reasons"] = [each.finish_reason for each in answers]
    return found


def _answers(running: Running) -> Iterator[Answer]:
    """Those that are complete."""
    for stream in running.streams:
        if stream.is_done and stream.error is None:
            yield stream.result()


def _of_route(route: Route) -> Attributes:
    return {
        "pointsman.adapter": answering(asdict(route)),
        "pointsman.label": route.label,
        "pointsman.confidence": route.confidence,
        "pointsman.score": route.score,
        "pointsman.abstained": route.abstained,
        "pointsman.held": route.held,
    }


def _fault(running: Running | None, status: int) -> str | None:
    """What failed on this side: a status, or the error that ended a stream."""
    if status >= 500:
        return str(status)
    errors = [] if running is None else [stream.error for stream in running.streams]
    return next((type(error).__name__ for error in errors if error is not None), None)


Part = tuple[str, int, int, Attributes]


def _parts(running: Running, began: int) -> Iterator[Part]:
    """The spans inside a request's: name, start, end and attributes."""
    apart = running.routed_apart
    queued = running.streams[0].times.queued
    if read := queued if apart is None else apart[0]:  # else it could not be read
        yield "read", began, read, {}
    if apart is not None and running.route is not None:
        yield "route", *apart, _of_route(running.route)
    for number, stream in enumerate(running.streams):
        more = {"pointsman.choice": number} if len(running.streams) > 1 else {}
        if stream.times.queued:
            yield from _parts_of(stream, more)


def _parts_of(stream: Stream, more: Attributes) -> Iterator[Part]:
    times, route = stream.times, stream.decision
    ended = times.done or time.time_ns()  # an answer goes on a little where its client has gone
    if not times.taken:  # it was cancelled while it waited
        yield "queue", times.queued, ended, more
        return
    yield "queue", times.queued, times.taken, more
    ready = times.decided or times.taken
    if route is not None:
        yield "route", times.taken, ready, more | _of_route(route)
    if times.said:
        yield "first token", ready, times.said, more
    yield "generate", times.said or ready, ended, more
