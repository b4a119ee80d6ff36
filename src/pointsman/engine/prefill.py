"""Prefill: reads prompts into slots and, during the forward, lets the router choose adapters."""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pointsman.engine.forward import Forward, Routing
from pointsman.engine.lora_stack import LoraStack
from pointsman.engine.plan import Plan
from pointsman.engine.request import Request
from pointsman.engine.step import HostCopy, Step, likeliest_of
from pointsman.models.base import Base
from pointsman.models.cpu_kernels import to_device
from pointsman.models.encoding import Encoded
from pointsman.models.features import Reader
from pointsman.routing.route import Route
from pointsman.routing.router import Router
from pointsman.routing.scores import Evidence
from pointsman.routing.sessions import Sessions

_PREFILL_TOKENS = {"cpu": 4096, "cuda": 9216}
"""Padded tokens of one prefill. More would overflow a CPU's caches, and would make a layer on an
accelerator take longer than others should wait for a token."""


class Known(NamedTuple):
    """The start of a conversation that is already in its slot."""

    tokens: int = 0
    row: int | None = None
    """The row that read it and must read the rest, regardless of the router's decision"""


class Prefill:
    """Runs prompts through the base, the router and the adapters. See ``Scheduler``."""

    def __init__(
        self,
        base: Base,
        router: Router,
        plan: Plan,
        stack: LoraStack,
        forward: Forward,
        reader: Reader,
        sessions: Sessions,
        fallback: str,
    ) -> None:
        self._base, self._stack = base, stack
        self._forward, self._reader, self._sessions = forward, reader, sessions
        self._fallback = fallback
        self._reads_again = plan.name == "two-pass"
        self.use_router(router)

    def use_router(self, router: Router) -> None:
        """Decides with another router from the next prefill on."""
        self._router, self._on_device = router, router.to(self._base.device)

    def __call__(
        self, requests: Sequence[Request], encoded: Encoded, known: Known
    ) -> Generator[None, None, tuple[Step, Callable[[], list[Route | None]]]]:
        """Reads the prompts of B requests into their slots.

        It yields after every part of the work, see ``Forward.reading``, and waits for none.

        Args:
            encoded: their batch, on the device.
            known: for a single request, the part already in its slot.

        Returns:
            The first tokens, and what waits for each request's decision; None if it was not routed.
        """
        features: dict[str, Any] = {}
        if not known.tokens:
            features = yield from self._base.image_features_one_by_one(encoded)
        rows = self._rows(requests)
        held = self._sessions.held([request.session for request in requests], self._base.device)
        decisions: list[HostCopy] = []
        router, on_device = self._router, self._on_device  # another may come meanwhile

        def decide(states: Sequence[Tensor], batch: Encoded) -> Tensor:
            decided = router.decided(self._read(router, on_device, states, batch), held)
            decisions.append(HostCopy(decided))
            if known.row is not None:
                return torch.full_like(rows, known.row)
            labels = router.answering(decided[:, 0].long(), self._fallback)
            return torch.where(rows < 0, self._stack.rows_of(labels), rows)

        is_routed = [request.routed for request in requests]
        routing = Routing(router.recipe.layers, decide, again=self._reads_again)
        reading = self._forward.reading(
            encoded,
            features,
            [request.slot for request in requests],
            None if any(is_routed) else rows,
            routing if any(is_routed) else None,
            tail=requests[0].tail,
            known=known.tokens,
        )
        tokens = encoded["input_ids"].numel() - known.tokens
        logits = yield from self._with_threads(reading, tokens)

        def routes() -> list[Route | None]:
            if not decisions:
                return [None] * len(requests)
            found = router.as_routes(decisions[0].read(), self._fallback)
            return [
                route if routed else None for route, routed in zip(found, is_routed, strict=True)
            ]

        return Step(likeliest_of(logits), logits), routes

    def batches(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        """Groups requests of similar length, so that little of a prefill is padding."""
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

    def _with_threads(
        self, reading: Generator[None, None, Tensor], tokens: int
    ) -> Generator[None, None, Tensor]:
        """A reading with the CPU threads worthwhile for so many tokens; what runs between its parts
        has its own."""
        while True:
            with self._forward.threads(tokens):
                try:
                    next(reading)
                except StopIteration as end:
                    logits: Tensor = end.value
                    return logits
            yield

    def _read(
        self, router: Router, on_device: Any, states: Sequence[Tensor], batch: Encoded
    ) -> Evidence:
        """The router's decisions from the states (B, T, hidden) at each of its layers."""
        pool: Any = router.recipe.pool
        normalise = self._reader.normalises
        features = [pool(layer, batch, normalise=normalise) for layer in states]
        evidence: Evidence = on_device.read(torch.cat(features, 1))
        return evidence

    def _rows(self, requests: Sequence[Request]) -> Tensor:
        """(B,) rows of requests with a known adapter, -1 for the others."""
        zero = self._stack.zero
        rows = [-1 if r.routed else zero if r.row is None else r.row for r in requests]
        return to_device(torch.tensor(rows), self._base.device)
