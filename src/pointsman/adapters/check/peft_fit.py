"""The fit of any adapter: PEFT attaches it to the base's shapes, which needs no weights."""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import peft
import torch
from peft import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PeftConfig,
    PeftModelForCausalLM,
    get_peft_model_state_dict,
)

from pointsman.adapters.check.structure import Fit, base_weights_in, fit_plain
from pointsman.adapters.files import AdapterFile
from pointsman.adapters.layout import Layout
from pointsman.findings import Findings

_NAME = "checked"


def fit_any(adapter: AdapterFile, layout: Layout, model: Any) -> Fit:
    """The fit of an adapter of any kind.

    Args:
        model: a base's ``Qwen3VLForConditionalGeneration``; only its class and config are used.
    """
    fit = fit_plain(adapter, layout)
    return fit if fit.obstacle is None else _fit_by_peft(adapter, layout, model, fit.obstacle)


def is_known(run: Findings, config: Mapping[str, Any]) -> bool:
    """Whether the installed PEFT knows the kind; reports options that it would drop silently."""
    kind, newer = config["peft_type"], f"install PEFT {config.get('peft_version') or 'as it was'}"
    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        message = f"its PEFT type is {kind!r}, which PEFT {peft.__version__} does not know"
        run.error("unknown-option", message, f"{newer}, which wrote it, or a newer one")
        return False
    known = {field.name for field in fields(PEFT_TYPE_TO_CONFIG_MAPPING[kind])}
    for name, value in config.items():
        # The default of an option that is not known counts as off.
        if name in known or not value:
            continue
        message = f"PEFT {peft.__version__} does not know its option {name} and would ignore it"
        hint = f"{newer}, which wrote it; or set it to null if it was only for training"
        # A number or a name may be a default; a switch that is on, or a part of its own, is none.
        report = run.error if isinstance(value, bool | list | dict) else run.warning
        report("unknown-option", f"{message}: {str(value)[:60]}", hint)
    return True


def _fit_by_peft(adapter: AdapterFile, layout: Layout, model: Any, obstacle: str) -> Fit:
    own = base_weights_in(layout, adapter.config, adapter.tensors)
    # The initialisation does not matter: the weights are in the file.
    config = _placeable(adapter.config) | {"init_lora_weights": False, "inference_mode": True}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            placed = PeftModelForCausalLM(
                _skeleton(model),
                PeftConfig.from_peft_type(**PeftConfig.check_kwargs(**config)),
                adapter_name=_NAME,
                low_cpu_mem_usage=True,
            )
            state = get_peft_model_state_dict(
                placed, adapter_name=_NAME, save_embedding_layers=False
            )
    except Exception as error:  # PEFT raises almost anything on a wrong configuration
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Fit(adapter, {}, own, refusal=reason[:300].rstrip("."), obstacle=obstacle)
    return Fit(adapter, {k: tensor.shape for k, tensor in state.items()}, own, obstacle=obstacle)


def _skeleton(model: Any) -> Any:
    """A new model with the base's modules and shapes, for PEFT to modify."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    with torch.device("meta"):
        return type(model)(copy.deepcopy(model.config))


def _placeable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose rank and alpha PEFT takes.

    Wrong ones are found elsewhere, and the keys and shapes are the same with any.
    """
    usable = dict(config)
    for name in ("r", "lora_alpha"):
        if name in usable and (not isinstance(usable[name], int) or usable[name] < 1):
            usable[name] = 1
    return usable
