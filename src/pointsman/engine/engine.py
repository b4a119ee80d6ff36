"""Engine: base, adapters and router in memory; routes and generates.

One thread owns the model (``worker``). It takes queued requests and has them answered in one batch
(``scheduler``) or, if the adapters cannot be stacked, through PEFT (``peft_backend``). Further
threads prepare text and images.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from threading import Semaphore
from types import TracebackType
from typing import Any, Self

import torch
from PIL import Image

from pointsman.adapters.files import AdapterFile
from pointsman.adapters.layout import Layout
from pointsman.adapters.load import open_adapter
from pointsman.adapters.weights import Lora
from pointsman.conversation import Prompt, make_prompt
from pointsman.engine.answer import Answer
from pointsman.engine.loading import Source as AdapterSource
from pointsman.engine.loading import fitted, load_adapters, load_parts, make_backend
from pointsman.engine.options import EngineOptions
from pointsman.engine.plan import Plan, choose_plan
from pointsman.engine.request import Request
from pointsman.engine.sampling import Sampling
from pointsman.engine.stream import Stream
from pointsman.engine.worker import Worker
from pointsman.errors import AbstainedError, ConfigError, RequestError
from pointsman.images import Source
from pointsman.labels import BASE, ROUTED, LabelMap, check_name
from pointsman.models.base import Base
from pointsman.models.checkpoint import Dtype
from pointsman.models.features import Reader
from pointsman.models.text_encoder import TextEncoder
from pointsman.pocket import pocket_folder
from pointsman.project import FILE_NAME, Project, load_project
from pointsman.routing.route import Route
from pointsman.routing.router import Router
from pointsman.routing.sessions import Sessions, check_session


class Engine:
    """Routes and generates. Thread-safe: callers queue for the one thread that owns the model.

    Args:
        base: a base without adapters. The engine takes it over.
        router: a router trained on this base.
        adapters: maps every name in the router's label map to a folder or Hub id.
        encoder: the text encoder of a text-only router. Such a router sees no image.
        options: by default ``EngineOptions()``.

    Two things are logged as warnings, not raised: adapters that the router does not seal, and the
    warnings of ``check_adapter``.

    Raises:
        MismatchError: the router belongs to another base or encoder, or an adapter differs from
            the sealed one.
        ArtefactError: ``check_adapter`` finds an error in an adapter.
        ConfigError: an option is out of range, an adapter of the router's label map is missing, or
            the plan is not exact.
        LabelError: the fallback is not one of the router's adapters.
    """

    reads_images = True

    def __init__(
        self,
        base: Base,
        router: Router,
        adapters: Mapping[str, AdapterSource],
        *,
        encoder: TextEncoder | None = None,
        options: EngineOptions | None = None,
    ) -> None:
        self.options = (options or EngineOptions()).with_defaults()
        router.check_fallback(str(self.options.fallback))
        base.images.limit = self.options.image_cache_mb << 20
        self._layout = Layout.of(base.model)  # before the LoRA stack replaces projections
        loaded = load_adapters(base, self._layout, router, adapters)
        layer = router.layer if encoder is None else None
        self.plan: Plan = choose_plan(
            [adapter.lora for adapter in loaded], layer, self.options.plan
        )
        self.router, self._fallback = router, str(self.options.fallback)
        self.adapters: tuple[str, ...] = tuple(router.labels)
        """Names of all adapters: the router's in label order, then the added ones"""
        self._sessions = Sessions(float(self.options.hysteresis or 0))
        self._backend = make_backend(
            base, self.router, self.plan, loaded, encoder, self._sessions, self.options
        )
        self._encoder = encoder
        self._sealed = {adapter.name: adapter.file for adapter in loaded}
        self._lowest = min(
            (a.lora.lowest_layer for a in loaded if isinstance(a.lora, Lora)), default=0
        )
        most = self.options.slots + self.options.max_waiting
        self._worker = Worker(self._backend, most, self._check_adapter_of)
        try:
            self._worker.own(self._check_base)
            if base.device.type == "cuda" and self.plan.name != "peft":  # PEFT compiles nothing
                self._warm_up()
        except BaseException:
            self.close()
            raise

    @classmethod
    def from_config(
        cls,
        path: str | Path = FILE_NAME,
        *,
        device: str | None = None,
        dtype: Dtype | None = None,
        options: EngineOptions | None = None,
    ) -> Self:
        """Loads everything that a project file names.

        Args:
            device: ``cuda``, ``cuda:1``, ``mps`` or ``cpu``; by default the best there is.
            dtype: by default bfloat16 on an accelerator and float32 on the CPU.
            options: options left at None are taken from the project.

        Raises:
            PointsmanError: a part is missing or broken, or the parts do not belong together.
        """
        project = load_project(path)
        return cls.from_project(project, str(path), device=device, dtype=dtype, options=options)

    @classmethod
    def from_project(
        cls,
        project: Project,
        where: str,
        *,
        device: str | None = None,
        dtype: Dtype | None = None,
        options: EngineOptions | None = None,
    ) -> Self:
        """Loads everything that a project names; ``where`` names the project in errors."""
        options = (options or EngineOptions()).with_defaults(project)
        base, router, files, encoder = load_parts(project, where, device, dtype)
        return cls(base, router, files, encoder=encoder, options=options)

    @classmethod
    def pocket(
        cls,
        *,
        device: str | None = None,
        dtype: Dtype | None = None,
        options: EngineOptions | None = None,
    ) -> Self:
        """Loads the embedded pocket model: a tiny base, three adapters and a router."""
        with pocket_folder() as folder:
            path = folder / FILE_NAME
            return cls.from_config(path, device=device, dtype=dtype, options=options)

    @property
    def base(self) -> Base:
        """The base as the engine runs it, adapters in place."""
        return self._backend.base

    @property
    def is_alive(self) -> bool:
        """Whether it takes requests."""
        return self._worker.is_open

    @property
    def load(self) -> tuple[Counter[str], Counter[str]]:
        """Requests that are being answered, and those that wait, by adapter, ``base`` or ``auto``
        (not decided yet)."""
        running, waiting = self._worker.load
        return Counter(map(_asked_of, running)), Counter(map(_asked_of, waiting))

    @property
    def labels(self) -> LabelMap:
        """The router's label map."""
        return self.router.labels

    def route(self, image: Source | None, text: str, *, session: str | None = None) -> Route:
        """The decision for one request.

        Args:
            image: a path, the bytes of an image file, a PIL image, an RGB uint8 array, or None.
            text: the instruction.
            session: as for ``submit``.

        Raises:
            SampleError: the image cannot be read, or the prompt is longer than the base reads.
            RequestError: ``session`` is not a valid name.
            EngineClosedError: the engine is closed.
        """
        return self.route_prompt(make_prompt(image, text), session=session)

    def route_prompt(self, prompt: Prompt, *, session: str | None = None) -> Route:
        """The decision for one conversation; the rest as ``route``."""
        check_session(session)
        return self._route([prompt], session)[0]

    def route_batch(self, prompts: Sequence[Prompt]) -> list[Route]:
        """Decisions for several requests in one padded batch, without sessions."""
        return self._route(prompts, None) if prompts else []

    def generate(
        self,
        image: Source | None,
        text: str,
        *,
        adapter: str = ROUTED,
        session: str | None = None,
        max_new_tokens: int | None = None,
        sampling: Sampling | None = None,
    ) -> Answer:
        """Answers one request.

        Args:
            image: a path, the bytes of an image file, a PIL image, an RGB uint8 array, or None.
            text: the instruction.
            adapter, session, max_new_tokens, sampling: as for ``submit``.

        Raises:
            SampleError: the image cannot be read, or the prompt is longer than the base reads.
            AbstainedError: the router abstained, and the fallback is ``error``.
            LabelError, RequestError, QueueFullError, EngineClosedError: as ``submit``.
        """
        return self.submit(
            make_prompt(image, text),
            adapter=adapter,
            session=session,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
        ).result()

    def generate_batch(
        self,
        prompts: Sequence[Prompt],
        *,
        adapter: str | Sequence[str] = ROUTED,
        max_new_tokens: int | None = None,
        sampling: Sampling | None = None,
    ) -> list[Answer]:
        """Answers any number of requests, with at most ``slots`` of them in one batch.

        Args:
            adapter: as for ``submit``; one for all prompts, or one per prompt.

        Raises:
            LabelError: the engine does not have an adapter of this name.
            RequestError: adapters and prompts differ in number, or an option is out of range.
        """
        names = [adapter] * len(prompts) if isinstance(adapter, str) else list(adapter)
        if len(names) != len(prompts):
            raise RequestError(f"{len(names)} adapters for {len(prompts)} prompts; give as many")
        requests = [
            self._request(prompt, name, None, max_new_tokens, sampling)
            for prompt, name in zip(prompts, names, strict=True)
        ]
        # Of thousands, only so many are prepared ahead: pictures are large.
        ahead = Semaphore(3 * self.options.slots)
        for start in range(0, len(requests), self.options.slots):
            wave = requests[start : start + self.options.slots]
            for request in wave:
                ahead.acquire()
                request.feed.call_when_done(ahead.release)
            self._worker.enqueue(wave, block=True)
        return [Stream(request.feed).result() for request in requests]

    def submit(
        self,
        prompt: Prompt,
        *,
        adapter: str = ROUTED,
        session: str | None = None,
        max_new_tokens: int | None = None,
        sampling: Sampling | None = None,
    ) -> Stream:
        """Queues one request; the stream yields its text as it is generated.

        Its pictures are read and its text is tokenised on threads of the engine, so this returns at
        once. If a prompt cannot be answered, the stream raises the error.

        Args:
            adapter: ``auto`` (the router decides), an adapter's name, or ``base``.
            session: the session's name. A session keeps the adapter that it was last routed to,
                even if the router abstains, until the probability of another adapter exceeds that
                of its own by more than the option ``hysteresis``; ``Route.held`` is then set.
                Requests of a session are routed strictly in order. Requests that name an adapter
                do not change the session.
            max_new_tokens: by default the engine option of the same name.
            sampling: by default greedy.

        Raises:
            LabelError: the engine does not have an adapter of this name.
            RequestError: an option is out of range.
            QueueFullError: there are ``slots`` + ``max_waiting`` requests.
            EngineClosedError: the engine is closed, or belongs to a parent process.
        """
        check_session(session)
        request = self._request(prompt, adapter, session, max_new_tokens, sampling)
        self._worker.enqueue([request])
        return Stream(request.feed)

    def add_adapter(self, name: str, path: AdapterSource) -> None:
        """Loads one more adapter, which callers can name; running requests continue.

        Args:
            path: its folder, or its files as ``open_adapter`` reads them.

        The router does not know the new adapter: to route to it, extend the router.

        Raises:
            ArtefactError, MismatchError: it is missing, broken or made for another base.
            ConfigError: it cannot be stacked, its rank is above ``max_rank``, or its name is taken.
        """
        check_name(name)
        file = path if isinstance(path, AdapterFile) else open_adapter(name, path)
        self._worker.own(lambda: self._add(name, file))

    def remove_adapter(self, name: str) -> None:
        """Removes an adapter that ``add_adapter`` loaded.

        Raises:
            ConfigError: it belongs to the router's label map, or is answering requests.
            LabelError: there is no such adapter.
        """
        self._check_name(name)
        if name in self.labels.names:
            raise ConfigError(f"adapter {name!r} belongs to the router's label map; it must stay")
        self._worker.own(lambda: self._remove(name))

    def replace_router(self, router: Router) -> None:
        """Puts a retrained router in place of the present one, between two steps.

        No request is dropped: those that are decided keep their decisions.

        Raises:
            LabelError: the fallback is not one of its adapters.
            MismatchError: it has other labels, seals other adapters, or belongs to another base.
            ConfigError: it reads other turns, or the adapters need another plan with it.
        """
        hint = "start a new engine with it"
        self.labels.check_same(router.labels, "the engine", "the new router", hint)
        for name, file in self._sealed.items():
            router.check_adapter(name, file.folder, file.digests)
        if router.recipe.history != self.router.recipe.history:
            raise ConfigError(
                f"the new router reads {router.recipe.history!r}, the engine prepares "
                f"{self.router.recipe.history!r}; {hint}"
            )
        if self.plan.name == "in-pass" and router.layer > self._lowest:
            raise ConfigError(
                f"the new router reads layer {router.layer}, and adapters change layer "
                f"{self._lowest}: plan in-pass is not exact for it; {hint}"
            )
        router.check_fallback(self._fallback)
        self._worker.own(lambda: self._replace(router))

    def close(self) -> None:
        """Lets queued requests finish and ends the model's thread."""
        self._worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _request(
        self,
        prompt: Prompt,
        adapter: str,
        session: str | None,
        max_new_tokens: int | None,
        sampling: Sampling | None,
    ) -> Request:
        is_routed, sampling = adapter == ROUTED, sampling or Sampling()
        named = None if adapter in (ROUTED, BASE) else adapter
        if named is not None:
            self._check_name(named)
        if self.plan.name == "peft" and (names := sampling.beyond_greedy):
            raise RequestError(
                f"plan peft ({self.plan.why}) answers greedily; leave {', '.join(names)} out"
            )
        most = self.options.max_new_tokens if max_new_tokens is None else max_new_tokens
        if type(most) is not int or most < 1:
            raise RequestError(f"max_new_tokens is {most!r}; give a whole number, 1 or more")
        return Request(prompt, named, is_routed, most, sampling, session if is_routed else None)

    def _route(self, prompts: Sequence[Prompt], session: str | None) -> list[Route]:
        router, reader = self.router, self._reader()
        prepared = self._worker.aside(lambda: router.prepare(reader, prompts))
        return self._worker.own(lambda: self._decide(prepared, [session] * len(prompts)), session)

    def _check_name(self, name: str) -> None:
        if name not in self.adapters:
            self.labels.label(name)  # raises; the message lists the known names

    def _check_adapter_of(self, request: Request) -> None:
        if request.adapter is not None:
            self._check_name(request.adapter)  # removed, perhaps, since the request was queued

    def _reader(self) -> Reader:
        """The model whose states the router reads."""
        return self._encoder or self.base

    # All below runs on the model's thread.

    def _decide(self, prepared: Any, sessions: Sequence[str | None]) -> list[Route]:
        held = self._sessions.held(sessions, torch.device("cpu"))
        routes = self.router.route_prepared(self._reader(), prepared, held, self._fallback)
        for session, decision in zip(sessions, routes, strict=True):
            self._sessions.decided(session, decision)
        return routes

    def _warm_up(self) -> None:
        """Has compiled and captured what the first requests would wait for."""
        # Pictures of their own: features that are there already would not be computed.
        colours = product(range(256), repeat=3)
        for number, words in _WARM_UP:
            for name in (ROUTED, self.adapters[0]) if number < 4 else (ROUTED,):
                images = [Image.new("RGB", _WARM_UP_SIZE, next(colours)) for _ in range(number)]
                prompts = [make_prompt(image, "Click" + " here" * words) for image in images]
                with suppress(AbstainedError):
                    self.generate_batch(prompts, adapter=name, max_new_tokens=2)
        self._worker.own(self.base.images.clear)

    def _check_base(self) -> None:
        with self.base.without_adapters():
            self.router.check_base(self._reader())

    def _replace(self, router: Router) -> None:
        # First: callers should know of every decision of the old router before it is replaced.
        self._backend.settle()
        self._backend.rest()
        with self.base.without_adapters():
            router.check_base(self._reader())
        self._backend.use_router(router)
        self.router = router

    def _add(self, name: str, file: AdapterFile) -> None:
        if name in self.adapters:
            raise ConfigError(f"adapter {name!r} is already loaded; remove it or use another name")
        [adapter] = fitted({name: file}, self.base, self._layout)
        self._backend.add(adapter)
        self.adapters = (*self.adapters, name)

    def _remove(self, name: str) -> None:
        self._check_name(name)  # two callers may remove it at once
        self._backend.remove(name)
        self.adapters = tuple(other for other in self.adapters if other != name)


_WARM_UP = (
    *((1, words) for words in (1, 1, 40, 40, 100, 100)),
    *((number, 1) for number in (2, 3, 5, 9, 17)),
)
"""Requests at once, and words of their instructions. One, two and any number are compiled on their
own, single prompts are captured when their length recurs, and steps for each power of two."""
_WARM_UP_SIZE = (1280, 800)


def _asked_of(request: Request) -> str:
    return ROUTED if request.routed else request.adapter or BASE
