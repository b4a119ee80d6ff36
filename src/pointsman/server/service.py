"""Service: the engine behind the server; from what was asked to decisions and answers."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pointsman.conversation import Prompt
from pointsman.engine.engine import Engine
from pointsman.engine.stream import Stream
from pointsman.labels import BASE, ROUTED
from pointsman.protocol.requests import is_background
from pointsman.protocol.shown import answering, described
from pointsman.routing.route import Route
from pointsman.routing.router import Router
from pointsman.server.chat import Asked
from pointsman.server.decision_log import DecisionLog
from pointsman.server.drift import Watch
from pointsman.server.metrics import Metrics
from pointsman.server.models import Generation, Models
from pointsman.server.options import ServerOptions


@dataclass(eq=False)
class Running:
    """A request's answers while they are made."""

    asked: Asked
    streams: tuple[Stream, ...]
    route: Route | None
    """The decision; None: a model was named"""
    shown: dict[str, Any]
    """The object ``pointsman`` of the response"""
    overhead: float
    """Milliseconds before the engine had the request: parsing, pictures, tokens"""
    routed_apart: tuple[int, int] | None
    """When a request that the router cannot read as it is was routed: begin and end, see ``Times``;
    None: its answer's own forward routed it"""
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")

    def cancel(self) -> None:
        for stream in self.streams:
            stream.cancel()


class Service:
    """Answers what was asked. Its methods are for the event loop.

    Args:
        digest: of the sealed router.
        route_text: the project's option.
    """

    def __init__(
        self, engine: Engine, digest: str, options: ServerOptions, *, route_text: bool = False
    ) -> None:
        self.engine, self.options, self.router_digest = engine, options, digest
        self._route_text = route_text
        self._thresholds = {engine.router.digest or digest: engine.router.calibration.threshold}
        """By the digests of the routers that have decided"""
        root = None if options.adapter_root is None else Path(options.adapter_root)
        self.models = Models(engine, digest, root)
        self._drift = Watch(engine.router)
        self.metrics = Metrics(self.models, self._drift)
        self._log: DecisionLog | None = None
        if options.decision_log is not None:
            folder, pictures = Path(options.decision_log), options.log_pictures
            self._log = DecisionLog(folder, pictures=pictures, router_digest=digest)

    async def begin(self, asked: Asked, started: float) -> Running:
        """Hands a request to the engine and waits for the decision, or else the first token.

        Args:
            started: ``time.perf_counter()`` when the request came.

        Raises:
            PointsmanError: it cannot be answered.
        """
        taken, apart = self.models.take(asked.model), time.time_ns()
        try:
            route, name = await self._routed_apart(asked)
        except BaseException:
            self._end(taken)
            raise
        times = None if route is None else (apart, time.time_ns())
        name = name if taken is None else taken.inner
        streams = await self._submitted(asked, name, taken)
        overhead = 1e3 * (time.perf_counter() - started)
        try:
            # A named model's first token, before which a fault still has a status of its own.
            decided = await streams[0].async_route()
            route = decided if name == ROUTED else route
        except BaseException:
            for stream in streams:
                stream.cancel()
            raise
        if route is not None:
            self.count(route)
        return Running(asked, streams, route, self.shown(route, taken), overhead, times)

    async def _submitted(
        self, asked: Asked, name: str, taken: Generation | None
    ) -> tuple[Stream, ...]:
        """The queued answers. Work on a thread cannot be stopped: if nobody waits any more, they
        are cancelled when they are there."""
        work = asyncio.create_task(asyncio.to_thread(self._submit, asked, name))
        try:
            streams = await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(lambda done: self._drop(done, taken))
            raise
        except BaseException:
            self._end(taken)
            raise
        self._watch(streams, taken)
        return streams

    def _drop(self, done: "asyncio.Task[tuple[Stream, ...]]", taken: Generation | None) -> None:
        if done.cancelled() or done.exception() is not None:
            self._end(taken)
            return
        self._watch(done.result(), taken)
        for stream in done.result():
            stream.cancel()

    def _end(self, taken: Generation | None) -> None:
        if taken is not None:
            self.models.give_back(taken)

    def count(self, route: Route) -> None:
        """Counts a decision."""
        answers = answering(asdict(route))
        self.metrics.routed.labels(answers, str(route.abstained).lower()).inc()
        self.metrics.confidence.labels(answers).observe(route.confidence)
        self._drift.add(route)

    async def _routed_apart(self, asked: Asked) -> tuple[Route | None, str]:
        """The decision on a request whose own prompt cannot be routed, and the engine's name for
        what answers."""
        name = self.models.plain(asked.model)
        prompt = asked.routed or asked.prompt
        if name != ROUTED or (
            asked.routed is None and not self._is_background(prompt, asked.session)
        ):
            return None, name
        route = await self.decide(prompt, asked.session)
        route.check_answered()
        return route, route.adapter or BASE

    def _is_background(self, prompt: Prompt, session: str | None) -> bool:
        return is_background(
            session,
            has_images=bool(prompt.images),
            reads_images=not self.engine.router.origin.is_encoder,
            route_text=self._route_text,
        )

    def _submit(self, asked: Asked, name: str) -> tuple[Stream, ...]:
        """Queues every answer of a request. The pictures are decoded and cut on this thread."""
        streams: list[Stream] = []
        try:
            for number, sampling in enumerate(asked.samplings):
                # All answers of a request have the adapter of the first.
                routed = streams[0].route() if number and name == ROUTED else None
                chosen = name if routed is None else routed.adapter or BASE
                streams.append(
                    self.engine.submit(
                        asked.prompt,
                        adapter=chosen,
                        session=asked.session if chosen == ROUTED else None,
                        max_new_tokens=asked.max_new_tokens,
                        sampling=sampling,
                    )
                )
        except BaseException:
            for stream in streams:
                stream.cancel()
            raise
        return tuple(streams)

    def _watch(self, streams: Sequence[Stream], taken: Generation | None) -> None:
        for stream in streams:
            self.metrics.began(stream)
        if taken is not None:
            streams[-1].add_done_callback(lambda _: self._give_back(streams, taken))

    def _give_back(self, streams: Sequence[Stream], taken: Generation) -> None:
        """After the last stream: the others, which began before, may still run."""
        late = [stream for stream in streams if not stream.is_done]
        if late:
            late[-1].add_done_callback(lambda _: self._give_back(streams, taken))
        else:
            self.models.give_back(taken)

    async def decide(self, prompt: Prompt, session: str | None = None) -> Route:
        """The decision on a prompt; nothing is generated."""
        route = await asyncio.to_thread(self.engine.route_prompt, prompt, session=session)
        if self._is_background(prompt, session):
            return self.engine.router.abstaining(route, str(self.engine.options.fallback))
        return route

    async def log(self, running: Running) -> None:
        """Writes a decision to the decision log, if there is one."""
        if self._log is not None and running.route is not None:
            asked = running.asked
            await asyncio.to_thread(
                self._log.write,
                request_id=running.id,
                model=asked.model,
                session=asked.session,
                prompt=asked.routed or asked.prompt,
                route=running.route,
                plan=self.engine.plan.name,
                image_bytes=asked.pictures,
            )

    async def replace_router(self, folder: str) -> str:
        """Puts a sealed router in service; no request is dropped. Returns its digest.

        Args:
            folder: below the adapter root.
        """
        place = self.models.inside(folder)

        def work() -> str:
            with self.models.told():
                router = Router.load(place)
                assert router.digest is not None
                # Before it decides: clients are told the threshold with the decision.
                self._thresholds[router.digest] = router.calibration.threshold
                self.engine.replace_router(router)
                return router.digest

        self.router_digest = self.models.router_digest = await asyncio.to_thread(work)
        self._drift.use(self.engine.router)
        if self._log is not None:
            self._log.router_digest = self.router_digest
        return self.router_digest

    def shown(self, route: Route | None, taken: Generation | None = None) -> dict[str, Any]:
        """The object ``pointsman`` of a response."""
        if route is None:
            name = None if taken is None else taken.name
            shown: dict[str, Any] = {"adapter": name, "router_digest": self.router_digest}
        else:
            sealed = self.engine.router.adapter_digests
            digest = route.router_digest or self.router_digest
            shown = described(asdict(route), digest, sealed)
            shown["threshold"] = self._thresholds[digest]
        adapter = shown["adapter"]
        made = taken.digest if taken is not None else self.models.generation_of(adapter)
        return {**shown, "generation": made, "plan": self.engine.plan.name}
