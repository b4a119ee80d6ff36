"""Plans: how an engine avoids paying for the base twice, chosen from the adapters."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pointsman.adapters.files import AdapterFile
from pointsman.adapters.layout import key_of
from pointsman.adapters.weights import Lora, obstacle
from pointsman.errors import ConfigError

PlanName = Literal["in-pass", "activated", "two-pass", "peft"]


@dataclass(frozen=True)
class Plan:
    """How requests are routed and answered, and why this plan was chosen.

    - ``in-pass``: one forward. Adapters do not change the layers below the router's, so the router
      and the adapters share their states.
    - ``activated``: one forward of the base. Activated LoRAs (aLoRA) act only on the last tokens,
      which are read again.
    - ``two-pass``: a forward of the base up to the router's layer, then a full forward with the
      adapter; the vision tower runs once.
    - ``peft``: the same through PEFT and ``generate``, one adapter at a time.

    Under any plan, a request is routed by a separate forward if the router reads something other
    than the prompt to be answered: if the router has a text encoder, if its recipe reads only the
    user's last turn of several, or if the conversation holds answers, which no router sees.
    """

    name: PlanName
    why: str


def choose_plan(loras: Sequence[Lora | str], layer: int | None, wanted: str | None = None) -> Plan:
    """The best plan that is exact for these adapters.

    Args:
        loras: each adapter's matrices or, if it cannot be stacked, the reason.
        layer: decoder layer whose input the router reads; None: it has a text encoder.
        wanted: a plan's name, instead of the best plan.

    Raises:
        ConfigError: the plan is unknown or would not be exact.
    """
    possible = _possible(loras, layer)
    if wanted is None:
        return next(iter(possible.values()))
    check_plan(wanted)
    best = next(iter(possible.values()))
    if wanted in possible:
        return Plan(possible[wanted].name, f"asked for; by itself it would be {best.name}")
    raise ConfigError(f"plan {wanted!r} does not suit these adapters ({best.why}); use {best.name}")


def free_depth(files: Iterable[AdapterFile], depth: int) -> int:
    """The number of decoder layers up to which a router reads for nothing, given its adapters.

    Under ``in-pass`` the answer's own forward runs the layers below the lowest that an adapter
    changes, and under ``activated`` all of them. The other plans run a router's layers once more.

    Args:
        depth: the base's number of decoder layers.
    """
    files = list(files)
    invocations = {tuple(file.config.get("alora_invocation_tokens") or ()) for file in files}
    if len(invocations) > 1 or any(obstacle(file.config) for file in files):
        return 0
    keys = [key_of(module) for file in files for module in file.modules]
    if None in keys:  # no projection of the decoder: only PEFT runs such an adapter
        return 0
    if invocations != {()}:
        return depth
    return min((key[0] for key in keys if key is not None), default=0)


def check_plan(name: str) -> None:
    """Raises ``ConfigError`` unless it is a plan's name."""
    if name not in get_args(PlanName):
        raise ConfigError(f"plan {name!r} is none of {', '.join(get_args(PlanName))}")


def _possible(loras: Sequence[Lora | str], layer: int | None) -> dict[str, Plan]:
    """The exact plans, fastest first."""
    stackable = [lora for lora in loras if isinstance(lora, Lora)]
    reasons = [lora for lora in loras if isinstance(lora, str)]
    obstacle = f"an adapter cannot be stacked: {reasons[0]}" if reasons else _mixture(stackable)
    if obstacle is not None:
        return {"peft": Plan("peft", obstacle)}
    plans = [*_stacked(stackable, layer), Plan("peft", "asked for")]
    return {plan.name: plan for plan in plans}


def _mixture(loras: Sequence[Lora]) -> str | None:
    """Why stackable adapters do not go together; None if they do."""
    activated = [lora for lora in loras if lora.invocation]
    if activated and len(activated) < len(loras):
        names = f"{activated[0].name!r} is an activated LoRA and others are not"
        return f"{names}; give them plans of one kind to be faster"
    if len({lora.invocation for lora in activated}) > 1:
        return "activated LoRAs are invoked by different tokens"
    return None


def _stacked(loras: Sequence[Lora], layer: int | None) -> Iterator[Plan]:
    """The plans for adapters that can be stacked together."""
    if any(lora.invocation for lora in loras):
        yield Plan("activated", "every adapter is an activated LoRA")
        return
    if layer is None:
        yield Plan("two-pass", "the router reads with a text encoder of its own")
        return
    lowest = min((lora.lowest_layer for lora in loras), default=0)
    if lowest >= layer:
        yield Plan("in-pass", f"no adapter changes the {layer} layers below the router's")
    why = f"an adapter changes layer {lowest}, below the router's layer {layer}"
    yield Plan("two-pass", why)
