"""Engine: base, adapters and router in memory; routes and generates.

One thread owns the model: it takes what callers queue, and has it answered in one batch (``batch``)
or, where the adapters cannot be stacked, through PEFT (``with_peft``).
"""

import atexit
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import torch

from pointsman.adapters.check.check import check_on_load
from pointsman.adapters.files import fetch_adapter
from pointsman.adapters.load import load_base_with_loras
from pointsman.adapters.weights import Lora, lora_of
from pointsman.conversation import Prompt, make_prompt
from pointsman.engine.answer import Answer, make_answer
from pointsman.engine.forward import Shape
from pointsman.engine.lora_stack import LoraStack
from pointsman.engine.peft_backend import PeftBackend
from pointsman.engine.plan import Plan, choose_plan
from pointsman.engine.request import Request, failing
from pointsman.engine.sampling import Sampling
from pointsman.engine.scheduler import Scheduler
from pointsman.engine.stream import Stream
from pointsman.errors import ConfigError
from pointsman.findings import Finding
from pointsman.images import Source
from pointsman.labels import LabelMap
from pointsman.models.base import Base
from pointsman.models.features import Reader
from pointsman.models.text_encoder import TextEncoder
from pointsman.pocket import pocket_folder
from pointsman.project import FILE_NAME, Project, load_project
from pointsman.routing.load import load_encoder_of, load_router
from pointsman.routing.route import Route
from pointsman.routing.router import Router
from pointsman.routing.seal import unsealed_note
from pointsman.routing.sessions import HYSTERESIS, Sessions, check_session

SLOTS = 32
KEPT = 4
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Engine:
    """Routes and generates. Thread-safe: callers queue for the one thread that owns the model.

    Args:
        base: with every adapter of the router's label map loaded. It is the engine's from now on.
        router: trained on this base.
        plan: ``in-pass``, ``activated``, ``two-pass`` or ``peft``; by default the best that is
            exact for the adapters, see ``plans.Plan``.
        slots: requests that are answered at the same time; others wait.
        kept: conversations of which only what is new is read, if they go on with the same images.
        resident: adapters on the device at the same time, by default all; others lie on the host.
        max_rank: of adapters that ``add_adapter`` may bring; by default the largest there is.
        encoder: of a router that reads text alone. Such a router sees no image.
        fallback: who answers where the router abstains: ``base``, one of the router's adapters, or
            ``error``: the request fails with ``AbstainedError``.
        hysteresis: a session keeps its adapter until another one's probability exceeds that of its
            own by more than this, from 0 to 1.
        prefill_shapes: (requests, tokens) of prompts that are read together by compiled layers on
            CUDA, see ``Forward``; each is compiled when its like first comes.

    What is odd and no error is logged as a warning: adapters that the router does not seal, and
    what ``check_adapter`` warns of.

    Raises:
        MismatchError: the router belongs to another base or encoder, or an adapter is not the one
            that was sealed.
        ArtefactError: an adapter that ``check_adapter`` finds faulty.
        ConfigError: an option out of its range, an adapter of the router's label map that is not
            loaded, or a plan that is not exact.
    """

    def __init__(
        self,
        base: Base,
        router: Router,
        *,
        plan: str | None = None,
        slots: int = SLOTS,
        kept: int = KEPT,
        resident: int | None = None,
        max_rank: int | None = None,
        encoder: TextEncoder | None = None,
        fallback: str = "base",
        hysteresis: float = HYSTERESIS,
        prefill_shapes: Sequence[Shape] = (),
    ) -> None:
        if missing := [name for name in router.labels if name not in base.adapters]:
            raise ConfigError(
                f"adapter {missing[0]!r} of the router's label map {router.labels} is not loaded; "
                "add its path to [adapters]"
            )
        if slots < 1 or kept < 0 or (resident is not None and resident < 1):
            raise ConfigError(
                f"slots {slots}, kept {kept}, resident {resident}: give 1 or more, kept 0 or more"
            )
        _check_adapters(base, router)
        router = replace(router, fallback=fallback)
        loras = [lora_of(base.model, name) for name in router.labels]
        layer = router.layer if encoder is None else None
        self.plan: Plan = choose_plan(loras, layer, plan)
        self.router = router
        self._sessions = Sessions(hysteresis)
        self._names = list(router.labels)
        self._lock = threading.Condition()
        self._jobs: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._waiting: deque[Request] = deque()
        self._is_closed = False
        self.base = base
        self._way: Scheduler | PeftBackend
        if self.plan.name == "peft":
            self._reader: Reader = encoder or base
            self._way = PeftBackend(base, router, self._reader, self._sessions)
        else:
            self.base = replace(base, model=base.model.unload())
            self._reader = encoder or self.base
            stackable = [lora for lora in loras if isinstance(lora, Lora)]
            stack = LoraStack(self.base, stackable, resident=resident, max_rank=max_rank)
            self._way = Scheduler(
                self.base,
                router,
                self.plan,
                stack,
                slots,
                kept,
                self._reader,
                self._sessions,
                prefill_shapes,
            )
        self._owner = threading.Thread(target=self._work, name="pointsman-model", daemon=True)
        self._owner.start()
        # A thread that is within the model when the interpreter goes takes the process with it.
        atexit.register(self.close)
        try:
            self._own(self._check)
        except BaseException:
            self.close()
            raise

    @classmethod
    def from_config(
        cls, path: str | Path = FILE_NAME, *, device: str | None = None, **options: Any
    ) -> Self:
        """Loads everything that a project file names; ``options`` are those of ``Engine``.

        Raises:
            PointsmanError: whatever is missing, broken or does not belong together.
        """
        return cls.from_project(load_project(Path(path)), str(path), device=device, **options)

    @classmethod
    def from_project(
        cls, project: Project, where: str, *, device: str | None = None, **options: Any
    ) -> Self:
        """Loads everything that a project names; ``where`` is its name in errors."""
        router = load_router(project, where)
        if project.base is None:
            raise ConfigError(f'{where}: needs base = "a Hub id or folder" to answer with')
        folders = {name: fetch_adapter(name, path) for name, path in project.adapters.items()}
        router.check_adapters(folders)  # before the base is loaded, which may take minutes
        encoder = load_encoder_of(router, project.encoder, device=device)
        if encoder is not None:
            router.check_base(encoder)  # before the base is loaded, which may take minutes
        base = load_base_with_loras(
            project.base,
            {name: str(folder) for name, folder in folders.items()},
            revision=project.revision,
            device=device,
            max_pixels=project.max_pixels,
        )
        options = {"fallback": project.fallback} | options
        if project.hysteresis is not None:
            options = {"hysteresis": project.hysteresis} | options
        return cls(base, router, encoder=encoder, **options)

    @classmethod
    def pocket(cls, *, device: str | None = None, **options: Any) -> Self:
        """Loads the embedded pocket model: a tiny base, three adapters and a router."""
        with pocket_folder() as folder:
            return cls.from_config(folder / FILE_NAME, device=device, **options)

    reads_images = True

    @property
    def labels(self) -> LabelMap:
        """The router's label map."""
        return self.router.labels

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of all adapters: the router's in label order, then those added."""
        return tuple(self._names)

    def route(self, image: Source | None, text: str, *, session: str | None = None) -> Route:
        """The decision for one request. Raises ``SampleError`` on a bad image.

        Args:
            session: as for ``submit``.
        """
        check_session(session)
        prompt = make_prompt(image, text)
        return self._own(lambda: self._route([prompt], session))[0]

    def route_batch(self, prompts: Sequence[Prompt]) -> list[Route]:
        """Decisions for several requests, in one padded batch."""
        return self._own(lambda: self._route(prompts, None))

    def generate(
        self,
        image: Source | None,
        text: str,
        *,
        session: str | None = None,
        max_new_tokens: int = 256,
        sampling: Sampling | None = None,
    ) -> Answer:
        """Routes one request and answers it. Raises ``SampleError`` on a bad image.

        Args:
            session: as for ``submit``.
        """
        options: Any = {"max_new_tokens": max_new_tokens, "sampling": sampling}
        return self.submit(make_prompt(image, text), session=session, **options).result()

    def generate_batch(
        self,
        prompts: Sequence[Prompt],
        *,
        adapters: Sequence[str | None] | None = None,
        max_new_tokens: int = 256,
        sampling: Sampling | None = None,
    ) -> list[Answer]:
        """Answers several requests, each with its own adapter.

        Args:
            adapters: who answers each prompt (None: the base); by default the router decides.

        Raises:
            LabelError: an adapter that the engine has not.
        """
        if adapters is not None and len(adapters) != len(prompts):
            raise ConfigError(f"{len(adapters)} adapters for {len(prompts)} prompts; give as many")
        named = [None] * len(prompts) if adapters is None else list(adapters)
        requests = [
            self._request(prompt, name, adapters is None, max_new_tokens, sampling)
            for prompt, name in zip(prompts, named, strict=True)
        ]
        self._enqueue(requests)
        return [request.stream.result() for request in requests]

    def submit(
        self,
        prompt: Prompt,
        *,
        adapter: str | None = None,
        routed: bool = True,
        session: str | None = None,
        max_new_tokens: int = 256,
        sampling: Sampling | None = None,
    ) -> Stream:
        """Queues one request; the stream gives its text as it comes.

        Args:
            adapter: who answers, in place of the router's choice.
            routed: False with no ``adapter``: the base answers.
            session: keeps the adapter that it was routed to before, also where the router abstains,
                until another one's probability exceeds its own by more than the engine's
                ``hysteresis``; ``Route.held`` tells. Requests of one session are decided in the
                order in which they came, each after the one before; those that are not routed
                leave it as it is.

        Raises:
            LabelError: an adapter that the engine has not.
        """
        check_session(session)
        is_routed = routed and adapter is None
        request = self._request(prompt, adapter, is_routed, max_new_tokens, sampling)
        request.session = session if is_routed else None
        self._enqueue([request])
        return request.stream

    def add_adapter(self, name: str, path: str) -> None:
        """Loads one more adapter, to be named by callers; requests at work go on.

        The router knows nothing of it: extend the router for that.

        Raises:
            ArtefactError, MismatchError: it is missing, broken or made for another base.
            ConfigError: it cannot be stacked, or its rank is above ``max_rank``.
        """
        folder = fetch_adapter(name, path)
        self._own(lambda: self._add(name, folder))

    def remove_adapter(self, name: str) -> None:
        """Forgets an adapter that ``add_adapter`` brought.

        Raises:
            ConfigError: it is of the router's label map, or answering at the moment.
            LabelError: there is no such adapter.
        """
        self._check_name(name)
        if name in self.router.labels.names:
            raise ConfigError(f"adapter {name!r} is of the router's label map; it must stay")
        self._own(lambda: self._remove(name))

    def close(self) -> None:
        """Lets queued requests finish and ends the model's thread."""
        with self._lock:
            self._is_closed = True
            self._lock.notify_all()
        self._owner.join()
        atexit.unregister(self.close)

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
        adapter: str | None,
        routed: bool,
        max_new_tokens: int,
        sampling: Sampling | None,
    ) -> Request:
        sampling = sampling or Sampling()
        if adapter is not None:
            self._check_name(adapter)
        if self.plan.name == "peft" and not sampling.is_plain:
            raise ConfigError(f"plan peft ({self.plan.why}) answers greedily; leave sampling out")
        if max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens is {max_new_tokens}; give 1 or more")
        return Request(prompt, adapter, routed, max_new_tokens, sampling)

    def _check_name(self, name: str) -> None:
        if name not in self._names:
            self.router.labels.label(name)  # raises, naming what there is

    def _enqueue(self, requests: Sequence[Request]) -> None:
        with self._lock:
            if self._is_closed:
                raise ConfigError("the engine is closed; make a new one")
            self._waiting.extend(requests)
            self._lock.notify_all()

    def _own(self, work: Callable[[], T]) -> T:
        """Runs ``work`` on the model's thread, between two steps."""
        future: Future[T] = Future()
        with self._lock:
            if self._is_closed:
                raise ConfigError("the engine is closed; make a new one")
            self._jobs.append((work, future))
            self._lock.notify_all()
        return future.result()

    # All below runs on the model's thread.

    def _work(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # not even failing works: nobody is to wait for ever
            with self._lock:
                self._is_closed = True
                for _, future in self._jobs:
                    future.set_exception(error)
                for request in (*self._way.at_work, *self._waiting):
                    request.stream.failed(error)
            raise

    @torch.inference_mode()
    def _serve(self) -> None:
        while True:
            with self._lock:
                while not (self._jobs or self._waiting or self._way.at_work or self._is_closed):
                    self._lock.wait()
                if not (self._jobs or self._waiting or self._way.at_work):
                    return
                jobs = list(self._jobs)
                self._jobs.clear()
            if jobs:
                self._way.rest()
            for work, future in jobs:
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)
            waiting = self._way.run(self._next())
            with self._lock:
                self._waiting.extendleft(reversed(waiting))

    def _next(self) -> list[Request]:
        """As many waiting requests as there is room for; who need not be begun is finished."""
        chosen: list[Request] = []
        behind: list[Request] = []
        while len(chosen) < self._way.room:
            with self._lock:
                if not self._waiting:
                    break
                request = self._waiting.popleft()
            if request.session and any(request.session == other.session for other in chosen):
                behind.append(request)  # what its session holds is decided in this round
                continue
            with failing([request]):
                if request.adapter is not None:
                    self._check_name(request.adapter)  # it may have gone meanwhile
                if request.stream.is_cancelled:
                    request.stream.finished(
                        make_answer("", request.adapter, request.prompt, request.route)
                    )
                else:
                    chosen.append(request)
        with self._lock:
            self._waiting.extendleft(reversed(behind))
        return chosen

    def _route(self, prompts: Sequence[Prompt], session: str | None) -> list[Route]:
        held = self._sessions.held([session] * len(prompts), torch.device("cpu"))
        routes = self.router.route(self._reader, prompts, held)
        for decision in routes:
            self._sessions.decided(session, decision)
        return routes

    def _check(self) -> None:
        with self.base.without_adapters():
            self.router.check_base(self._reader)

    def _add(self, name: str, folder: Path) -> None:
        if name in self._names:
            raise ConfigError(f"adapter {name!r} is there already; remove it or choose a name")
        findings = check_on_load(name, folder, self.base)
        self._way.add(name, folder)
        _warn_of(findings)
        self._names.append(name)

    def _remove(self, name: str) -> None:
        self._check_name(name)  # two callers may have come with it
        self._way.remove(name)
        self._names.remove(name)


def _check_adapters(base: Base, router: Router) -> None:
    """Every adapter of the label map is the one that was sealed, and has no fault."""
    router.check_adapters({name: base.adapters[name] for name in router.labels})
    for name in router.labels:
        _warn_of(check_on_load(name, base.adapters[name], base))
    if router.unsealed:
        _log.warning(unsealed_note(router.unsealed))


def _warn_of(findings: Sequence[Finding]) -> None:
    for finding in findings:
        _log.warning(str(finding).removeprefix("warning: "))
