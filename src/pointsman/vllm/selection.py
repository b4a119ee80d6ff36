"""Selection: in the worker, the router decides during a step and requests get their adapters.

It is bound to vLLM's V1 model runner. The runner says which requests are in a step; the model says
when their states have been computed (``model``).
"""

import re
from collections import OrderedDict
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor
from vllm.distributed import get_tp_group

from pointsman.adapters.load import open_sealed
from pointsman.errors import PointsmanError
from pointsman.labels import ROUTED
from pointsman.routing.route import Route
from pointsman.routing.sessions import HYSTERESIS, Sessions
from pointsman.vllm.compatibility import slots_taken, spare_slots
from pointsman.vllm.settings import Settings
from pointsman.vllm.transport import DECISIONS, is_routed

SESSION, PROBE = "pointsman_session", "pointsman_probe"
"""``vllm_xargs`` of a request: the session that it belongs to; the probe that it replays"""
BACKGROUND = "pointsman_background"
"""Likewise: the router is to abstain, see ``is_background``"""
# With `n` above 1, vLLM numbers the samples of a request.
_SAMPLE = re.compile(r"^\d+_")
_SAMPLED = 1024
"""Requests with several samples whose decisions are remembered"""


class Row(NamedTuple):
    """A prompt that is routed in this step."""

    row: int
    """In the runner's batch"""
    request: Any
    """The runner's state of the request"""
    start: int
    """Of its prompt, in the step's tokens"""
    end: int


class ReadAgain(Exception):
    """No fault: the step's prompts are routed, and it is to be run with the chosen adapters."""


class Selection:
    """Routes the requests of ``auto`` in each step of a runner.

    Args:
        reads_first: whether the layers below the router's are read twice: first without an adapter
            to route, then with the chosen one (plan two-pass).
    """

    def __init__(self, runner: Any, settings: Settings, *, reads_first: bool) -> None:
        self.reads_first = reads_first
        self.recipe = settings.router.recipe
        self._runner, self._settings = runner, settings
        # The features are few, so the runner waits only once for its device.
        self._router = settings.router.to(torch.device("cpu"))
        held = settings.project.hysteresis
        self._sessions = Sessions(HYSTERESIS if held is None else held)
        self._loras: dict[str, Any] = {}
        self._rows: list[Row] = []
        self._step: tuple[Any, ...] = ()
        self._states: list[Tensor] = []
        self._made: dict[str, dict[str, Any]] = {}
        self._samples: OrderedDict[str, Route] = OrderedDict()
        self._bind()

    def _bind(self) -> None:
        """Puts this object's methods in front of the runner's."""
        runner, manager = self._runner, self._runner.lora_manager
        self._stock_load = manager._load_adapter
        self._stock_set_active = runner.set_active_loras
        self._stock_sample = runner.sample_tokens
        manager._load_adapter = self._load
        runner.set_active_loras = self._set_active
        runner.sample_tokens = self._sample

    @property
    def is_pending(self) -> bool:
        """Whether this step holds prompts that are still to be routed."""
        return bool(self._rows)

    @property
    def last_layer(self) -> int:
        """The number of layers that the router needs."""
        return self.recipe.layers[-1]

    def read(self, layer: int, hidden: Tensor, residual: Tensor) -> None:
        """Takes the states after ``layer`` layers; after the last, decides.

        Args:
            hidden, residual: (tokens, hidden); their sum is the decoder's state.

        Raises:
            ReadAgain: the layers so far are to be run with the chosen adapters too.
        """
        if not self._rows:
            return
        self._states.append(self._pooled(hidden, residual))
        if layer == self.last_layer:
            features = torch.cat(self._states, dim=1)
            self._states.clear()
            rows, self._rows = self._rows, []
            self._decide(rows, features)
            if self.reads_first:
                raise ReadAgain

    def check_done(self) -> None:
        """Raises ``RuntimeError`` if a step ended without the decisions that it needed."""
        if self._rows:
            names = ", ".join(row.request.req_id for row in self._rows)
            raise RuntimeError(f"pointsman: {names} passed the model without being routed")

    def _pooled(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """One layer's features (R, poolings, hidden) of the step's R prompts."""
        if self.recipe.poolings == ("last",):
            ends = torch.tensor([row.end - 1 for row in self._rows], device=hidden.device)
            return (hidden[ends] + residual[ends])[:, None]
        return torch.cat([self._pooled_row(row, hidden, residual) for row in self._rows])

    def _pooled_row(self, row: Row, hidden: Tensor, residual: Tensor) -> Tensor:
        span = slice(row.start, row.end)
        ids = torch.as_tensor(row.request.prompt_token_ids, device=hidden.device)[None]
        image = self._runner.model_config.hf_config.image_token_id
        encoded = {
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == image).long(),
        }
        states = (hidden[span] + residual[span])[None]
        return self.recipe.pool(states, encoded, normalise=False)

    def _decide(self, rows: list[Row], features: Tensor) -> None:
        """Routes R prompts from their features (R, places, hidden)."""
        group = get_tp_group()
        if group.world_size > 1:  # every rank must choose the same
            features = group.broadcast(features.contiguous(), src=0)
        names = [_extra(row.request).get(SESSION) for row in rows]
        sessions = [None if name is None else str(name) for name in names]
        features, fallback = features.cpu(), self._settings.project.fallback
        held = self._sessions.held(sessions, features.device)
        routes = self._router.routes(features, held, fallback)
        for at, (row, session, route) in enumerate(zip(rows, sessions, routes, strict=True)):
            if _extra(row.request).get(BACKGROUND):
                route = self._router.abstaining(route, fallback)
            chosen = self._of_sample(row.request.req_id, route)
            self._sessions.decided(session, chosen)
            self._choose(row, chosen)
            if (probe := _extra(row.request).get(PROBE)) is not None:
                self._made[row.request.req_id]["moved"] = self._moved(int(probe), features[at])
        self._apply(rows)

    def _of_sample(self, request_id: str, route: Route) -> Route:
        """The decision for a request; all samples of one request have the same."""
        if not _SAMPLE.match(request_id):
            return route
        route = self._samples.setdefault(_SAMPLE.sub("", request_id), route)
        while len(self._samples) > _SAMPLED:
            self._samples.popitem(last=False)
        return route

    def _choose(self, row: Row, route: Route) -> None:
        """Makes a request one of the chosen adapter, in all of the runner's tables."""
        request = row.request
        request.pointsman_decided = True
        self._made[request.req_id] = asdict(route)
        if route.adapter is None:
            return  # `auto` has no weights, so the base answers
        lora, batch = self._loras[route.adapter], self._step[0]
        auto, chosen = self._loras[ROUTED].lora_int_id, lora.lora_int_id
        # A request that is preempted comes back with this adapter.
        request.lora_request = lora
        batch.request_lora_mapping[row.row] = chosen
        batch.lora_id_to_request_ids[auto].discard(request.req_id)
        if not batch.lora_id_to_request_ids[auto]:
            del batch.lora_id_to_request_ids[auto], batch.lora_id_to_lora_request[auto]
        batch.lora_id_to_request_ids.setdefault(chosen, set()).add(request.req_id)
        batch.lora_id_to_lora_request[chosen] = lora

    def _apply(self, rows: list[Row]) -> None:
        """Gives the step's tokens the chosen adapters: in the layers to come, and when sampled."""
        adapters = self._runner.lora_manager._adapter_manager
        kernels = adapters._get_punica_wrapper(adapters.mm_mapping.language_model[0])
        slots = {lora: slot for slot, lora in enumerate(adapters.lora_index_to_id)}
        chosen = [
            (row, row.request.lora_request.lora_int_id)
            for row in rows
            if not is_routed(row.request.lora_request)
        ]
        on_gpu = hasattr(kernels, "token_mapping_meta")
        if not on_gpu or any(lora not in slots for _, lora in chosen):
            self._set_with_base(*self._step)
            return
        # vLLM's own function makes lists of all tokens, which takes milliseconds.
        for row, lora in chosen:
            kernels.token_lora_indices[row.start : row.end] = slots[lora]
            kernels.sampler_indices[row.row] = slots[lora]
        kernels.token_mapping_meta.prepare_tensors(kernels.token_lora_indices)
        kernels.prompt_mapping_meta.prepare_tensors(kernels.sampler_indices)
        adapters._last_mapping = None  # otherwise a like step would keep these indices

    def _moved(self, probe: int, features: Tensor) -> float:
        """The relative distance of a probe's features to those that the router was trained on."""
        expected = self._router.probes.features.view(-1, *features.shape)[probe]
        found = features.float().cpu()
        return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())

    def _set_active(self, batch: Any, num_scheduled: Any, *args: Any, **kwargs: Any) -> Any:
        """In place of the runner's ``set_active_loras``: also finds the prompts to route."""
        self._rows = []
        self._states.clear()
        self._step = (batch, num_scheduled, *args)
        if ROUTED in self._loras and not kwargs:
            self._rows = self._to_route(batch, num_scheduled)
            return self._set_with_base(batch, num_scheduled, *args)
        return self._stock_set_active(batch, num_scheduled, *args, **kwargs)

    def _set_with_base(self, batch: Any, *args: Any) -> Any:
        """The stock function, with the base for ``auto``: zeros need no kernels."""
        mapping = batch.request_lora_mapping[: batch.num_reqs]
        auto = self._loras[ROUTED].lora_int_id
        is_auto = mapping == auto
        mapping[is_auto] = 0
        try:
            return self._stock_set_active(batch, *args)
        finally:
            mapping[is_auto] = auto

    def _to_route(self, batch: Any, num_scheduled: Any) -> list[Row]:
        auto = self._loras[ROUTED].lora_int_id
        rows, start = [], 0
        for row in range(batch.num_reqs):
            count = int(num_scheduled[row])
            if batch.request_lora_mapping[row] == auto:
                request = self._runner.requests[batch.req_ids[row]]
                if not getattr(request, "pointsman_decided", False):
                    prompt = int(batch.num_prompt_tokens[row])
                    self._check_whole(request, batch.num_computed_tokens_cpu[row], count, prompt)
                    rows.append(Row(row, request, start, start + prompt))
            start += count
        if rows and (
            missing := [n for n in self._settings.project.adapters if n not in self._loras]
        ):
            raise RuntimeError(f"pointsman: adapter {missing[0]!r} is not loaded; load it first")
        return rows

    def _check_whole(self, request: Any, done: int, count: int, prompt: int) -> None:
        if done or count < prompt:
            raise RuntimeError(
                f"pointsman: {request.req_id}: {count} of a prompt's {prompt} tokens come after "
                f"{done}; a prompt must be read in one step to be routed"
            )

    def _sample(self, *args: Any, **kwargs: Any) -> Any:
        """In place of the runner's ``sample_tokens``: its output also carries the decisions."""
        output = self._stock_sample(*args, **kwargs)
        if self._made:
            made, self._made = self._made, {}
            # With asynchronous scheduling, the output is inside one that is still awaited.
            setattr(getattr(output, "_model_runner_output", output), DECISIONS, made)
        return output

    def _load(self, lora_request: Any) -> Any:
        """In place of the LoRA manager's ``_load_adapter``: makes ``auto``, checks sealed ones."""
        name, project = lora_request.lora_name, self._settings.project
        slots = self._runner.lora_config.max_loras - spare_slots()
        if name not in self._loras and len(self._loras) >= slots:
            raise ValueError(slots_taken(name, self._runner.lora_config.max_loras))
        if name == ROUTED:
            manager = self._runner.lora_manager
            lora = manager._adapter_manager.create_dummy_lora(  # all zeros: the base itself
                lora_request.lora_int_id, 1, manager.embedding_modules
            )
        else:
            if name in project.adapters:
                self._check_sealed(name, lora_request.lora_path)
            lora = self._stock_load(lora_request)
        self._loras[name] = lora_request
        return lora

    def _check_sealed(self, name: str, path: str) -> None:
        try:
            open_sealed(name, path, self._settings.router)
        except PointsmanError as error:
            raise ValueError(str(error)) from None


def _extra(request: Any) -> dict[str, Any]:
    """The ``vllm_xargs`` of a request."""
    return getattr(request.sampling_params, "extra_args", None) or {}
