"""The batch: requests in slots, let in and out between two steps of the model.

Each request has a slot for its keys and values and a row of the stacked adapters, so that any mix
of adapters is one batch. One thread owns it, see ``Engine``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pointsman.adapters.load import attach
from pointsman.adapters.weights import Lora, lora_of
from pointsman.conversation import routed_part
from pointsman.engine.answer import make_answer
from pointsman.engine.forward import Forward, Routing, Shape
from pointsman.engine.lora_stack import LoraStack
from pointsman.engine.plan import Plan
from pointsman.engine.prefix_cache import PrefixCache
from pointsman.engine.request import Request, failing
from pointsman.engine.sampling import Sampler
from pointsman.errors import ConfigError, SampleError
from pointsman.models.base import Base
from pointsman.models.cpu_kernels import to_device
from pointsman.models.encoding import Encoded, join
from pointsman.models.features import Reader
from pointsman.routing.route import Held
from pointsman.routing.router import Router
from pointsman.routing.scores import Evidence
from pointsman.routing.sessions import Sessions

_PREFILL_TOKENS = {"cpu": 4096, "cuda": 16384}
"""Padded tokens of one prefill; more at once only spill a CPU's caches"""


class Scheduler:
    """Answers requests with stacked adapters, by any plan but ``peft``.

    Args:
        base: without PEFT; it is the batch's from now on.
        reader: the base, or the router's text encoder.
        stack: with the router's adapters as its first labels.
        slots: requests at work at the same time.
        kept: conversations of which only what is new is read.
        shapes: of compiled prefills, see ``Forward``.
    """

    def __init__(
        self,
        base: Base,
        router: Router,
        plan: Plan,
        stack: LoraStack,
        slots: int,
        kept: int,
        reader: Reader,
        sessions: Sessions,
        shapes: Sequence[Shape] = (),
    ) -> None:
        self._base, self._router, self._plan, self.stack = base, router, plan, stack
        self._reader, self._sessions = reader, sessions
        self.forward = Forward(base, stack, slots + kept, shapes=shapes)
        self._on_device = router.to(base.device)
        self._shelf = PrefixCache(range(slots, slots + kept))
        self._slots = slots
        self._at_work: dict[int, Request] = {}
        self._again: list[Request] = []
        """Requests that are to be begun once more"""
        self._invocation = stack.invocation
        # What the base's keys alone are kept of can be continued by any adapter.
        self._any_adapter = plan.name == "activated"
        self._reads_the_end = router.recipe.poolings == ("last",)
        self._ends = base.ends
        self._longest = int(base.config.text_config.max_position_embeddings)

    @property
    def at_work(self) -> list[Request]:
        return list(self._at_work.values())

    @property
    def room(self) -> int:
        """Requests that can be let in."""
        return self._slots - len(self._at_work)

    def rest(self) -> None:
        """Before the model is used otherwise: the base alone answers."""
        self.forward.forget_steps()

    def add(self, name: str, folder: Path) -> None:
        """Loads one more adapter. Raises ``ConfigError`` if it does not go with the plan."""
        lora = _read_lora(self._base, name, folder)
        if isinstance(lora, str) or lora.invocation != self._invocation:
            reason = lora if isinstance(lora, str) else "other tokens invoke it"
            raise ConfigError(
                f"adapter {name!r} does not go with plan {self._plan.name} ({reason}); "
                "give it an engine of its own"
            )
        if self._plan.name == "in-pass" and lora.lowest_layer < self._router.layer:
            raise ConfigError(
                f"adapter {name!r} changes layer {lora.lowest_layer}, below the router's "
                f"layer {self._router.layer}; give it an engine with plan two-pass"
            )
        self.stack.add(lora)

    def remove(self, name: str) -> None:
        self.stack.remove(name)
        self._shelf.forget(name)

    def run(self, requests: Sequence[Request]) -> list[Request]:
        """Lets requests in and makes one token for all; those that must wait on come back."""
        waiting = self._admit(requests)
        self._step()
        waiting, self._again = self._again + waiting, []
        return waiting

    def _admit(self, requests: Sequence[Request]) -> list[Request]:
        """Reads the prompts of requests into free slots; gives those that wait for a row."""
        fresh: list[Request] = []
        waiting: list[Request] = []
        for index, request in enumerate(requests):
            with self._failing([request]):
                if request.routed and not self._is_routed_within(request):
                    self._route_ahead(request)
                if not self._gets_row(request):  # and nobody overtakes who waits for one
                    waiting = list(requests[index:])
                    break
                self._encode(request)
                if not self._continue(request):
                    fresh.append(request)
        for batch in self._batches(fresh):
            with self._failing(batch):
                self._read(batch)
        return waiting

    def _is_routed_within(self, request: Request) -> bool:
        """Whether the forward that answers a request reads what the router is to read."""
        turns = request.prompt.turns
        seen, _ = routed_part(turns, request.prompt.images, self._router.recipe.history)
        return self._reader is self._base and seen == turns

    def _route_ahead(self, request: Request) -> None:
        """Decides by a forward of its own; from then on the request is as good as named."""
        self.rest()
        held = self._sessions.held([request.session], torch.device("cpu"))
        [decision] = self._router.route(self._reader, [request.prompt], held)
        request.decided(decision)
        request.routed = False
        self._sessions.decided(request.session, decision)

    def _encode(self, request: Request) -> None:
        encoded = self._base.encode([request.prompt])
        request.encoded = encoded
        request.ids = encoded["input_ids"][0].tolist()
        if "image_digests" in encoded:
            request.digests = encoded["image_digests"].tolist()
        if (image := self._base.config.image_token_id) in request.ids:
            request.shown = len(request.ids) - request.ids[::-1].index(image)
        request.tail = self._tail_of(request)

    def _gets_row(self, request: Request) -> bool:
        """Whether a request's adapter is there; False: every row answers somebody."""
        if not request.routed and request.adapter is not None:
            request.row = self.stack.acquire(request.adapter)
            return request.row is not None
        return True

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        """Requests of like length, so that little of a prefill is padding."""
        most = _PREFILL_TOKENS.get(self._base.device.type, _PREFILL_TOKENS["cuda"])
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
        encoded = join([request.encoded for request in requests if request.encoded])
        features = self._base.image_features(encoded)
        for request in requests:
            self._take_slot(request)
        self._begin(requests, encoded, features, lambda request: request.adapter)

    def _begin(
        self,
        requests: Sequence[Request],
        encoded: Encoded,
        features: dict[str, Any],
        answerer: Callable[[Request], str | None],
        known: int = 0,
        row: int | None = None,
    ) -> None:
        """One prefill, what was decided on the way, and the first token of each request.

        Args:
            answerer: whose row a request was read with, once its decision is known.
            row: with which all are read, whatever the router decides.
        """
        named = self._rows(requests)
        held = self._sessions.held([request.session for request in requests], self._base.device)
        decided: list[Evidence] = []
        recipe, normalise = self._router.recipe, self._reader.normalises

        def decide(reads: Sequence[Tensor], batch: Encoded) -> Tensor:
            features = [recipe.pool(states, batch, normalise=normalise) for states in reads]
            decided.append(self._on_device.read(torch.cat(features, 1)))
            if row is not None:
                return torch.full_like(named, row)
            labels = self._router.answering(self._router.labels_of(decided[0], held))
            return torch.where(named < 0, self.stack.rows_of(labels), named)

        routed = any(request.routed for request in requests)
        routing = Routing(self._router.recipe.layers, decide, again=self._plan.name == "two-pass")
        with self.forward.threads(encoded["input_ids"].numel() - known):
            logits = self.forward.prefill(
                encoded,
                features,
                [request.slot for request in requests],
                None if routed else named,
                routing if routed else None,
                tail=requests[0].tail,
                known=known,
            )
        if routed:
            self._decided(requests, decided[0], held)
        there = [at for at, r in enumerate(requests) if r.slot >= 0]  # others were refused
        right = [at for at in there if self._has_row(requests[at], answerer(requests[at]))]
        # Of the others the adapter was not on the device, or the slot was another's.
        wrong = [requests[at] for at in there if at not in right]
        for request in wrong:  # a row that a waiting request kept could be waited for for ever
            self._leave(request)
        self._again += wrong
        if right:
            logits = logits[right] if len(right) < len(requests) else logits
            self._say(self._draw([requests[at] for at in right], logits))

    def _decided(self, requests: Sequence[Request], evidence: Evidence, held: Held | None) -> None:
        """Reads the router's decisions back."""
        routes = self._router.routes_of(evidence, held)
        for request, decision in zip(requests, routes, strict=True):
            with self._failing([request]):
                if request.routed:
                    request.decided(decision)
                    self._sessions.decided(request.session, decision)

    def _has_row(self, request: Request, answered: str | None) -> bool:
        """Whether a request that was routed just now was read with its adapter's row."""
        if not request.routed:
            return True
        request.routed = False
        was_there = request.adapter is None or self.stack.is_resident(request.adapter)
        if request.adapter is not None and was_there:
            request.row = self.stack.acquire(request.adapter)
        return was_there and answered == request.adapter

    def _continue(self, request: Request) -> bool:
        """Reads only what is new of a conversation whose earlier turns are kept, if they are."""
        if request.routed and (self._plan.name == "two-pass" or not self._reads_the_end):
            return False
        found = self._shelf.find(request, self._any_adapter)
        if found is None:
            return False
        place, known, adapter = found
        row: int | None = None
        if not self._any_adapter:
            if adapter is not None and not self.stack.is_resident(adapter):
                return False
            row = self.stack.zero if adapter is None else self.stack.row_of(adapter)
        self._take_slot(request)
        self.forward.slots.move(place, request.slot, known)

        def answerer(request: Request) -> str | None:
            return request.adapter if self._any_adapter else adapter

        assert request.encoded is not None
        self._begin([request], request.encoded, {}, answerer, known, row)
        return True

    def _rows(self, requests: Sequence[Request]) -> Tensor:
        """(B,) rows of requests whose adapter is known, -1 for the others."""
        zero = self.stack.zero
        rows = [-1 if r.routed else zero if r.row is None else r.row for r in requests]
        return to_device(torch.tensor(rows), self._base.device)

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
        slots = to_device(torch.tensor([r.slot for r in requests]), logits.device)
        likeliest = logits.argmax(-1)
        self.forward.tokens[slots] = likeliest
        drawn: list[tuple[Request, int]] = []
        for request, token, scores in zip(requests, likeliest.tolist(), logits, strict=True):
            with self._failing([request]):
                if not request.sampling.is_plain:
                    if request.sampler is None:
                        request.sampler = Sampler(request.sampling, request.ids)
                    token = request.sampler.draw(scores)
                    self.forward.tokens[request.slot].fill_(token)
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
            with self.forward.threads(count):
                logits = self.forward.step(count, longest)
            if len(requests) < count:
                slots = torch.tensor([request.slot for request in requests])
                logits = logits[to_device(slots, logits.device)]
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
        text = self._base.decode(torch.tensor(request.tokens))
        request.show(text, is_last)
        if is_last:
            self._finish(request, text)

    def _finish(self, request: Request, text: str) -> None:
        self._keep(request)
        self._leave(request)
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
            self.forward.slots.move(request.slot, place, len(ids))

    def _take_slot(self, request: Request) -> None:
        request.slot = next(slot for slot in range(self._slots) if slot not in self._at_work)
        self._at_work[request.slot] = request

    def _leave(self, request: Request) -> None:
        """Gives a request's slot and row back."""
        if request.slot >= 0:
            del self._at_work[request.slot]
            self.forward.release(request.slot)
            request.slot = -1
        if request.row is not None:
            self.stack.release(request.row)
            request.row = None

    @contextmanager
    def _failing(self, requests: Sequence[Request]) -> Iterator[None]:
        """As ``failing``; who fails leaves the batch."""
        with failing(requests, self._leave):
            yield


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
