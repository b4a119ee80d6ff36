"""Whether an adapter fits a base: its keys, shapes and targets against the base's modules."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Size

from pointsman.adapters.expressions import check_expressions
from pointsman.adapters.files import CONFIG, PREFIX, AdapterFile, module_of, remapped, renaming
from pointsman.adapters.layout import Layout, pattern_value
from pointsman.adapters.weights import PlainLora, plain_lora
from pointsman.errors import ArtefactError
from pointsman.findings import RETRAIN, SAVE_AGAIN, Findings


@dataclass(frozen=True)
class Fit:
    """What an adapter's configuration requires on the base, and what its keys provide."""

    adapter: AdapterFile
    expected: dict[str, Size]
    own: dict[str, str]
    """Keys that name the base's own weights, mapped to those weights' paths"""
    refusal: str | None = None
    """Why it cannot be attached to the base at all"""
    hint: str = RETRAIN
    """What to do about a refusal"""
    obstacle: str | None = None
    """Why it cannot be stacked with other adapters"""
    plain: PlainLora | None = None
    """The matrices that it requires, if it requires nothing else"""

    @property
    def unexpected(self) -> list[str]:
        return [k for k in self.adapter.tensors if k not in self.expected and k not in self.own]

    @property
    def missing(self) -> list[str]:
        return [key for key in self.expected if key not in self.adapter.tensors]


Fitter = Callable[[AdapterFile], Fit]


def fit_plain(adapter: AdapterFile, layout: Layout) -> Fit:
    """The fit of a plain LoRA; for any other only ``obstacle`` is set, and PEFT must fit it."""
    own = base_weights_in(layout, adapter.config, adapter.tensors)
    try:
        check_expressions(adapter.config, layout.modules)
    except ValueError as error:
        return Fit(adapter, {}, own, refusal=str(error), hint="name the modules in its place")
    try:
        plain = plain_lora(adapter.config, layout)
    except (re.error, ValueError, TypeError) as error:
        return Fit(adapter, {}, own, refusal=str(error))
    if isinstance(plain, str):
        return Fit(adapter, {}, own, obstacle=plain)
    return Fit(adapter, plain.expected, own, plain=plain)


def base_weights_in(
    layout: Layout, config: Mapping[str, Any], keys: Iterable[str]
) -> dict[str, str]:
    """Keys of an adapter that name the base's own weights, mapped to the weights they replace.

    PEFT copies them silently onto the base that all adapters and the router share.
    """
    saved = tuple(config.get("modules_to_save") or ())
    found = {}
    for key in keys:
        path = key.removeprefix(PREFIX).replace(".base_layer.", ".")
        if path in layout.weights and not any(part in saved for part in path.split(".")):
            found[key] = path
    return found


def check_structure(
    run: Findings, adapter: AdapterFile, fitter: Fitter, layout: Layout, base_id: str
) -> Fit:
    """Checks keys, shapes and targets against the base; an old layout may explain a mismatch.

    Returns:
        The fit that was checked: that of the renamed adapter if only the renamed one fits. With
        ``fit_plain``, an adapter that has an obstacle is left to PEFT.
    """
    fit = fitter(adapter)
    if fit.obstacle and not fit.expected and not fit.refusal:
        return fit
    if fit.refusal or fit.unexpected:
        fit = _in_todays_layout(run, fit, fitter, base_id)
    if fit.refusal:
        run.error("targets", f"PEFT cannot place it on {base_id} ({fit.refusal})", fit.hint)
        return fit
    _check_keys(run, fit, base_id)
    _check_shapes(run, fit, base_id)
    _check_targets(run, fit, base_id)
    _check_patterns(run, fit)
    _check_own(run, fit, layout)
    if fit.obstacle:
        run.warning(
            "peft-only",
            f"cannot be stacked: {fit.obstacle}",
            "it is served through PEFT itself, slower; train plain matrices of the decoder's "
            "projections for speed",
        )
    return fit


def _check_patterns(run: Findings, fit: Fit) -> None:
    places = {module_of(key) for key in fit.expected}
    for pattern, code in (("rank_pattern", "rank"), ("alpha_pattern", "alpha")):
        for name in fit.adapter.config.get(pattern) or {}:
            if all(pattern_value({name: True}, place, None) is None for place in places):
                message = f"{pattern} names {name}, which is none of its modules"
                run.warning(code, message, "compare with the trainer's settings")


def _check_own(run: Findings, fit: Fit, layout: Layout) -> None:
    """Reports the base's own weights in an adapter: harmless only if they are identical."""
    if not fit.own:
        return
    for key, path in fit.own.items():
        mine, theirs = fit.adapter.tensors[key], layout.weights[path]
        is_known = theirs.device.type != "meta"
        if is_known and (mine.shape != theirs.shape or not torch.equal(theirs.to(mine), mine)):
            run.error(
                "attach",
                f"{key} would replace the base's own weights for every adapter",
                "merge the adapter into a base of its own, or train it without",
            )
            return
    run.warning(
        "base-weights",
        f"{len(fit.own)} of its keys name the base's own weights, such as {min(fit.own)}",
        "weights that differ from the base are refused on loading: merge them into a base",
    )


def _in_todays_layout(run: Findings, fit: Fit, fitter: Fitter, base_id: str) -> Fit:
    """Returns the adapter with renamed keys, if that makes it fit."""
    try:
        renamed = remapped(fit.adapter)
    except ArtefactError as error:
        run.error("old-layout", str(error).removeprefix(f"{fit.adapter.folder}/"), SAVE_AGAIN)
        return fit
    if renamed is None:
        return fit
    better = fitter(renamed)
    if better.refusal or better.unexpected:
        return fit
    moved = sum(key not in better.expected for key in fit.adapter.tensors)
    run.error(
        "old-layout",
        f"{moved} of its {len(fit.adapter.tensors)} keys match nothing in the base {base_id}: they "
        f"have the names of another layout; {renaming(fit.adapter)} makes all of them match",
        "write a copy that has them with --fix OUT",
    )
    return better


def _check_keys(run: Findings, fit: Fit, base_id: str) -> None:
    if fit.unexpected:
        run.error(
            "unexpected-keys",
            f"{len(fit.unexpected)} of its {len(fit.adapter.tensors)} weights match nothing in "
            f"the base {base_id}, such as {fit.unexpected[0]}",
            RETRAIN,
        )
    missing = set(fit.missing)
    whole = [key for key in fit.missing if missing.issuperset(_siblings(fit, key))]
    part = [key for key in fit.missing if key not in set(whole)]
    if whole:
        places = list(dict.fromkeys(map(module_of, whole)))
        run.error(
            "missing-keys",
            f"{len(places)} modules that its {CONFIG} names have no weights, such as {places[0]}: "
            f"{len(whole)} are missing",
            SAVE_AGAIN + ", or use the base that it was trained on",
        )
    if part:
        run.error(
            "half-loaded",
            f"{len(part)} modules have only a part of their weights: {part[0]} is missing",
            SAVE_AGAIN,
        )


def _siblings(fit: Fit, key: str) -> Iterator[str]:
    """All keys of the module that a key belongs to."""
    place = module_of(key)
    return (other for other in fit.expected if module_of(other) == place)


def _check_shapes(run: Findings, fit: Fit, base_id: str) -> None:
    wrong: dict[str, list[str]] = {"sharded": [], "rank": [], "other-base": []}
    for key, shape in fit.expected.items():
        tensor = fit.adapter.tensors.get(key)
        if tensor is not None and tensor.shape != shape:
            kind = _fault_of_shape(key, tensor.shape, shape)
            wrong[kind].append(f"{key} is {list(tensor.shape)}, not {list(shape)}")
    for kind, meaning, hint in (
        ("sharded", "are empty or flat, as one process's share of them", "gather, then save again"),
        ("rank", f"have another rank than its {CONFIG} says", SAVE_AGAIN),
        ("other-base", f"have shapes with which it does not fit the base {base_id}", RETRAIN),
    ):
        if found := wrong[kind]:
            run.error(kind, f"{len(found)} of its weights {meaning}, such as {found[0]}", hint)


def _fault_of_shape(key: str, found: Size, expected: Size) -> str:
    if len(found) != len(expected) or 0 in found:
        return "sharded"
    side = 0 if ".lora_A" in key else 1 if ".lora_B" in key else None
    if side is not None and found[1 - side] == expected[1 - side]:
        return "rank"
    return "other-base"


def _check_targets(run: Findings, fit: Fit, base_id: str) -> None:
    targets = fit.adapter.config.get("target_modules")
    places = {module_of(key) for key in fit.expected}
    if isinstance(targets, list):
        unused = [t for t in targets if not any(f".{place}".endswith(f".{t}") for place in places)]
        if unused:
            run.warning(
                "targets",
                f"{len(unused)} of its target_modules are nothing in {base_id}: {unused[0]}",
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
