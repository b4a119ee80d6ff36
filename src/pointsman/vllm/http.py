"""HTTP: decisions in vLLM's responses, ``POST /v1/decisions`` and counters.

vLLM's own handlers answer every request. Around them, requests of ``auto`` that need a separate
decision are routed first, and responses get the decision: as headers, and as an object
``pointsman`` in the body or in a stream's first event.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

from prometheus_client import Counter

from pointsman.errors import RequestError
from pointsman.labels import ROUTED
from pointsman.protocol.bodies import replayed
from pointsman.protocol.conversations import is_whole, routed_messages
from pointsman.protocol.decisions import answers, check_questions, messages_of
from pointsman.protocol.requests import SESSION_HEADER
from pointsman.protocol.shown import OBJECT, REFUSED, answering, error, headers, refusal
from pointsman.vllm.front import Front, VllmError
from pointsman.vllm.settings import load_settings
from pointsman.vllm.transport import Decisions, collected

CHAT, DECISIONS = "/v1/chat/completions", "/v1/decisions"
_WORD = json.dumps(ROUTED).encode()
_EVENT = b"data: {"
_log = logging.getLogger("vllm.pointsman")  # vLLM configures its own loggers alone
_routed = Counter(
    "pointsman_routed_requests",
    "Requests and decisions of the router, by the adapter that answers.",
    ["adapter", "abstained"],
)


class Endpoints:
    """vLLM's endpoint plugin."""

    name = "pointsman"
    required_tasks = ("generate",)

    def __init__(self) -> None:
        self._settings = load_settings()

    def attach_router(self, app: Any) -> None:
        """Puts the middleware around vLLM's application."""
        if self._settings is not None:
            app.add_middleware(RoutedResponses)

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Replays the router's probes: vLLM must compute the features that it was trained on.

        Raises:
            MismatchError: it does not.
        """
        if self._settings is None or engine_client is None:
            return
        front = Front(self._settings, state)
        await front.check_base()
        state.pointsman = front
        _log.info("pointsman: %s chooses among %s", ROUTED, self._settings.router.labels)


async def _decision(request: Mapping[str, Any], front: Front) -> dict[str, Any]:
    """The answer to ``POST /v1/decisions``: choices among adapters, without generating."""
    check_questions(request, front.settings.router.labels)
    decided = await front.decide(messages_of(request), request)
    _count(decided.decision)
    return answers(request, decided) | {OBJECT: front.described(decided.decision)}


class RoutedResponses:
    """ASGI middleware: decides where needed, and puts decisions into responses."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        front = None
        if scope["type"] == "http" and scope["method"] == "POST":
            front = getattr(scope["app"].state, "pointsman", None)
        if front is None:
            await self._app(scope, receive, send)
            return
        body = await _body(receive)
        with collected() as decisions:
            response = _Response(send, decisions, front)
            try:
                request = _of_auto(body)
                if request is not None:
                    marked = front.marked(request, _session_header(scope))
                    if marked is not request:
                        request, body = marked, json.dumps(marked).encode()
                if request is not None and scope["path"] == DECISIONS:
                    await response.answer(200, await _decision(request, front))
                    return
                if request is not None:
                    decision = await _separate(scope["path"], request, front)
                    if decision is not None:
                        decisions[""] = decision
                        response.renamed = decision["adapter"] or front.base_name
                        body = json.dumps({**request, "model": response.renamed}).encode()
            except RequestError as fault:
                await response.answer(400, error(str(fault)))
            except VllmError as fault:
                await response.answer(fault.status, fault.body)
            else:
                if (decided := decisions.first) is not None and decided["refused"]:
                    await response.refuse(decided)
                    return
                await self._app(_sized(scope, body), replayed(body, receive), response)


async def _body(receive: Any) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return b"".join(parts)


def _session_header(scope: Any) -> str | None:
    found = dict(scope["headers"]).get(SESSION_HEADER.encode())
    return None if found is None else found.decode("latin-1")


def _sized(scope: Any, body: bytes) -> Any:
    kept = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
    return {**scope, "headers": [*kept, (b"content-length", str(len(body)).encode())]}


def _of_auto(body: bytes) -> dict[str, Any] | None:
    """A request for ``auto``; None for any other, which is left as it is."""
    if _WORD not in body:
        return None
    try:
        request = json.loads(body)
    except ValueError:
        return None  # vLLM says what is wrong
    is_routed = isinstance(request, dict) and request.get("model") == ROUTED
    return request if is_routed else None


async def _separate(path: str, request: Mapping[str, Any], front: Front) -> dict[str, Any] | None:
    """The decision on a request that its own prefill cannot decide; None if it can.

    Raises:
        RequestError: it cannot be routed.
        VllmError: vLLM refuses it.
    """
    history = front.settings.router.recipe.history
    if path != CHAT:
        if not front.settings.reads_with_base or not is_whole(request, history):
            raise RequestError(f"model {ROUTED!r}: send this conversation to {CHAT}")
        return None
    messages = request.get("messages")
    if front.settings.reads_with_base:
        messages = routed_messages(request, history)
    if not isinstance(messages, list):
        return None
    return (await front.decide(messages, request)).decision


def _count(decision: Mapping[str, Any]) -> None:
    _routed.labels(answering(decision), str(decision["abstained"]).lower()).inc()


class _Response:
    """In place of ASGI's ``send``: completes a response with the decision, if there is one."""

    def __init__(self, send: Any, decisions: Decisions, front: Front) -> None:
        self._send, self._decisions, self._front = send, decisions, front
        self._start: Any = None
        self._parts: list[bytes] = []
        self._is_stream = self._is_closed = self._is_shown = False
        self.renamed: str | None = None
        """The model that vLLM was asked for in place of ``auto``"""

    async def __call__(self, message: Any) -> None:
        if self._is_closed:
            return
        if message["type"] == "http.response.start":
            # Held: the decision comes with the body.
            self._start = message
            kind = dict(message["headers"]).get(b"content-type", b"")
            self._is_stream = kind.startswith(b"text/event-stream")
        elif message["type"] != "http.response.body":
            await self._send(message)
        elif self._is_stream:
            await self._event(message)
        else:
            self._parts.append(message.get("body", b""))
            if not message.get("more_body"):
                await self._whole(b"".join(self._parts))

    async def _event(self, message: Any) -> None:
        """A part of a stream; the first event with the decision shows it."""
        body, decision = message.get("body", b""), self._decisions.first
        if decision is not None and not self._is_shown and body.startswith(_EVENT):
            if decision["refused"]:
                await self.refuse(decision)
                return
            event, end, rest = body.partition(b"\n\n")
            shown = self._with_decision(json.loads(event[len(_EVENT) - 1 :]), decision)
            body = _EVENT[:-1] + json.dumps(shown, ensure_ascii=False).encode() + end + rest
        if self._start is not None:
            await self._send(self._started())
        await self._send({**message, "body": self._as_asked(body)})

    async def _whole(self, body: bytes) -> None:
        """A response that is no stream."""
        decision, is_json = self._decisions.first, self._start["status"] == 200
        if decision is not None and is_json:
            if decision["refused"]:
                await self.refuse(decision)
                return
            shown = self._with_decision(json.loads(body), decision)
            body = self._as_asked(json.dumps(shown, ensure_ascii=False).encode())
        await self._send(self._started(len(body)))
        await self._send({"type": "http.response.body", "body": body})

    def _with_decision(self, content: Any, decision: Mapping[str, Any]) -> Any:
        self._is_shown = True
        _count(decision)
        return {**content, OBJECT: self._front.described(decision)}

    def _started(self, size: int | None = None) -> Any:
        """The held start of the response, with the decision in its headers."""
        start, self._start = self._start, None
        found = [*start["headers"], *self._headers()]
        if size is not None:
            found = [pair for pair in found if pair[0] != b"content-length"]
            found.append((b"content-length", str(size).encode()))
        return {**start, "headers": found}

    def _headers(self) -> list[tuple[bytes, bytes]]:
        decision = self._decisions.first
        if decision is None:
            return []
        found = headers(decision, self._front.digest, self._front.plan)
        return [(name.encode(), value.encode()) for name, value in found.items()]

    def _as_asked(self, body: bytes) -> bytes:
        """The answer names the model that was asked for. In a string, the quotes are escaped."""
        if self.renamed is None:
            return body
        for space in (b"", b" "):
            name = json.dumps(self.renamed).encode()
            body = body.replace(b'"model":' + space + name, b'"model":' + space + _WORD)
        return body

    async def refuse(self, decision: Mapping[str, Any]) -> None:
        """An error with the decision: the router abstained, and nothing else may answer."""
        _count(decision)
        await self.answer(REFUSED, refusal(decision, self._front.described(decision)))

    async def answer(self, status: int, content: Any) -> None:
        """A response of our own; what the application sends is dropped."""
        self._is_closed = True
        body = json.dumps(content).encode()
        found = [(b"content-type", b"application/json"), (b"x-should-retry", b"false")]
        found += [(b"content-length", str(len(body)).encode()), *self._headers()]
        await self._send({"type": "http.response.start", "status": status, "headers": found})
        await self._send({"type": "http.response.body", "body": body})
