"""The fit of any adapter: PEFT attaches it to the base's shapes, which needs no weights."""

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftConfig, PeftModelForCausalLM, get_peft_model_state_dict

from pointsman.adapters.check.structure import Fit, base_weights_in, fit_plain
from pointsman.adapters.files import AdapterFile
from pointsman.adapters.layout import Layout

_NAME = "checked"


def fit_any(adapter: AdapterFile, layout: Layout, model: Any) -> Fit:
    """The fit of an adapter of any kind.

    Args:
        model: a base's ``Qwen3VLForConditionalGeneration``; only its class and config are used.
    """
    fit = fit_plain(adapter, layout)
    return fit if fit.obstacle is None else _fit_by_peft(adapter, layout, model, fit.obstacle)


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
