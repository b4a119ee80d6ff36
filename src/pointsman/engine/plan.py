"""Plans: how an engine avoids paying for the base twice, chosen from the adapters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pointsman.adapters.weights import Lora
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
    if wanted not in get_args(PlanName):
        raise ConfigError(f"plan {wanted!r} is none of {', '.join(get_args(PlanName))}")
    best = next(iter(possible.values()))
    if wanted in possible:
        return Plan(possible[wanted].name, f"asked for; by itself it would be {best.name}")
    raise ConfigError(f"plan {wanted!r} does not suit these adapters ({best.why}); use {best.name}")


def _possible(loras: Sequence[Lora | str], layer: int | None) -> dict[str, Plan]:
    """The exact plans, fastest first."""
    plans: list[Plan] = []
    obstacles = [reason for reason in loras if isinstance(reason, str)]
    stackable = [lora for lora in loras if isinstance(lora, Lora)]
    activated = [lora for lora in stackable if lora.invocation]
    if obstacles:
        plans.append(Plan("peft", f"an adapter cannot be stacked: {obstacles[0]}"))
    elif activated and len(activated) < len(stackable):
        names = f"{activated[0].name!r} is an activated LoRA and others are not"
        plans.append(Plan("peft", f"{names}; give them plans of one kind to be faster"))
    elif len({lora.invocation for lora in activated}) > 1:
        plans.append(Plan("peft", "activated LoRAs are invoked by different tokens"))
    elif activated:
        plans.append(Plan("activated", "every adapter is an activated LoRA"))
    elif layer is None:
        plans.append(Plan("two-pass", "the router reads with a text encoder of its own"))
    else:
        lowest = min((lora.lowest_layer for lora in stackable), default=0)
        if lowest >= layer:
            plans.append(
                Plan("in-pass", f"no adapter changes the {layer} layers below the router's")
            )
        why = f"an adapter changes layer {lowest}, below the router's layer {layer}"
        plans.append(Plan("two-pass", why))
    plans += [Plan("peft", "asked for")] if plans[0].name != "peft" else []
    return {plan.name: plan for plan in plans}
