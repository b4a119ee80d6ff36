"""What an adapter should answer: PEFT's own answer with every weight of its file in place."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModelForCausalLM, set_peft_model_state_dict
from safetensors.torch import load_file

from pointsman.adapters.files import CONFIG, WEIGHTS, AdapterFile, remapped
from pointsman.conversation import Prompt
from pointsman.models.base import Base


def log_probabilities(base: Base, prompt: Prompt, adapter: Path | None = None) -> Any:
    """Those of the answer's first token (vocabulary,).

    None: PEFT cannot place all matrices of the adapter, even under current names.
    """
    model = copied_model(base)
    if adapter is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _placed(model, adapter)
        if model is None:
            return None
    inputs = base.stock_inputs(base.encode([prompt]))
    with torch.inference_mode():
        logits = model.eval()(**inputs, logits_to_keep=1).logits
    return logits[0, -1].float().log_softmax(-1)


def copied_model(base: Base) -> Any:
    """A copy for PEFT to modify, whose vision tower is the stock one."""
    model = copy.deepcopy(base.model)
    vars(model.model.visual.patch_embed).pop("forward", None)
    return model


def _placed(model: Any, adapter: Path) -> Any:
    config = json.loads((adapter / CONFIG).read_text())
    file = AdapterFile(adapter, config, load_file(adapter / WEIGHTS))
    file = remapped(file) or file
    # The keys say where the matrices belong, whatever the configuration says.
    places = {"target_modules": sorted(file.modules)}
    free = dict.fromkeys(("exclude_modules", "layers_to_transform", "layers_pattern"))
    try:
        model = PeftModelForCausalLM(model, LoraConfig(**file.config | places | free))
        state = dict(file.tensors)
        placed = set_peft_model_state_dict(model, state)
    except (RuntimeError, ValueError):  # of its shapes or its modules
        return None
    halves = [key for key in placed.missing_keys if ".lora_" in key]
    return None if placed.unexpected_keys or halves else model
