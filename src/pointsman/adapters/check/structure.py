"""Whether an adapter fits a base: PEFT places it on the base's shapes, which need no weights."""

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig, PeftModelForCausalLM, get_peft_model_state_dict
from torch import Size

from pointsman.adapters import files as adapter_file
from pointsman.adapters.files import CONFIG, AdapterFile, module_of
from pointsman.adapters.load import base_weights_in
from pointsman.adapters.weights import lora_of
from pointsman.errors import ArtefactError
from pointsman.findings import SAVE_AGAIN, TRAIN_AGAIN, Findings
from pointsman.models.base import Base

NAME = "checked"


@dataclass(frozen=True)
class _Fit:
    """What PEFT would make of an adapter's configuration on the base, and what its keys fill."""

    adapter: AdapterFile
    expected: dict[str, Size]
    refusal: str | None
    """Why PEFT cannot place it on the base at all"""
    slow: str | None
    """Why it cannot be stacked with others"""
    own: dict[str, str]
    """Keys that name the base's own weights"""

    @property
    def unexpected(self) -> list[str]:
        return [k for k in self.adapter.tensors if k not in self.expected and k not in self.own]

    @property
    def missing(self) -> list[str]:
        return [key for key in self.expected if key not in self.adapter.tensors]


def _fit(adapter: AdapterFile, base: Base) -> _Fit:
    own = base_weights_in(base, adapter.config, adapter.tensors)
    # Whatever it started with: its weights are in the file.
    config = adapter.config | {"init_lora_weights": False, "inference_mode": True}
    # PEFT refuses such numbers, which are found elsewhere; the keys are the same with any.
    for name in ("r", "lora_alpha"):
        if name in config and (not isinstance(config[name], int) or config[name] < 1):
            config[name] = 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = PeftModelForCausalLM(
                _skeleton(base),
                PeftConfig.from_peft_type(**PeftConfig.check_kwargs(**config)),
                adapter_name=NAME,
                low_cpu_mem_usage=True,
            )
            state = get_peft_model_state_dict(model, adapter_name=NAME, save_embedding_layers=False)
            slow = lora_of(model, NAME)
    except Exception as error:  # PEFT raises almost anything on a wrong configuration
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return _Fit(adapter, {}, reason[:300].rstrip("."), None, own)
    expected = {key: tensor.shape for key, tensor in state.items()}
    return _Fit(adapter, expected, None, slow if isinstance(slow, str) else None, own)


def _skeleton(base: Base) -> Any:
    """A new model of the base's modules and shapes, for PEFT to change."""
    with torch.device("meta"):
        return type(base.model)(copy.deepcopy(base.model.config))


def check_structure(run: Findings, adapter: AdapterFile, base: Base) -> None:
    """Keys, shapes and targets against the base's; an old layout explains what does not match."""
    fit = _fit(adapter, base)
    if fit.refusal or fit.unexpected:
        fit = _in_todays_layout(run, fit, base)
    if fit.refusal:
        run.error("targets", f"PEFT cannot place it on {base.id} ({fit.refusal})", TRAIN_AGAIN)
        return
    _check_keys(run, fit, base)
    _check_shapes(run, fit, base)
    _check_targets(run, fit, base)
    if fit.own:
        run.warning(
            "base-weights",
            f"{len(fit.own)} of its keys name the base's own weights, such as {min(fit.own)}",
            "what differs from the base is refused on loading: merge it into a base of its own",
        )
    if fit.slow:
        run.warning(
            "peft-only",
            f"cannot be stacked: {fit.slow}",
            "it is served through PEFT itself, slower; train plain matrices of the decoder's "
            "projections for speed",
        )


def _in_todays_layout(run: Findings, fit: _Fit, base: Base) -> _Fit:
    """The adapter with its keys renamed, if that is what ails it."""
    try:
        renamed = adapter_file.remapped(fit.adapter)
    except ArtefactError as error:
        run.error("old-layout", str(error).removeprefix(f"{fit.adapter.folder}/"), SAVE_AGAIN)
        return fit
    if renamed is None:
        return fit
    better = _fit(renamed, base)
    if better.refusal or better.unexpected:
        return fit
    moved = sum(key not in better.expected for key in fit.adapter.tensors)
    run.error(
        "old-layout",
        f"{moved} of its {len(fit.adapter.tensors)} keys have the names of another layout: "
        f"{adapter_file.renaming(fit.adapter)} makes all of them match {base.id}",
        "write a copy that has them with --fix OUT",
    )
    return better


def _check_keys(run: Findings, fit: _Fit, base: Base) -> None:
    if fit.unexpected:
        run.error(
            "unexpected-keys",
            f"{len(fit.unexpected)} of its {len(fit.adapter.tensors)} weights match nothing in "
            f"{base.id}, such as {fit.unexpected[0]}",
            TRAIN_AGAIN,
        )
    missing = set(fit.missing)
    whole = [key for key in fit.missing if missing.issuperset(_siblings(fit, key))]
    part = [key for key in fit.missing if key not in set(whole)]
    if whole:
        places = list(dict.fromkeys(map(module_of, whole)))
        run.error(
            "missing-keys",
            f"{len(places)} modules that its {CONFIG} names have no weights, such as {places[0]}",
            SAVE_AGAIN + ", or use the base that it was trained on",
        )
    if part:
        run.error(
            "half-loaded",
            f"{len(part)} modules have only a part of their weights: {part[0]} is missing",
            SAVE_AGAIN,
        )


def _siblings(fit: _Fit, key: str) -> Iterator[str]:
    """All keys of the module that a key belongs to."""
    place = module_of(key)
    return (other for other in fit.expected if module_of(other) == place)


def _check_shapes(run: Findings, fit: _Fit, base: Base) -> None:
    wrong: dict[str, list[str]] = {"sharded": [], "rank": [], "other-base": []}
    for key, shape in fit.expected.items():
        tensor = fit.adapter.tensors.get(key)
        if tensor is not None and tensor.shape != shape:
            kind = _fault_of_shape(key, tensor.shape, shape)
            wrong[kind].append(f"{key} is {list(tensor.shape)}, not {list(shape)}")
    for kind, meaning, mend in (
        ("sharded", "are empty or flat, as one process's share of them", "gather, then save again"),
        ("rank", f"have another rank than its {CONFIG} says", SAVE_AGAIN),
        ("other-base", f"do not have the shapes of {base.id}", TRAIN_AGAIN),
    ):
        if found := wrong[kind]:
            run.error(kind, f"{len(found)} of its weights {meaning}, such as {found[0]}", mend)


def _fault_of_shape(key: str, found: Size, expected: Size) -> str:
    if len(found) != len(expected) or 0 in found:
        return "sharded"
    side = 0 if ".lora_A" in key else 1 if ".lora_B" in key else None
    if side is not None and found[1 - side] == expected[1 - side]:
        return "rank"
    return "other-base"


def _check_targets(run: Findings, fit: _Fit, base: Base) -> None:
    targets = fit.adapter.config.get("target_modules")
    places = {module_of(key) for key in fit.expected}
    if isinstance(targets, list):
        unused = [t for t in targets if not any(f".{place}".endswith(f".{t}") for place in places)]
        if unused:
            run.warning(
                "targets",
                f"{len(unused)} of its target_modules are nothing in {base.id}: {unused[0]}",
                "if it was trained there, it was trained without them",
            )
    shapes = {module_of(key): shape for key, shape in fit.expected.items() if ".lora_B" in key}
    for key, shape in fit.expected.items():
        other = shapes.get(module_of(key))
        if ".lora_A" in key and other is not None and shape[0] > min(shape[1], other[0]):
            most = min(shape[1], other[0])
            message = f"rank {shape[0]} is above what {module_of(key)} can have, {most}"
            run.warning("rank", message, "a lower rank gives the same")
            return
