"""Transport: a decision from the worker to the front end, with the request's first token.

vLLM has no field for it. It travels as an attribute of the runner's output, then as an entry of
``kv_transfer_params`` of the engine's output, and is taken out where the front end receives that.
So it costs no call of its own, and a response's headers can hold it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any
from weakref import WeakValueDictionary

from vllm.exceptions import VLLMValidationError
from vllm.v1.core import kv_cache_utils
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import FinishReason
from vllm.v1.engine.output_processor import OutputProcessor
from vllm.v1.request import RequestStatus

from pointsman.labels import ROUTED

DECISIONS = "pointsman_decisions"
"""Attribute of a runner's output: decisions by request id"""
_KEY = "pointsman"


class Decisions(dict[str, dict[str, Any]]):
    """The decisions on the requests of one call, by vLLM's internal request id."""

    __slots__ = ("__weakref__",)

    @property
    def first(self) -> dict[str, Any] | None:
        """The decision on the first sample: with ``n`` above 1, each sample is a request."""
        return self[min(self)] if self else None


_current: ContextVar[Decisions | None] = ContextVar("pointsman_decisions", default=None)
# A front end that stops waiting drops its decisions, and with them the entries here.
_waiting: WeakValueDictionary[str, Decisions] = WeakValueDictionary()


@contextmanager
def collected() -> Iterator[Decisions]:
    """Collects the decisions on the requests that are made inside the block."""
    decisions = Decisions()
    token = _current.set(decisions)
    try:
        yield decisions
    finally:
        _current.reset(token)


def is_routed(lora_request: Any) -> bool:
    """Whether a request of this LoRA leaves the choice to the router."""
    return lora_request is not None and lora_request.lora_name == ROUTED


def install() -> None:
    """Wraps the functions that the decision passes."""
    wrap(Scheduler, "update_from_output", _update_from_output)
    wrap(Scheduler, "_try_schedule_encoder_inputs", _try_schedule_encoder_inputs)
    wrap(OutputProcessor, "add_request", _add_request)
    wrap(OutputProcessor, "process_outputs", _process_outputs)
    wrap(kv_cache_utils, "_gen_lora_extra_hash_keys", _gen_lora_extra_hash_keys)


def wrap(place: Any, name: str, wrapper: Callable[..., Any]) -> None:
    """Replaces a function by one that calls ``wrapper`` with it and its arguments."""
    stock = getattr(place, name)

    @wraps(stock)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return wrapper(stock, *args, **kwargs)

    setattr(place, name, wrapped)


def _update_from_output(
    stock: Any, scheduler: Any, scheduler_output: Any, model_runner_output: Any
) -> Any:
    """In the engine: puts decisions into the outputs, and ends refused requests."""
    outputs = stock(scheduler, scheduler_output, model_runner_output)
    # A request that was preempted meanwhile has no output yet; its decision waits.
    waiting: dict[str, Any] = scheduler.__dict__.setdefault("_pointsman_waiting", {})
    waiting |= getattr(model_runner_output, DECISIONS, {})
    if not waiting:
        return outputs
    for output in (output for core in outputs.values() for output in core.outputs):
        decision = waiting.pop(output.request_id, None)
        if decision is None:
            continue
        output.kv_transfer_params = {**(output.kv_transfer_params or {}), _KEY: decision}
        if decision["refused"] and output.finish_reason is None:
            scheduler.finish_requests([output.request_id], RequestStatus.FINISHED_ABORTED)
            output.finish_reason = FinishReason.ABORT
    for request_id in [one for one in waiting if one not in scheduler.requests]:
        del waiting[request_id]
    return outputs


def _try_schedule_encoder_inputs(
    stock: Any,
    scheduler: Any,
    request: Any,
    num_computed_tokens: int,
    num_new_tokens: int,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """In the engine: a prompt that is to be routed is read in one step, or not in this one.

    With little room for image features, vLLM would read the part before the image alone.
    """
    budget = args[0] if args else kwargs["encoder_compute_budget"]
    found = stock(scheduler, request, num_computed_tokens, num_new_tokens, *args, **kwargs)
    is_cut = found[1] < num_new_tokens and num_computed_tokens < request.num_prompt_tokens
    if is_cut and is_routed(request.lora_request):
        return ([], 0, budget, *([] for _ in found[3:]))
    return found


def _gen_lora_extra_hash_keys(stock: Any, request: Any) -> Any:
    """In the engine: the KV cache of a routed request is its own.

    Other requests of ``auto`` with the same start may be answered by other adapters. It finds its
    own blocks again after it was preempted.
    """
    keys = stock(request)
    return [*keys, (_KEY, request.request_id)] if is_routed(request.lora_request) else keys


def _add_request(stock: Any, processor: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
    """In the front end: remembers who waits for the decision on a request."""
    if is_routed(request.lora_request):
        if len(request.prompt_token_ids or ()) < 2:
            # vLLM would run it as a decode step, in a CUDA graph that does not route.
            raise VLLMValidationError(
                f"{ROUTED}: a prompt of 1 token cannot be routed; name a model"
            )
        if (decisions := _current.get()) is not None:
            _waiting[request.request_id] = decisions
    return stock(processor, request, *args, **kwargs)


def _process_outputs(
    stock: Any, processor: Any, engine_core_outputs: Any, *args: Any, **kwargs: Any
) -> Any:
    """In the front end: takes the decisions out."""
    for output in engine_core_outputs:
        params: Mapping[str, Any] | None = output.kv_transfer_params
        if params and _KEY in params:
            rest = dict(params)
            decision = rest.pop(_KEY)
            output.kv_transfer_params = rest or None
            if (decisions := _waiting.pop(output.request_id, None)) is not None:
                decisions[output.request_id] = decision
    return stock(processor, engine_core_outputs, *args, **kwargs)
