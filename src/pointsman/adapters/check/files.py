"""Checks of an adapter's own files, without a base."""

import re
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pointsman.adapters.files import (
    CONFIG,
    SHARDS,
    WEIGHTS,
    AdapterFile,
    fetch_adapter,
    module_of,
)
from pointsman.errors import ArtefactError
from pointsman.files import digest_file, read_object, read_tensors_and_digest
from pointsman.findings import SAVE_AGAIN, Findings

SCALES = (1 / 16, 8.0)
"""Outside this range, alpha / r is more often a mistake than a choice."""
# Files that trainers write beside an adapter when they also train whole modules.
_OUTSIDE = (
    "non_lora_state_dict.bin",
    "non_lora_trainables.bin",
    "mm_projector.bin",
    "vit.safetensors",
)
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "peft_type": (str, "a name"),
    "base_model_name_or_path": (str, "a name"),
    "target_modules": ((str, list), "names or a regular expression"),
    "modules_to_save": (list, "names"),
    "rank_pattern": (dict, "an object"),
    "alpha_pattern": (dict, "an object"),
    "alora_invocation_tokens": (list, "numbers of tokens"),
}
"""What the checked values must be; any may be null."""
_PICKLES = ("adapter_model.bin", "adapter_model.pt")
REWRITING_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""LoRA initialisations that start from the base's own weights and change them."""


# Files


def read_adapter(run: Findings, path: str | Path) -> AdapterFile | None:
    """The adapter, or None if one of its files cannot be read."""
    try:
        folder = fetch_adapter(path)
    except ArtefactError as error:
        reason = str(error).removeprefix(f"{path}: ")
        run.error("folder", reason, f"give the folder that holds {CONFIG}")
        return None
    if not (folder / CONFIG).is_file():
        _report_place(run, folder)
        return None
    config = _read_config(run, folder)
    weights = _read_weights(run, folder)
    _check_around(run, folder)
    if config is None or weights is None:
        return None
    tensors, digest = weights
    digests = {CONFIG: digest_file(folder / CONFIG), WEIGHTS: digest}
    return AdapterFile(folder, config, tensors, digests)


def _report_place(run: Findings, folder: Path) -> None:
    """Reports that a folder is not an adapter's, and which of its checkpoints is the newest."""
    inside = [*folder.glob(f"*/{CONFIG}"), *folder.glob(f"*/*/{CONFIG}")]
    newest = max((place.parent for place in inside), key=_numbers, default=None)
    hint = f"give {newest}" if newest else "give the folder that holds it"
    run.error("config", f"no {CONFIG} in it", hint)


def _read_config(run: Findings, folder: Path) -> dict[str, Any] | None:
    try:
        config = read_object(folder / CONFIG)
    except ArtefactError as error:
        message, _, hint = without_folder(error, folder).partition("; ")
        run.error("config", message, hint or SAVE_AGAIN)
        return None
    wrong = [
        f"{name} is {config[name]!r}, not {meaning}"
        for name, (kinds, meaning) in _KINDS.items()
        if config.get(name) is not None and not isinstance(config[name], kinds)
    ]
    if "peft_type" not in config:
        wrong.append("it has no peft_type")
    for fault in wrong:
        run.error("config", f"{CONFIG}: {fault}", SAVE_AGAIN)
    return None if wrong else config


def _numbers(folder: Path) -> list[str | int]:
    """A folder's path with its numbers as numbers: checkpoint-1500 is after checkpoint-500."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(folder))]


def _read_weights(run: Findings, folder: Path) -> tuple[dict[str, Tensor], str] | None:
    pickles = [name for name in _PICKLES if (folder / name).is_file()]
    convert = (
        "load it where it was trained and save it again with save_pretrained, which writes "
        "safetensors"
    )
    if not (folder / WEIGHTS).is_file():
        shards = sorted(place.name for place in folder.glob(SHARDS))
        if pickles:
            run.error("pickle", f"{pickles[0]} is a pickle, which is never loaded", convert)
        elif shards:
            run.error(
                "weights",
                f"its weights are in {len(shards)} shards, {shards[0]} and others, which no loader "
                "of adapters reads",
                f"join the shards: read all with safetensors and save them as one {WEIGHTS}",
            )
        else:
            run.error("weights", f"no {WEIGHTS} in it", SAVE_AGAIN)
        return None
    if pickles:
        run.warning("pickle", f"{pickles[0]} lies beside {WEIGHTS} and is never read", "delete it")
    try:
        tensors, digest = read_tensors_and_digest(folder / WEIGHTS)
    except ArtefactError as error:
        message, _, hint = str(error).rpartition("; ")
        if "Git LFS" not in message:  # else the hint is of any file
            hint = "copy or save the adapter again (a pickle under this name is never loaded)"
        run.error("weights", message, hint)
        return None
    if not tensors:
        run.error("weights", f"{WEIGHTS} holds no weights at all", SAVE_AGAIN)
        return None
    return tensors, digest


def _check_around(run: Findings, folder: Path) -> None:
    """Reports weights that the trainer saved outside the adapter, where no loader reads them."""
    for name in _OUTSIDE:
        if not (folder / name).is_file():
            continue
        if _holds_tensors(folder / name):
            run.error(
                "outside-weights",
                f"{name} holds weights that were trained with it and no server loads",
                "merge them into a base of its own, or train without whole modules",
            )
        else:
            run.warning("outside-weights", f"{name} holds no weights", "delete it")


def _holds_tensors(path: Path) -> bool:
    """Whether a file holds tensors; a pickle's archive is only listed, never loaded."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return bool(file.keys())
        except SafetensorError:
            return True
    if not zipfile.is_zipfile(path):
        return True
    with zipfile.ZipFile(path) as archive:
        return any("/data/" in name for name in archive.namelist())


# Configuration and values


def check_files(run: Findings, adapter: AdapterFile) -> None:
    _check_config(run, adapter)
    _check_values(run, adapter)


def _check_config(run: Findings, adapter: AdapterFile) -> None:
    if (init := _rewriting_init(adapter.config)) is not None:
        run.error(
            "rewrites-base",
            f"init_lora_weights is {init!r}: loading it changes the base's own weights",
            "save it with PEFT's path_initial_model_for_weight_conversion",
        )
    if adapter.config["peft_type"] != "LORA":
        return
    rank, alpha = adapter.config.get("r"), adapter.config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1:
        run.error("rank", f"r is {rank!r}, not a whole number above 0", SAVE_AGAIN)
        return
    if alpha is None:
        hint = f"write the value that it was trained with into {CONFIG}"
        run.error("alpha", "lora_alpha is missing, and PEFT would take 8", hint)
    elif not isinstance(alpha, int | float) or alpha == 0:
        run.error("alpha", f"lora_alpha is {alpha!r}: it has no effect", SAVE_AGAIN)
    else:
        scale = alpha / (rank**0.5 if adapter.config.get("use_rslora") else rank)
        if not SCALES[0] <= scale <= SCALES[1]:
            run.warning(
                "alpha",
                f"lora_alpha {alpha} and r {rank} scale it by {scale:.3g}",
                "compare with the trainer's settings: a wrong value is silent",
            )


def _rewriting_init(config: dict[str, Any]) -> str | None:
    """The initialisation that would change the base's own weights when the adapter is loaded."""
    init = str(config.get("init_lora_weights") or "").lower()
    return init if init.startswith(REWRITING_INITS) else None


def _check_values(run: Findings, adapter: AdapterFile) -> None:
    if packed := [key for key, t in adapter.tensors.items() if _is_packed(key, t)]:
        kind = str(adapter.tensors[packed[0]].dtype).removeprefix("torch.")
        run.error(
            "dtype",
            f"{len(packed)} of its {len(adapter.tensors)} tensors are {kind} without the scales "
            f"that PEFT would need, such as {min(packed)}",
            "save it in float32, bfloat16 or float16, as before it was quantised",
        )
        return
    wrong = [key for key, t in adapter.tensors.items() if not bool(t.float().isfinite().all())]
    if wrong:
        run.error(
            "nan",
            f"{len(wrong)} of its {len(adapter.tensors)} tensors hold NaN or infinity, such as "
            f"{min(wrong)}",
            "take an earlier checkpoint, or train with a lower learning rate",
        )
    whole = [key for key, t in adapter.tensors.items() if t.numel() and ".lora_" in key]
    zero = {module_of(key) for key in whole if not bool(adapter.tensors[key].any())}
    if not zero:
        return
    message = f"all weights of A or B are 0 in {len(zero)} of its {len(adapter.modules)} modules"
    hint = "take a later checkpoint; check that the optimiser had its weights"
    only_lora = len(whole) == len(adapter.tensors) and not adapter.config.get("use_dora")
    if zero == adapter.modules and only_lora:
        run.error("zero-effect", f"{message}: it changes nothing", hint)
    else:
        run.warning("zero-effect", f"{message}, such as {min(zero)}", hint)


def _is_packed(key: str, tensor: Tensor) -> bool:
    """Whether a tensor has whole numbers or 8 bits: a quantised one's values without its scales."""
    is_matrix = ".lora_" in key or tensor.element_size() == 1
    return is_matrix and (not tensor.is_floating_point() or tensor.element_size() == 1)


def without_folder(error: Exception, folder: Path) -> str:
    """The message without its leading folder, which a finding stores separately."""
    return str(error).removeprefix(f"{folder}/")
