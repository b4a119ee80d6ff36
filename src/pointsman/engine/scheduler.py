"""The scheduler: admits requests into slots between two steps of the model, and ends them.

Each request has a slot for its keys and values and a row of the LoRA stack, so any mix of adapters
runs as one batch. One thread owns it, see ``Worker``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor

from pointsman.adapters.load import Adapter
from pointsman.conversation import routed_part
from pointsman.engine.answer import FinishReason
from pointsman.engine.forward import Forward
from pointsman.engine.logprobs import Logprobs
from pointsman.engine.lora_stack import LoraStack
from pointsman.engine.plan import Plan
from pointsman.engine.prefill import Known, Prefill
from pointsman.engine.prefix_cache import PrefixCache
from pointsman.engine.request import Request, failing, not_finite
from pointsman.engine.sampling import Sampler
from pointsman.engine.step import NOT_FINITE, Step
from pointsman.errors import ConfigError, SampleError
from pointsman.models.base import Base, drained
from pointsman.models.features import Reader
from pointsman.routing.route import Route
from pointsman.routing.router import Router
from pointsman.routing.sessions import Sessions

_NOTHING = Known()
_WHILE = 0.022
"""Seconds for which prompts are read while others wait for their next tokens"""


class _Asked(NamedTuple):
    """A step that was asked for, and for whom."""

    step: Step
    requests: Sequence[Request]
    slots: Sequence[int]
    """Of the requests, then"""


class Scheduler:
    """A ``Backend`` that answers requests with stacked adapters, under any plan except ``peft``.

    Args:
        base: a base without PEFT; the scheduler takes it over.
        reader: the base, or the router's text encoder.
        stack: the LoRA stack, with the router's adapters as its first labels.
        slots: number of requests that can run at the same time.
        kept: number of conversations in the prefix cache.
        fallback: what answers if the router abstains.
        shapes: shapes of compiled prefills, see ``Forward``.
    """

    def __init__(
        self,
        base: Base,
        router: Router,
        plan: Plan,
        stack: LoraStack,
        reader: Reader,
        sessions: Sessions,
        *,
        slots: int,
        kept: int,
        fallback: str,
    ) -> None:
        self.base, self._router, self._plan, self.stack = base, router, plan, stack
        self._reader, self._sessions = reader, sessions
        self.forward = Forward(base, stack, slots, kept=kept)
        self._fallback = fallback
        self._prefill = Prefill(base, router, plan, stack, self.forward, reader, sessions, fallback)
        self._prefixes = PrefixCache(range(slots, slots + kept))
        self._slots = slots
        self._at_work: dict[int, Request] = {}
        self._again: list[Request] = []
        """Requests to be started again"""
        self._reading: Iterator[bool | None] | None = None
        """Reads the prompts of what was admitted, part by part"""
        self._step_seconds = 0.0
        self._ahead: _Asked | None = None
        """The step after the last one that was read"""
        # A CPU computes a step when it is asked for: asking early would delay the tokens before.
        self.asks_ahead = base.device.type == "cuda"
        self._invocation = stack.invocation
        # Cached keys of an aLoRA's prompt come from the base alone: any adapter can reuse them.
        self._any_adapter = plan.name == "activated"
        self._reads_the_end = router.recipe.poolings == ("last",)
        self._ends = base.ends
        self._logprobs = Logprobs(base.tokenizer)
        self._longest = int(base.config.text_config.max_position_embeddings)

    @property
    def at_work(self) -> list[Request]:
        return list(self._at_work.values())

    @property
    def room(self) -> int:
        # While prompts are read, no row may be exchanged for another adapter's.
        return 0 if self._reading is not None else self._slots - len(self._at_work)

    @property
    def _running(self) -> list[Request]:
        """Requests whose prompts are read, by slot."""
        return [r for _, r in sorted(self._at_work.items()) if r.tokens]

    def rest(self) -> None:
        self._read_ahead()
        self.forward.forget_steps()

    def prepare(self, request: Request) -> None:
        encoded = self.base.prepare([request.prompt])
        request.encoded = encoded
        request.ids = encoded["input_ids"][0].tolist()
        if "image_digests" in encoded:
            request.digests = encoded["image_digests"].tolist()
        if (image := self.base.config.image_token_id) in request.ids:
            request.image_prefix_len = len(request.ids) - request.ids[::-1].index(image)
        request.tail = self._tail_of(request)
        if request.routed and not self._is_routed_within(request):
            request.for_router = self._router.prepare(self._reader, [request.prompt])

    def settle(self) -> None:
        for _ in self._reading or ():
            pass
        self._reading = None

    def use_router(self, router: Router) -> None:
        self._router = router
        self._prefill.use_router(router)
        self._reads_the_end = router.recipe.poolings == ("last",)

    def add(self, adapter: Adapter) -> None:
        name, lora = adapter.name, adapter.lora
        if isinstance(lora, str) or lora.invocation != self._invocation:
            reason = lora if isinstance(lora, str) else "other tokens invoke it"
            raise ConfigError(
                f"adapter {name!r} does not suit plan {self._plan.name} ({reason}); "
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
        self._prefixes.forget(name)

    def run(self, requests: Sequence[Request]) -> list[Request]:
        waiting = self._admit(requests)
        self._read_on()
        self._step()
        waiting, self._again = self._again + waiting, []
        return waiting

    def _admit(self, requests: Sequence[Request]) -> list[Request]:
        """Begins to read requests' prompts into free slots; returns those that wait for a row."""
        fresh: list[Request] = []
        waiting: list[Request] = []
        for index, request in enumerate(requests):
            with self._failing([request]):
                if request.routed and request.for_router is not None:
                    self._route_ahead(request)
                has_row = self._gets_row(request)
                if not has_row and self._ahead is not None:
                    self._read_ahead()  # answers that end with its tokens release rows
                    has_row = self._gets_row(request)
                if not has_row:  # and none may overtake one that waits for a row
                    waiting = list(requests[index:])
                    break
                if not self._continue(request):
                    fresh.append(request)
        if fresh:
            for request in fresh:
                self._take_slot(request)
            self._reading = self._read_all(fresh)
        return waiting

    def _read_on(self) -> None:
        """Reads prompts: to the end, or for a while if others wait for their next tokens."""
        last = time.perf_counter()
        until = last + max(_WHILE, 3 * self._step_seconds)
        for is_whole in self._reading or ():
            if self._ahead is not None:  # the device has this part to do meanwhile
                self._read_ahead()
                last, until = time.perf_counter(), until + time.perf_counter() - last
            if self._running:
                if is_whole and self.asks_ahead:  # the device has their step to do meanwhile
                    return
                outstanding = self.forward.keep_pace()
                now = time.perf_counter()
                if now + (outstanding + 1) * (now - last) > until:  # with one more part
                    return
                last = now
        self._reading = None

    def _read_all(self, requests: Sequence[Request]) -> Iterator[bool | None]:
        """Reads prompts in batches; it yields after each part, and True before it waits for what a
        batch made."""
        for batch in self._prefill.batches(requests):
            yield from self._read(batch)

    def _is_routed_within(self, request: Request) -> bool:
        """Whether the forward that answers a request also reads what the router reads."""
        turns = request.prompt.turns
        seen, _ = routed_part(turns, request.prompt.images, self._router.recipe.history)
        return self._reader is self.base and seen == turns

    def _route_ahead(self, request: Request) -> None:
        """Routes by a separate forward; from then on the request is treated as a named one."""
        self.rest()
        held = self._sessions.held([request.session], torch.device("cpu"))
        [decision] = self._router.route_prepared(
            self._reader, request.for_router, held, self._fallback
        )
        self._take(request, decision)

    def _take(self, request: Request, decision: Route) -> None:
        request.decide(decision)
        self._sessions.decided(request.session, decision)

    def _gets_row(self, request: Request) -> bool:
        """Whether a request's adapter is on the device; False: every row is answering."""
        if request.routed or request.adapter is None:
            return True
        request.row = self.stack.acquire(request.adapter)
        return request.row is not None

    def _read(self, requests: Sequence[Request]) -> Iterator[bool | None]:
        """Reads complete prompts into their slots; one by one if they fail together."""
        with self._failing(requests):
            try:
                prepared = [request.encoded for request in requests if request.encoded]
                on_device = self.base.on_device(*prepared)
                read = yield from self._prefill(requests, on_device, _NOTHING)
            except Exception:
                if len(requests) == 1:
                    raise
                read = None
            # Not in the handler: until it ends, the failed forward's tensors take the memory.
            if read is not None:
                yield True
                self._begin(requests, *read)
                return
            for request in requests:
                yield from self._read([request])

    def _continue(self, request: Request) -> bool:
        """Reads only the new part of a conversation whose start is in the prefix cache."""
        if request.routed and (self._plan.name == "two-pass" or not self._reads_the_end):
            return False
        found = self._prefixes.find(request, self._any_adapter)
        if found is None:
            return False
        place, tokens, adapter = found
        if self._any_adapter:
            known = Known(tokens)
        elif adapter is None or self.stack.is_resident(adapter):
            known = Known(
                tokens, self.stack.zero if adapter is None else self.stack.row_of(adapter)
            )
        else:
            return False
        self._take_slot(request)
        self.forward.slots.move(place, request.slot, tokens)
        assert request.encoded is not None
        read = drained(self._prefill([request], self.base.on_device(request.encoded), known))
        self._begin([request], *read, known)
        return True

    def _begin(
        self,
        requests: Sequence[Request],
        step: Step,
        routes: Callable[[], list[Route | None]],
        known: Known = _NOTHING,
    ) -> None:
        """Applies the decisions of a prefill, and takes the first token of each request."""
        is_read = [
            self._is_read(request, decision, known)
            for request, decision in zip(requests, routes(), strict=True)
        ]
        # A request may have failed; or its adapter was not on the device, or another's row read it.
        wrong = [r for r, read in zip(requests, is_read, strict=True) if not read and r.slot >= 0]
        for request in wrong:  # a row that a waiting request kept could be waited for for ever
            self._leave(request)
        self._again += wrong
        if right := [at for at, read in enumerate(is_read) if read]:
            read, tokens = [requests[at] for at in right], step.likeliest
            tokens = tokens[right] if len(right) < len(requests) else tokens
            self.forward.begin([request.slot for request in read], tokens)
            self._say(self._draw(read, step.tokens(), step.logits, right))

    def _is_read(self, request: Request, decision: Route | None, known: Known) -> bool:
        """Applies a request's decision; returns whether its prompt was read with the right row."""
        if decision is None:
            return True
        with self._failing([request]):
            self._take(request, decision)
        if request.slot < 0:  # it was refused
            return False
        if request.adapter is None:
            return known.row in (None, self.stack.zero)
        if not self.stack.is_resident(request.adapter):
            return False
        request.row = self.stack.acquire(request.adapter)
        return known.row in (None, request.row)

    def _tail_of(self, request: Request) -> int:
        """Number of a prompt's last tokens on which activated adapters act; 0 if none does."""
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

    def _draw(
        self,
        requests: Sequence[Request],
        tokens: Sequence[int],
        logits: Tensor,
        places: Sequence[int],
    ) -> list[tuple[Request, int]]:
        """The next token of each request, which is also set for the step.

        Requests that fail here, or whose logits are not finite, are left out.

        Args:
            tokens: the likeliest at each place, already set.
            logits: (places, vocabulary).
            places: the requests'.
        """
        drawn: list[tuple[Request, int]] = []
        for request, place in zip(requests, places, strict=True):
            with self._failing([request]):
                token = tokens[place]
                if token == NOT_FINITE:
                    raise not_finite(request.adapter)
                if not request.sampling.is_plain:
                    if request.sampler is None:
                        request.sampler = Sampler(request.sampling, request.ids, self._ends)
                    token = request.sampler.draw(logits[place])
                    self.forward.tokens[request.slot].fill_(token)
                if (count := request.sampling.logprobs) is not None:
                    request.feed.logprobs.append(self._logprobs.read(logits[place], token, count))
                drawn.append((request, token))
        return drawn

    def _step(self) -> None:
        """Makes one more token for every running request."""
        began = time.perf_counter()
        self._grow()
        asked, self._ahead = self._ahead or self._ask(self._running), None
        if asked is None:
            return
        if self.asks_ahead and self._reading is not None:
            self._ahead = asked
            return
        if self.asks_ahead:
            self._ahead = self._ask(self._going_on(asked.requests), after=1)
        self._read_step(asked)
        if not self._running:
            self._ahead = None
        if self._reading is None:  # else a part of it was waited for
            self._step_seconds = time.perf_counter() - began

    def _ask(self, requests: Sequence[Request], after: int = 0) -> _Asked | None:
        """Has a step made for these requests; None if it failed, or there are none.

        Args:
            after: number of steps before it that are not read yet.
        """
        if not requests:
            return None
        with self._failing(requests):
            count = requests[-1].slot + 1
            longest = max(request.length for request in requests) + after
            with self.forward.threads(count):
                step = self.forward.step(count, longest)
            return _Asked(step, requests, [request.slot for request in requests])
        return None

    def _going_on(self, asked: Sequence[Request]) -> Sequence[Request]:
        """The running requests, if their next step can be asked for before this one is read.

        An answer may end with a token that nobody has read; what is made after it is ignored.

        Args:
            asked: requests with a token in this step; others have begun since it was asked for.
        """
        running = self._running
        for request in running:
            sampling = request.sampling
            if not sampling.is_plain or sampling.logprobs is not None:
                return ()  # the host chooses its token, or reads the logits
            if request.length + 1 >= self.forward.slots.length:
                return ()  # slots would have to grow first
        unread = set(asked)
        return [r for r in running if len(r.tokens) + (r in unread) < r.max_new_tokens]

    def _read_ahead(self) -> None:
        """Reads the step that was asked for ahead, if there is one."""
        asked, self._ahead = self._ahead, None
        if asked is not None:
            self._read_step(asked)

    def _read_step(self, asked: _Asked) -> None:
        """Takes a step's tokens, except for requests that have ended since it was asked for."""
        running = [r for r, slot in zip(asked.requests, asked.slots, strict=True) if r.slot == slot]
        with self._failing(running):
            slots = [request.slot for request in running]
            self._say(self._draw(running, asked.step.tokens(), asked.step.logits, slots))

    def _grow(self) -> None:
        """Makes room for the next tokens; without memory, the requests that need room fail."""
        room = self.forward.slots.length
        if long := [r for r in self._running if r.length >= room]:
            with self._failing(long):
                self.forward.reserve(1 + max(request.length for request in long))

    def _say(self, said: Iterable[tuple[Request, int]]) -> None:
        """Takes the next token of each request; finished requests release their slots."""
        for request, token in said:
            with self._failing([request]):
                self._say_one(request, token)

    def _say_one(self, request: Request, token: int) -> None:
        if request.route is None:
            request.feed.decide(None)
        if request.decoder is None:
            request.decoder = DecodeStream(skip_special_tokens=True)
        request.tokens.append(token)
        request.feed.completion_tokens = len(request.tokens)
        request.say(request.decoder.step(self.base.tokenizer.backend_tokenizer, token))
        reason = self._finish_reason(request, token)
        if reason is None:
            request.pass_on()
        else:
            self._keep(request)
            self._leave(request)
            request.finish(self.base.decode(torch.tensor(request.tokens)), reason)

    def _finish_reason(self, request: Request, token: int) -> FinishReason | None:
        """The reason why the answer ends with this token; None: it continues."""
        is_end = token in self._ends and not request.sampling.ignore_eos
        if is_end or request.stopping.found is not None:
            return "stop"
        if request.feed.is_cancelled:
            return "cancelled"
        room = self._longest - request.length
        return "length" if len(request.tokens) >= request.max_new_tokens or room < 1 else None

    def _keep(self, request: Request) -> None:
        """Stores the read tokens in the prefix cache, for the conversation's next turn."""
        # The last token was said but not read. Activated adapters act on the end of a prompt, so
        # that only what lies before it is the base's.
        ids = request.ids + request.tokens[:-1]
        ids = request.ids[: -request.tail] if request.tail else ids
        place = self._prefixes.put(ids, request.digests, request.adapter)
        if place is None:
            return
        try:
            self.forward.slots.move(request.slot, place, len(ids))
        except Exception:
            self._prefixes.drop(place)  # its content is partly another's
            raise

    def _take_slot(self, request: Request) -> None:
        request.slot = next(slot for slot in range(self._slots) if slot not in self._at_work)
        self._at_work[request.slot] = request

    def _leave(self, request: Request) -> None:
        """Releases a request's slot and row."""
        if request.slot >= 0:
            self.forward.release(request.slot)  # first: a slot that still counts is no free one
            del self._at_work[request.slot]
            request.slot = -1
        if request.row is not None:
            self.stack.release(request.row)
            request.row = None

    @contextmanager
    def _failing(self, requests: Sequence[Request]) -> Iterator[None]:
        """As ``failing``; failed requests leave the batch."""
        with failing(requests, self._leave):
            yield
