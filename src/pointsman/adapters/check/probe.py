"""The effect of an adapter on one synthetic prompt."""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pointsman.adapters.check.finite import DIVERGED, EARLIER, probe_logits
from pointsman.adapters.files import AdapterFile
from pointsman.adapters.peft import attach
from pointsman.errors import ArtefactError, MismatchError
from pointsman.findings import Findings
from pointsman.models.base import Base

_NAME = "checked"


def probe(run: Findings, adapter: AdapterFile, base: Base) -> float | None:
    """The largest change of a logit between a synthetic prompt's answers with and without it.

    It runs on a twin of the base: PEFT modifies a model's modules, and the base's must not change.
    """
    twin = replace(base, model=_twin(base.model))
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before = probe_logits(twin)
            after = probe_logits(attach(twin, _NAME, adapter))
    except (ArtefactError, MismatchError) as error:
        message, _, hint = str(error).rpartition("; ")
        code = "other-base" if isinstance(error, MismatchError) else "attach"
        run.error(code, message.removeprefix(f"adapter {_NAME}: "), hint)
        return None
    if not bool(before.isfinite().all()):
        run.error("nan", f"{base.id} itself gives NaN or infinity", "use another dtype or device")
        return None
    if not bool(after.isfinite().all()):
        run.error("nan", DIVERGED, EARLIER)
        return None
    change = float((after - before).abs().max())
    if change == 0:
        run.error(
            "zero-effect",
            "for a synthetic prompt the base gives the same logits with it and without",
            "check that the right checkpoint was saved, and that it was trained on this base",
        )
    return change


def _twin(model: Any) -> Any:
    """The same weights in new modules; vectors are copied, since PEFT writes into biases."""
    tensors: Sequence[Tensor] = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors if tensor.dim() > 1})
