"""The application: its routes."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.responses import Response as Plain

from pointsman import __version__
from pointsman.conversation import Prompt
from pointsman.engine.engine import Engine
from pointsman.labels import BASE, ROUTED
from pointsman.protocol.conversations import turns_of
from pointsman.protocol.decisions import Decided, answers, check_questions, messages_of
from pointsman.protocol.requests import SESSION_HEADER, session_of
from pointsman.protocol.shown import OBJECT, as_headers, debug_headers, headers, named_headers
from pointsman.routing.route import Route
from pointsman.server.answers import Response, event
from pointsman.server.chat import ChatRequest, read_chat
from pointsman.server.faults import ClientGone, attach_faults, body_of, deadline_passed
from pointsman.server.guard import QUEUED, Guard
from pointsman.server.options import ServerOptions
from pointsman.server.pictures import read_pictures
from pointsman.server.playground import attach_page
from pointsman.server.reading import JsonRoute
from pointsman.server.requests import (
    DecisionRequest,
    LoadRequest,
    RouteRequest,
    RouterRequest,
    UnloadRequest,
)
from pointsman.server.schema import (
    CHAT,
    ERRORS,
    Decisions,
    Load,
    Model,
    ModelList,
    Ready,
    Routed,
    RouterDigest,
    Version,
    complete,
    sent,
)
from pointsman.server.service import Running, Service
from pointsman.server.tracing import Tracing

T = TypeVar("T")


def make_app(
    engine: Engine,
    router_digest: str,
    options: ServerOptions,
    samples: dict[str, tuple[dict[str, Any], bytes]] | None = None,
    tracing: Tracing | None = None,
    *,
    route_text: bool = False,
) -> FastAPI:
    """The application around an engine, which it closes at the end.

    Args:
        router_digest: of the sealed router.
        samples: what the page offers to try, see ``attach_page``.
        tracing: closed at the end; None: no traces.
        route_text: the project's option.
    """
    service = Service(engine, router_digest, options, route_text=route_text)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(engine.close)
        if tracing is not None:
            await asyncio.to_thread(tracing.close)

    app = FastAPI(
        title="Pointsman",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=ERRORS,
    )
    app.router.route_class = JsonRoute
    app.state.service = service
    _Routes(service).attach(app)
    attach_page(app, samples or {})
    attach_faults(app)
    complete(app)
    app.add_middleware(Guard, options=options, metrics=service.metrics, tracing=tracing)
    return app


class _Routes:
    def __init__(self, service: Service) -> None:
        self._service, self._options = service, service.options
        self._base_digest = service.engine.base.fingerprint.weights[:12]

    def attach(self, app: FastAPI) -> None:
        def add(path: str, work: Any, sends: Any, method: str = "GET") -> None:
            """Adds a route that sends a model's JSON, or a response of another class."""
            kind, more = (JSONResponse, sends) if isinstance(sends, dict) else (sends, None)
            app.add_api_route(
                path,
                work,
                methods=[method],
                responses=more,
                response_class=kind,
                response_model=None,
            )

        for path in QUEUED:
            add(path, self.chat, CHAT, "POST")
        add("/v1/decisions", self.decisions, sent(Decisions), "POST")
        add("/v1/route", self.route, sent(Routed), "POST")
        add("/v1/models", self.models, sent(ModelList))
        add("/v1/models/{model:path}", self.model, sent(Model))
        add("/v1/load_lora_adapter", self.load, PlainTextResponse, "POST")
        add("/v1/unload_lora_adapter", self.unload, PlainTextResponse, "POST")
        add("/v1/router", self.replace_router, sent(RouterDigest), "POST")
        add("/health", self.health, Plain)
        add("/ready", self.ready, sent(Ready))
        add("/version", self.version, sent(Version))
        add("/load", self.busy, sent(Load))
        add("/metrics", self.metrics, PlainTextResponse)

    async def chat(self, body: ChatRequest, request: Request) -> Plain:
        started = time.perf_counter()
        session = session_of(request.headers.get(SESSION_HEADER), vars(body))
        base = self._service.engine.base
        asked = await asyncio.to_thread(read_chat, body, self._options, base, session)
        request.state.asked = asked
        running = await self._in_time(request, self._service.begin(asked, started), started)
        request.state.running = running
        router = running.shown["router_digest"]
        response = Response(running, f"fp_{self._base_digest}_{router[:12]}")
        await self._service.log(running)
        found = self._headers(running, request)
        if asked.is_stream:
            events = self._until(response.events(), running, started)
            return StreamingResponse(events, headers=found, media_type="text/event-stream")
        try:
            whole = await self._in_time(request, response.whole(), started)
            return JSONResponse(whole, headers=found)
        except BaseException:
            running.cancel()
            raise

    def _left(self, started: float) -> float:
        """Seconds until a request's deadline."""
        return self._options.deadline - (time.perf_counter() - started)

    async def _in_time(self, request: Request, work: Awaitable[T], started: float) -> T:
        """The result of ``work``, which is cancelled when the client goes away or time is over."""
        task = asyncio.ensure_future(work)
        gone = asyncio.create_task(_gone(request))
        try:
            ends = {task, gone}
            await asyncio.wait(
                ends, timeout=self._left(started), return_when=asyncio.FIRST_COMPLETED
            )
            if not task.done():
                raise ClientGone if gone.done() else deadline_passed(self._options.deadline)
            return task.result()
        finally:
            gone.cancel()
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _until(
        self, events: AsyncIterator[str], running: Running, started: float
    ) -> AsyncIterator[str]:
        """A stream's events until the deadline. A client that goes away cancels its answers."""
        try:
            async with asyncio.timeout(self._left(started)):
                async for one in events:
                    yield one
        except TimeoutError:
            yield event(body_of(deadline_passed(self._options.deadline)))
        except Exception as fault:  # the status is sent, so it can only be said here
            yield event(body_of(fault))
        finally:
            running.cancel()

    def _headers(self, running: Running, request: Request) -> dict[str, str]:
        values = {"overhead-ms": f"{running.overhead:.1f}"}
        if running.asked.ignored:
            names = [
                name for name in running.asked.ignored if name.isascii() and name.isprintable()
            ]
            values["ignored"] = ", ".join(names)[:1000]
        if running.shown["generation"]:
            values["generation"] = running.shown["generation"]
        digest, plan = running.shown["router_digest"], self._service.engine.plan.name
        if running.route is None:
            adapter = running.shown["adapter"] or BASE
            return as_headers(values) | named_headers(adapter, digest, plan)
        found = as_headers(values) | headers(asdict(running.route), digest, plan)
        if "x-pointsman-debug" in request.headers:
            found |= debug_headers(asdict(running.route))
        return found

    async def decisions(self, body: DecisionRequest, request: Request) -> Plain:
        asked = body.model_dump()
        check_questions(asked, self._service.engine.labels)
        prompt, route = await self._decided(messages_of(asked), asked, request)
        tokens = await asyncio.to_thread(self._length, prompt)
        shown = {OBJECT: self._service.shown(route)}
        return JSONResponse(answers(asked, Decided(asdict(route), tokens)) | shown)

    async def route(self, body: RouteRequest, request: Request) -> Plain:
        _, route = await self._decided(body.messages, body.model_dump(), request)
        shown = self._service.shown(route)
        plan = self._service.engine.plan.name
        found = headers(asdict(route), shown["router_digest"], plan)
        return JSONResponse({"model": ROUTED, OBJECT: shown}, headers=found)

    async def _decided(
        self, messages: list[dict[str, Any]], body: dict[str, Any], request: Request
    ) -> tuple[Prompt, Route]:
        """Messages as a prompt, and the decision on it."""
        session = session_of(request.headers.get(SESSION_HEADER), body)
        prompt = await asyncio.to_thread(self._prompt, messages)
        route = await self._service.decide(prompt, session)
        self._service.count(route)
        request.state.route = route
        return prompt, route

    def _prompt(self, messages: list[dict[str, Any]]) -> Prompt:
        turns, parts = turns_of(messages)
        return Prompt(tuple(turns), read_pictures(parts, self._options)[1])

    def _length(self, prompt: Prompt) -> int:
        return int(self._service.engine.base.prepare([prompt])["input_ids"].shape[1])

    async def models(self) -> Any:
        return {"object": "list", "data": self._service.models.listed()}

    async def model(self, model: str) -> Any:
        name = self._service.models.plain(model)
        return next(row for row in self._service.models.listed() if row["id"] == name)

    async def load(self, body: LoadRequest) -> Plain:
        digest = await asyncio.to_thread(
            self._service.models.load,
            body.lora_name,
            body.lora_path,
            in_place=bool(body.load_inplace),
            expected=body.expected_generation,
        )
        return PlainTextResponse(
            f"Success: LoRA adapter {body.lora_name!r} added successfully, generation {digest}.",
            headers=as_headers({"generation": digest}),
        )

    async def unload(self, body: UnloadRequest) -> Plain:
        name, expected = body.lora_name, body.expected_generation
        await asyncio.to_thread(self._service.models.unload, name, expected=expected)
        return PlainTextResponse(f"Success: LoRA adapter {name!r} removed successfully.")

    async def replace_router(self, body: RouterRequest) -> Plain:
        """Puts a retrained, sealed router in service."""
        digest = await self._service.replace_router(body.router_path)
        return JSONResponse({"router_digest": digest})

    async def health(self) -> Plain:
        return Plain(status_code=200 if self._service.engine.is_alive else 503)

    async def ready(self) -> Plain:
        """Whether requests are answered: the router's probes were replayed at the start."""
        engine = self._service.engine
        shown = {"router_digest": self._service.router_digest, "plan": engine.plan.name}
        return JSONResponse(shown, 200 if engine.is_alive else 503)

    async def version(self) -> Any:
        return {"version": __version__}

    async def busy(self) -> Any:
        return {"server_load": self._service.metrics.load}

    async def metrics(self) -> Plain:
        return Plain(self._service.metrics.text(), media_type="text/plain; version=0.0.4")


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
