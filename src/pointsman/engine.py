"""Engine: base, adapters and router in memory; routes and generates.

One thread owns the model. Between two steps it lets requests in and out: each has a slot for its
keys and values, and a row of the stacked adapters, so that any mix of adapters is one batch.
"""

import copy
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from peft import PeftModel
from torch import Tensor, nn

from pointsman.adapters import attach, fetch_adapter, load_base_with_loras
from pointsman.answer import Answer, make_answer
from pointsman.base import Base, Encoded, Prompt
from pointsman.errors import ConfigError, SampleError
from pointsman.features import pool
from pointsman.forward import Forward, Routing
from pointsman.images import Source
from pointsman.plans import Plan, choose_plan
from pointsman.project import FILE_NAME, Project, load_project
from pointsman.router import Route, Router
from pointsman.sampling import Sampler, Sampling
from pointsman.shelf import Shelf
from pointsman.stacked import Lora, Stack, lora_of
from pointsman.stream import Request, Stream
from pointsman.with_peft import adapter_on, make_prompt, route, route_and_generate

SLOTS = 32
KEPT = 4
_PREFILL_TOKENS = {"cpu": 4096, "cuda": 16384}
"""Padded tokens of one prefill; more at once only spill a CPU's caches"""

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

    Raises:
        MismatchError: the router belongs to another base.
        ConfigError: an adapter of the router's label map is not loaded, or the plan is not exact.
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
    ) -> None:
        loaded = base.model.peft_config if isinstance(base.model, PeftModel) else {}
        if missing := [name for name in router.labels if name not in loaded]:
            raise ConfigError(
                f"adapter {missing[0]!r} of the router's label map {router.labels} is not loaded; "
                "add its path to [adapters]"
            )
        if slots < 1 or kept < 0 or (resident is not None and resident < 1):
            raise ConfigError(
                f"slots {slots}, kept {kept}, resident {resident}: give 1 or more, kept 0 or more"
            )
        loras = [lora_of(base.model, name) for name in router.labels]
        self.plan: Plan = choose_plan(loras, router.layer, plan)
        self.router = router
        self._names = list(router.labels)
        self._lock = threading.Condition()
        self._jobs: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._waiting: deque[Request] = deque()
        self._at_work: dict[int, Request] = {}
        self._slots = slots
        self._is_closed = False
        self.base = base
        self._forward: Forward | None = None
        if self.plan.name != "peft":
            stackable = [lora for lora in loras if isinstance(lora, Lora)]
            self.base = replace(base, model=base.model.unload())
            stack = Stack(self.base, stackable, resident=resident, max_rank=max_rank)
            self._forward = Forward(self.base, stack, slots + kept)
            self._head = copy.deepcopy(router.head).to(self.base.device)
            self._invocation = stackable[0].invocation
        self._shelf = Shelf(range(slots, slots + kept))
        # What the base's keys alone are kept of can be continued by any adapter.
        self._any_adapter = self.plan.name == "activated"
        self._reads_the_end = router.recipe.pooling == "last"
        self._ends = self.base.ends
        self._longest = int(self.base.config.text_config.max_position_embeddings)
        self._owner = threading.Thread(target=self._work, name="pointsman-model", daemon=True)
        self._owner.start()
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
        if project.router is None:
            raise ConfigError(f'{where}: needs router = "folder"; train one: `pointsman train`')
        router = Router.load(Path(project.router))
        project.labels.check_same(
            router.labels,
            where,
            f"the router {project.router}",
            "list [adapters] in the router's order, or train a router on this order",
        )
        base = load_base_with_loras(
            project.base,
            project.adapters,
            revision=project.revision,
            device=device,
            max_pixels=project.max_pixels,
        )
        return cls(base, router, **options)

    @classmethod
    def pocket(cls, *, device: str | None = None, **options: Any) -> Self:
        """Loads the embedded pocket model: a tiny base, three adapters and a router."""
        with pocket_folder() as folder:
            return cls.from_config(folder / FILE_NAME, device=device, **options)

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of all adapters: the router's in label order, then those added."""
        return tuple(self._names)

    def route(self, image: Source | None, text: str) -> Route:
        """The decision for one request. Raises ``SampleError`` on a bad image."""
        return self.route_batch([make_prompt(image, text)])[0]

    def route_batch(self, prompts: Sequence[Prompt]) -> list[Route]:
        """Decisions for several requests, in one padded batch."""
        return self._own(lambda: route(self.base, self.router, prompts)[0])

    def generate(
        self,
        image: Source | None,
        text: str,
        *,
        max_new_tokens: int = 256,
        sampling: Sampling | None = None,
    ) -> Answer:
        """Routes one request and answers it. Raises ``SampleError`` on a bad image."""
        prompt = make_prompt(image, text)
        return self.submit(prompt, max_new_tokens=max_new_tokens, sampling=sampling).result()

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
        max_new_tokens: int = 256,
        sampling: Sampling | None = None,
    ) -> Stream:
        """Queues one request; the stream gives its text as it comes.

        Args:
            adapter: who answers, in place of the router's choice.
            routed: False with no ``adapter``: the base answers.

        Raises:
            LabelError: an adapter that the engine has not.
        """
        is_routed = routed and adapter is None
        request = self._request(prompt, adapter, is_routed, max_new_tokens, sampling)
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
        if self._forward is None and not sampling.is_plain:
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

    @property
    def _model(self) -> Forward:
        assert self._forward is not None
        return self._forward

    def _work(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # not even failing works: nobody is to wait for ever
            with self._lock:
                self._is_closed = True
                for _, future in self._jobs:
                    future.set_exception(error)
                for request in (*self._at_work.values(), *self._waiting):
                    request.stream.failed(error)
            raise

    @torch.inference_mode()
    def _serve(self) -> None:
        while True:
            with self._lock:
                while not (self._jobs or self._waiting or self._at_work or self._is_closed):
                    self._lock.wait()
                if not (self._jobs or self._waiting or self._at_work):
                    return
                jobs = list(self._jobs)
                self._jobs.clear()
            if jobs and self._forward is not None:
                self._forward.forget_steps()  # what jobs read, they read with the base alone
            for work, future in jobs:
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)
            if self._forward is None:
                self._answer_with_peft()
                continue
            self._admit()
            self._step()

    def _check(self) -> None:
        with adapter_on(self.base, None):
            self.router.check_base(self.base)

    def _add(self, name: str, folder: Path) -> None:
        if name in self._names:
            raise ConfigError(f"adapter {name!r} is there already; remove it or choose a name")
        if self._forward is None:
            self.base = attach(self.base, name, folder)
        else:
            lora = _read_lora(self.base, name, folder)
            if isinstance(lora, str) or lora.invocation != self._invocation:
                reason = lora if isinstance(lora, str) else "other tokens invoke it"
                raise ConfigError(
                    f"adapter {name!r} does not go with plan {self.plan.name} ({reason}); "
                    "give it an engine of its own"
                )
            if self.plan.name == "in-pass" and lora.lowest_layer < self.router.layer:
                raise ConfigError(
                    f"adapter {name!r} changes layer {lora.lowest_layer}, below the router's "
                    f"layer {self.router.layer}; give it an engine with plan two-pass"
                )
            self._forward.stack.add(lora)
        self._names.append(name)

    def _remove(self, name: str) -> None:
        self._check_name(name)  # two callers may have come with it
        if self._forward is None:
            self.base.model.delete_adapter(name)
        else:
            self._forward.stack.remove(name)
        self._names.remove(name)
        self._shelf.forget(name)

    def _take(self, most: int) -> list[Request]:
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def _answer_with_peft(self) -> None:
        groups: dict[tuple[bool, int], list[Request]] = {}
        for request in self._take(len(self._waiting)):
            with self._failing([request]):
                if not self._is_over(request):
                    key = request.routed, request.max_new_tokens
                    groups.setdefault(key, []).append(request)
        for group in groups.values():
            try:
                self._answer_group(group)
            except Exception:  # whose fault it is shows when each is alone
                for request in group:
                    with self._failing([request]):
                        self._answer_group([request])

    def _answer_group(self, requests: Sequence[Request]) -> None:
        answers = route_and_generate(
            self.base,
            self.router,
            [request.prompt for request in requests],
            adapters=None if requests[0].routed else [request.adapter for request in requests],
            max_new_tokens=requests[0].max_new_tokens,
        )
        for request, answer in zip(requests, answers, strict=True):
            request.stream.decided(answer.route)
            request.show(answer.text, is_last=True)
            request.stream.finished(answer)

    def _admit(self) -> None:
        """Reads the prompts of waiting requests into free slots."""
        fresh: list[Request] = []
        requests = self._take(self._slots - len(self._at_work))
        for index, request in enumerate(requests):
            with self._failing([request]):
                if self._is_over(request):
                    continue
                if not self._gets_row(request):  # and nobody overtakes who waits for one
                    self._put_back(requests[index:])
                    break
                encoded = self.base.encode([request.prompt])
                request.ids = encoded["input_ids"][0].tolist()
                if "image_digests" in encoded:
                    request.digests = encoded["image_digests"].tolist()
                image = self.base.config.image_token_id
                request.shown = (
                    len(request.ids) - request.ids[::-1].index(image) if image in request.ids else 0
                )
                request.tail = self._tail_of(request)
                if not self._continue(request, encoded):
                    fresh.append(request)
        for batch in self._batches(fresh):
            with self._failing(batch):
                self._read(batch)

    def _is_over(self, request: Request) -> bool:
        """Whether a request need not be begun: cancelled, or its adapter has gone meanwhile."""
        if request.adapter is not None:
            self._check_name(request.adapter)
        if request.stream.is_cancelled:
            self._finish(request)
        return request.stream.is_cancelled

    def _gets_row(self, request: Request) -> bool:
        """Whether a request's adapter is there; False: every row answers somebody."""
        if not request.routed and request.adapter is not None:
            request.row = self._model.stack.acquire(request.adapter)
            return request.row is not None
        return True

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        """Requests of like length, so that little of a prefill is padding."""
        most = _PREFILL_TOKENS.get(self.base.device.type, _PREFILL_TOKENS["cuda"])
        batch: list[Request] = []
        for request in sorted(requests, key=lambda request: (request.tail, len(request.ids))):
            is_other = bool(batch) and batch[0].tail != request.tail
            if is_other or (batch and (len(batch) + 1) * len(request.ids) > most):
                yield batch
                batch = []
            batch.append(request)
        if batch:
            yield batch

    def _read(self, requests: Sequence[Request]) -> None:
        """Reads whole prompts into slots."""
        encoded = self.base.encode([request.prompt for request in requests])
        features = self.base.image_features(encoded)
        for request in requests:
            self._take_slot(request)
        named = self._rows(requests)

        def choose(rows: Tensor) -> Tensor:
            return torch.where(named < 0, rows, named)

        self._begin(requests, encoded, features, choose, lambda r: r.adapter)

    def _begin(
        self,
        requests: Sequence[Request],
        encoded: Encoded,
        features: dict[str, Any],
        choose: Callable[[Tensor], Tensor],
        answerer: Callable[[Request], str | None],
        known: int = 0,
    ) -> None:
        """One prefill, what was decided on the way, and the first token of each request.

        Args:
            choose: who answers (B,), as rows, from those of the router's decisions.
            answerer: whose row that was, once a request's decision is known.
        """
        decided: list[Tensor] = []

        def decide(states: Tensor, batch: Encoded) -> Tensor:
            features = pool(states, batch, self.router.recipe.pooling)
            decided.append(self._head(features.float()))
            labels = self.router.labels_of(decided[0])
            return choose(self._model.stack.rows_of(labels))

        routed = any(request.routed for request in requests)
        routing = Routing(self.router.layer, decide, again=self.plan.name == "two-pass")
        logits = self._model.prefill(
            encoded,
            features,
            [request.slot for request in requests],
            None if routed else self._rows(requests),
            routing if routed else None,
            tail=requests[0].tail,
            known=known,
        )
        if routed:
            self._decided(requests, decided[0])
        right = [at for at, r in enumerate(requests) if self._has_row(r, answerer(r))]
        # Of the others the adapter was not on the device, or the slot was another's.
        wrong = [r for at, r in enumerate(requests) if at not in right]
        for request in wrong:
            self._give_slot_back(request)
        self._put_back(wrong)
        if right:
            logits = logits[right] if wrong else logits
            self._say(self._draw([requests[at] for at in right], logits))

    def _decided(self, requests: Sequence[Request], logits: Tensor) -> None:
        """Reads the router's decisions back."""
        for request, decision in zip(requests, self.router.routes_of(logits), strict=True):
            if request.routed:
                request.route, request.adapter = decision, decision.adapter
                request.stream.decided(decision)

    def _has_row(self, request: Request, answered: str | None) -> bool:
        """Whether a request that was routed just now was read with its adapter's row."""
        if not request.routed:
            return True
        request.routed = False
        was_there = request.adapter is None or self._model.stack.is_resident(request.adapter)
        if request.adapter is not None and was_there:
            request.row = self._model.stack.acquire(request.adapter)
        return was_there and answered == request.adapter

    def _continue(self, request: Request, encoded: Encoded) -> bool:
        """Reads only what is new of a conversation whose earlier turns are kept, if they are."""
        if request.routed and (self.plan.name == "two-pass" or not self._reads_the_end):
            return False
        found = self._shelf.find(request, self._any_adapter)
        if found is None:
            return False
        place, known, adapter = found
        row = self._model.stack.zero
        if not self._any_adapter and adapter is not None:
            if not self._model.stack.is_resident(adapter):
                return False
            row = self._model.stack.row_of(adapter)
        self._take_slot(request)
        self._model.slots.move(place, request.slot, known)
        named = self._rows([request])

        def choose(rows: Tensor) -> Tensor:
            if not self._any_adapter:
                return torch.full_like(rows, row)
            return torch.where(named < 0, rows, named)

        def answerer(request: Request) -> str | None:
            return request.adapter if self._any_adapter else adapter

        self._begin([request], encoded, {}, choose, answerer, known)
        return True

    def _rows(self, requests: Sequence[Request]) -> Tensor:
        """(B,) rows of requests whose adapter is known, -1 for the others."""
        zero = self._model.stack.zero
        rows = [-1 if r.routed else zero if r.row is None else r.row for r in requests]
        return torch.tensor(rows, device=self.base.device)

    def _tail_of(self, request: Request) -> int:
        """Last tokens of a prompt on which activated adapters act; 0 where none does."""
        if not self._invocation or (request.adapter is None and not request.routed):
            return 0
        ids, length = request.ids, len(self._invocation)
        for start in range(len(ids) - length, -1, -1):
            if tuple(ids[start : start + length]) == self._invocation:
                return len(ids) - start
        raise SampleError(
            "a prompt lacks the tokens that invoke the adapters (alora_invocation_tokens "
            f"{list(self._invocation)}); use the chat template that they were trained with"
        )

    def _draw(self, requests: Sequence[Request], logits: Tensor) -> list[tuple[Request, int]]:
        """The next token of each request, from logits (B, vocabulary); also set for the step.

        Who fails at it is left out.
        """
        slots = torch.tensor([r.slot for r in requests], device=logits.device)
        likeliest = logits.argmax(-1)
        self._model.tokens[slots] = likeliest
        drawn: list[tuple[Request, int]] = []
        for request, token, scores in zip(requests, likeliest.tolist(), logits, strict=True):
            with self._failing([request]):
                if not request.sampling.is_plain:
                    if request.sampler is None:
                        request.sampler = Sampler(request.sampling, request.ids)
                    token = request.sampler.draw(scores)
                    self._model.tokens[request.slot] = token
                drawn.append((request, token))
        return drawn

    def _step(self) -> None:
        """One more token for everybody at work."""
        requests = [self._at_work[slot] for slot in sorted(self._at_work)]
        if not requests:
            return
        with self._failing(requests):
            count = requests[-1].slot + 1
            longest = max(len(r.ids) + len(r.tokens) for r in requests)
            logits = self._model.step(count, longest)
            if len(requests) < count:
                logits = logits[[request.slot for request in requests]]
            self._say(self._draw(requests, logits))

    def _say(self, said: Iterable[tuple[Request, int]]) -> None:
        """Takes the next token of each request; those that end give their slots back."""
        for request, token in said:
            with self._failing([request]):
                self._say_one(request, token)

    def _say_one(self, request: Request, token: int) -> None:
        if request.route is None:
            request.stream.decided(None)
        request.tokens.append(token)
        room = self._longest - len(request.ids) - len(request.tokens)
        is_cut = len(request.tokens) >= request.max_new_tokens or room < 1
        is_last = token in self._ends or is_cut or request.stream.is_cancelled
        request.show(self.base.decode(torch.tensor(request.tokens)), is_last)
        if is_last:
            self._finish(request)

    def _finish(self, request: Request) -> None:
        text = self.base.decode(torch.tensor(request.tokens, dtype=torch.long))
        if request.slot >= 0:
            self._keep(request)
        self._give_slot_back(request)
        self._give_row_back(request)
        answer = make_answer(text, request.adapter, request.prompt, request.route)
        request.stream.finished(answer)

    def _keep(self, request: Request) -> None:
        """Puts what was read on the shelf, for the conversation's next turn."""
        # The last token was said but not read. Activated adapters act on the end of a prompt, so
        # that only what lies before it is the base's.
        ids = request.ids + request.tokens[:-1]
        ids = request.ids[: -request.tail] if request.tail else ids
        place = self._shelf.put(ids, request.digests, request.adapter)
        if place is not None:
            self._model.slots.move(request.slot, place, len(ids))

    def _take_slot(self, request: Request) -> None:
        request.slot = next(slot for slot in range(self._slots) if slot not in self._at_work)
        self._at_work[request.slot] = request

    def _give_slot_back(self, request: Request) -> None:
        if request.slot >= 0:
            del self._at_work[request.slot]
            self._model.release(request.slot)
            request.slot = -1

    def _give_row_back(self, request: Request) -> None:
        if request.row is not None:
            self._model.stack.release(request.row)
            request.row = None

    def _put_back(self, requests: Sequence[Request]) -> None:
        for request in requests:  # a row that a waiting request kept could be waited for for ever
            self._give_row_back(request)
        with self._lock:
            self._waiting.extendleft(reversed(requests))

    @contextmanager
    def _failing(self, requests: Sequence[Request]) -> Iterator[None]:
        """Whatever goes wrong is the requests' own error; the engine goes on."""
        try:
            yield
        except Exception as error:
            for request in requests:
                request.stream.failed(error)
            for request in requests:
                self._give_slot_back(request)
                self._give_row_back(request)


def _read_lora(base: Base, name: str, folder: Path) -> Lora | str:
    """An adapter's weights, read by PEFT onto a skeleton of the base, which has no weights."""
    with torch.device("meta"):
        skeleton = type(base.model)(base.model.config)
    for module in skeleton.modules():
        for kind, tensor in list(module.named_parameters(recurse=False)):
            # Not on meta: PEFT moves an adapter to where its base is.
            setattr(module, kind, nn.Parameter(torch.zeros(()).expand(tensor.shape), False))
    loaded = attach(replace(base, model=skeleton), name, folder, onto_nothing=True)
    return lora_of(loaded.model, name)


@contextmanager
def pocket_folder() -> Iterator[Path]:
    """The pocket model's files as a folder."""
    with as_file(files("pointsman.pocket") / "model") as folder:
        yield folder
