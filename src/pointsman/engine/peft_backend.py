"""Routing and generating through PEFT and transformers alone: for any adapter, one at a time.

The engine does so where adapters cannot be stacked. One base serves both: adapters are off while
it reads for the router, the vision tower runs once for routing and answering together, and the
reading stops at the router's layer.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from pointsman.adapters.load import Adapter
from pointsman.adapters.peft import adapter_on, attach
from pointsman.conversation import Prompt
from pointsman.engine.answer import Answer, FinishReason, make_answer
from pointsman.engine.options import EngineOptions
from pointsman.engine.request import Request, failing
from pointsman.errors import RequestError
from pointsman.models.base import Base
from pointsman.models.encoding import Encoded
from pointsman.models.text_encoder import TextEncoder
from pointsman.routing.route import Route
from pointsman.routing.router import Router
from pointsman.routing.sessions import Sessions


def route_and_generate(
    base: Base,
    router: Router,
    prompts: Sequence[Prompt],
    *,
    adapters: Sequence[str | None] | None = None,
    max_new_tokens: int = EngineOptions.max_new_tokens,
) -> list[Answer]:
    """Routes a batch and answers each request greedily with its adapter (abstained: the base).

    The vision tower runs once per image, and again for adapters that change it. Requests of one
    adapter are answered together. Not thread-safe: call it from the thread that owns the model.

    Args:
        base: with the router's adapters loaded, as ``load_base_with_loras`` returns it.
        adapters: who answers each prompt (None: the base); by default the router decides.
    """
    if not prompts:
        return []
    if adapters is None:
        routes = router.route(base, prompts)
        decided: Sequence[Route | None] = routes
        names = [decision.adapter for decision in routes]
    else:
        if len(adapters) != len(prompts):
            raise RequestError(f"{len(adapters)} adapters for {len(prompts)} prompts; give as many")
        decided, names = [None] * len(prompts), list(adapters)
    with torch.inference_mode(), base.without_adapters():
        encoded = base.encode(prompts, padding_side="left")
        image_features = base.image_features(encoded)
    answers: dict[int, Answer] = {}
    for name in dict.fromkeys(names):
        rows = [row for row, other in enumerate(names) if other == name]
        batch, shown = _rows(prompts, encoded, rows)
        if name is not None and shown and _changes_the_tower(base, name):
            images = encoded["image_index"][shown].tolist()
            batch["pixel_values"] = base.pixel_values(encoded, images)
        else:
            batch["mm_encoder_outputs"] = _picked(image_features, shown)
        with torch.inference_mode(), adapter_on(base, name):
            tokens = base.model.generate(
                **batch,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                # A checkpoint's own generation config may sample; ours is greedy.
                temperature=None,
                top_p=None,
                top_k=None,
            )
        new = tokens[:, batch["input_ids"].shape[1] :].tolist()
        lengths = batch["attention_mask"].sum(1).tolist()
        for row, said, length in zip(rows, new, lengths, strict=True):
            said, reason = _whole(said, base.ends)
            answers[row] = make_answer(
                base.decode(torch.tensor(said)),
                name,
                prompts[row],
                decided[row],
                finish_reason=reason,
                prompt_tokens=length,
                completion_tokens=len(said),
            )
    return [answers[row] for row in range(len(prompts))]


class PeftBackend:
    """Answers requests for any adapters, those of one adapter together: a ``Backend``.

    Args:
        base: without adapters, which are added one by one.
        encoder: of a router that reads text alone.
    """

    room = 2**31

    def __init__(
        self, base: Base, router: Router, encoder: TextEncoder | None, sessions: Sessions
    ) -> None:
        self.base, self._router, self._sessions = base, router, sessions
        self._encoder = encoder
        self.at_work: list[Request] = []

    def rest(self) -> None:
        """Nothing is left on between two requests."""

    def prepare(self, request: Request) -> None:
        request.ids = self.base.prepare([request.prompt])["input_ids"][0].tolist()

    def add(self, adapter: Adapter) -> None:
        self.base = attach(self.base, adapter.name, adapter.file)

    def remove(self, name: str) -> None:
        self.base.model.delete_adapter(name)

    def run(self, requests: Sequence[Request]) -> list[Request]:
        """Answers them all; none is left waiting."""
        groups: dict[tuple[bool, int], list[Request]] = {}
        for request in requests:
            groups.setdefault((request.routed, request.max_new_tokens), []).append(request)
        for group in groups.values():
            try:
                self._answer(group)
            except Exception:  # whose fault it is shows when each is alone
                for request in group:
                    with failing([request]):
                        self._answer([request])
        return []

    def _answer(self, requests: Sequence[Request]) -> None:
        prompts = [request.prompt for request in requests]
        if requests[0].routed:
            held = self._sessions.held([r.session for r in requests], torch.device("cpu"))
            routes = self._router.route(self._encoder or self.base, prompts, held)
            for request, decision in zip(requests, routes, strict=True):
                request.decide(decision)
                self._sessions.decided(request.session, decision)
        answers = route_and_generate(
            self.base,
            self._router,
            prompts,
            adapters=[request.adapter for request in requests],
            max_new_tokens=requests[0].max_new_tokens,
        )
        for request, answer in zip(requests, answers, strict=True):
            request.finish(answer.text, answer.finish_reason, answer.completion_tokens)


def _whole(tokens: list[int], ends: frozenset[int]) -> tuple[list[int], FinishReason]:
    """Tokens up to the one that ends the answer, without the padding behind it."""
    for place, token in enumerate(tokens, 1):
        if token in ends:
            return tokens[:place], "stop"
    return tokens, "length"


def _changes_the_tower(base: Base, name: str) -> bool:
    """Whether an adapter has parameters in the vision tower."""
    return any(name in path.split(".") for path, _ in base.core.visual.named_parameters())


def _rows(
    prompts: Sequence[Prompt], encoded: Encoded, rows: list[int]
) -> tuple[dict[str, Any], list[int]]:
    """Some rows of a batch as ``generate`` takes them, and which images are theirs."""
    names = ("input_ids", "attention_mask", "mm_token_type_ids")
    tensors = cast(dict[str, Tensor], encoded)
    batch: dict[str, Any] = {name: tensors[name][rows] for name in names}
    owners = [row for row, prompt in enumerate(prompts) for _ in prompt.images]
    kept = [index for index, owner in enumerate(owners) if owner in set(rows)]
    if kept:
        # An adapter may change the tower, which then works out the grids where it is.
        batch["image_grid_thw"] = tensors["image_grid_thw"][kept].to(batch["input_ids"].device)
    return batch, kept


def _picked(image_features: dict[str, Any], kept: list[int]) -> dict[str, Any]:
    """The features of some images."""
    if not kept:
        return {}
    output = image_features["image"]
    picked = type(output)(
        pooler_output=[output.pooler_output[index] for index in kept],
        deepstack_features=[[level[i] for i in kept] for level in output.deepstack_features],
    )
    return {"image": picked}
