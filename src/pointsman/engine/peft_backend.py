"""Routing and generating through PEFT and transformers alone: for any adapter, one at a time.

The engine uses it if adapters cannot be stacked. One base serves both: adapters are off while it
reads for the router, the vision tower runs once for routing and answering, and the forward for
routing stops at the router's layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import torch

from pointsman.adapters.load import Adapter
from pointsman.adapters.peft import attach, check_answer, detach
from pointsman.adapters.with_loras import check_loaded
from pointsman.conversation import Prompt
from pointsman.engine.answer import Answer, make_answer
from pointsman.engine.peft_generate import Limit, said_by_all
from pointsman.engine.request import Request, failing
from pointsman.errors import ArtefactError, ConfigError, RequestError
from pointsman.models.base import Base
from pointsman.models.encoding import join, padded_left
from pointsman.models.features import Reader
from pointsman.models.qwen3_vl import MAX_NEW_TOKENS
from pointsman.models.text_encoder import TextEncoder
from pointsman.routing.route import Route
from pointsman.routing.router import Router
from pointsman.routing.sessions import Sessions


@overload
def route_and_generate(
    base: Base,
    router: Router | str | Path,
    prompts: Prompt,
    *,
    adapters: str | None = ...,
    max_new_tokens: int = ...,
) -> Answer: ...


@overload
def route_and_generate(
    base: Base,
    router: Router | str | Path,
    prompts: Sequence[Prompt],
    *,
    adapters: Sequence[str | None] | None = ...,
    max_new_tokens: int = ...,
) -> list[Answer]: ...


def route_and_generate(
    base: Base,
    router: Router | str | Path,
    prompts: Prompt | Sequence[Prompt],
    *,
    adapters: str | Sequence[str | None] | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Answer | list[Answer]:
    """Routes requests and answers each greedily with its adapter (abstained: the base).

    The vision tower runs once per image, and again for adapters that change it. Requests of one
    adapter are answered together. Not thread-safe: call it from the thread that owns the model.

    Args:
        base: with the router's adapters loaded, as ``load_base_with_loras`` returns it.
        router: a router or its folder.
        prompts: one, or several in a batch.
        adapters: the adapter that answers each prompt (None: the base); by default the router
            decides.

    Returns:
        An answer for one prompt, a list for several.

    Raises:
        LabelError: an adapter is not loaded.
        ArtefactError: an adapter's logits are not finite.
    """
    router = router if isinstance(router, Router) else Router.load(Path(router))
    if isinstance(prompts, Prompt):
        named: Any = None if adapters is None else [adapters]
        return route_and_generate(
            base, router, [prompts], adapters=named, max_new_tokens=max_new_tokens
        )[0]
    if not prompts:
        return []
    names, routes = _decided(base, router, prompts, adapters)
    encoded = base.encode(prompts, padding_side="left")
    answers = []
    limits: list[Limit] = [lambda said: said >= max_new_tokens] * len(prompts)
    said = said_by_all(base, names, prompts, encoded, limits)
    for row, (tokens, reason) in enumerate(said):
        answer = make_answer(
            base.decode(torch.tensor(tokens)),
            names[row],
            prompts[row],
            routes[row],
            finish_reason=reason,
            prompt_tokens=int(encoded["attention_mask"][row].sum()),
            completion_tokens=len(tokens),
        )
        answers.append(answer)
    return answers


def _decided(
    base: Base,
    router: Router,
    prompts: Sequence[Prompt],
    adapters: str | Sequence[str | None] | None,
) -> tuple[list[str | None], Sequence[Route | None]]:
    """The adapter of each prompt, and the decision if the router made it."""
    if adapters is None:
        routes = router.route(base, prompts)
        return [decision.adapter for decision in routes], routes
    if len(adapters) != len(prompts):
        raise RequestError(f"{len(adapters)} adapters for {len(prompts)} prompts; give as many")
    for name in adapters:
        if name is not None:
            check_loaded(base, name)
    return list(adapters), [None] * len(prompts)


class PeftBackend:
    """A ``Backend`` that answers requests for any adapters, one adapter's requests at a time.

    Args:
        base: a base without adapters; they are added one by one.
        encoder: the text encoder of a text-only router.
        slots: number of requests that can be answered in one batch.
        fallback: what answers if the router abstains.
    """

    def __init__(
        self,
        base: Base,
        router: Router,
        encoder: TextEncoder | None,
        sessions: Sessions,
        *,
        slots: int,
        fallback: str,
    ) -> None:
        self.base, self._router, self._sessions = base, router, sessions
        self._encoder, self._fallback, self._slots = encoder, fallback, slots
        self.at_work: list[Request] = []
        """Requests of one adapter, which the next run answers"""

    @property
    def room(self) -> int:
        return 0 if self.at_work else self._slots

    def rest(self) -> None:
        """Does nothing: no adapter stays on between two requests."""

    def prepare(self, request: Request) -> None:
        request.encoded = self.base.prepare([request.prompt])
        request.ids = request.encoded["input_ids"][0].tolist()
        if request.routed:
            request.for_router = self._router.prepare(self._reader, [request.prompt])

    def settle(self) -> None:
        """Nothing is left between two runs."""

    def use_router(self, router: Router) -> None:
        self._router = router

    def add(self, adapter: Adapter) -> None:
        base = attach(self.base, adapter.name, adapter)
        if isinstance(adapter.lora, str):  # any other was probed before it was attached
            try:
                check_answer(base, adapter.name)
            except ArtefactError:
                detach(base.model, adapter.name)
                raise
        self.base = base

    def remove(self, name: str) -> None:
        if any(request.adapter == name for request in self.at_work):
            raise ConfigError(f"adapter {name!r} is answering requests; remove it afterwards")
        adapters = {other: path for other, path in self.base.adapters.items() if other != name}
        detach(self.base.model, name)
        self.base = replace(self.base, adapters=adapters)

    def run(self, requests: Sequence[Request]) -> list[Request]:
        """Routes requests and admits those of one adapter; the next run answers them."""
        if self.at_work:
            _one_by_one(self._answer, self.at_work)
            self.at_work = []
            return list(requests)
        _one_by_one(self._route, [request for request in requests if request.routed])
        ready = [request for request in requests if not request.feed.is_done]
        self.at_work = [request for request in ready if request.adapter == ready[0].adapter]
        return [request for request in ready if request not in self.at_work]

    @property
    def _reader(self) -> Reader:
        """What reads for the router."""
        return self._encoder or self.base

    def _answer(self, requests: Sequence[Request]) -> None:
        prepared = [request.encoded for request in requests if request.encoded]
        said = said_by_all(
            self.base,
            [request.adapter for request in requests],
            [request.prompt for request in requests],
            padded_left(self.base.on_device(*prepared)),
            [partial(_is_at_end, request) for request in requests],
        )
        for request, (tokens, reason) in zip(requests, said, strict=True):
            if reason == "length" and len(tokens) < request.max_new_tokens:
                reason = "cancelled" if request.feed.is_cancelled else reason
            request.finish(self.base.decode(torch.tensor(tokens)), reason, len(tokens))

    def _route(self, requests: Sequence[Request]) -> None:
        held = self._sessions.held([r.session for r in requests], torch.device("cpu"))
        prepared = join([request.for_router for request in requests])
        routes = self._router.route_prepared(self._reader, prepared, held, self._fallback)
        for request, decision in zip(requests, routes, strict=True):
            with failing([request]):
                request.decide(decision)
                self._sessions.decided(request.session, decision)


def _is_at_end(request: Request, said: int) -> bool:
    return said >= request.max_new_tokens or request.feed.is_cancelled


def _one_by_one(work: Callable[[Sequence[Request]], None], requests: Sequence[Request]) -> None:
    """Does the work for all requests; if that fails, one by one: they show which request fails."""
    try:
        if requests:
            work(requests)
        return
    except Exception:
        pass  # and with the error goes what the failed forward held
    for request in requests:
        with failing([request]):
            work([request])
