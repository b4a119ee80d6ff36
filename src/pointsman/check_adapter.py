"""The health of one adapter: everything that is wrong or odd with it, before anything serves it.

Most of these faults are silent elsewhere: weights whose keys match nothing, an adapter of another
base of the same shape, weights that a trainer left outside. What its files and the base's shapes
tell is looked at first and needs none of the base's weights; then one synthetic prompt is answered
with and without it.
"""

import copy
import re
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pointsman import adapter_file, vllm_lint
from pointsman.adapter_file import AdapterFile, module_of
from pointsman.adapter_fit import NAME, check_structure
from pointsman.adapter_report import SAVE_AGAIN, TRAIN_AGAIN, Findings
from pointsman.adapters import (
    CONFIG,
    WEIGHTS,
    attach,
    check_origin,
    fetch_adapter,
    is_same_model,
    rewrites_base,
)
from pointsman.base import Base
from pointsman.data.report import Finding, Report
from pointsman.errors import ArtefactError, ConfigError, MismatchError, PointsmanError
from pointsman.features import probe_prompts
from pointsman.files import read_object, read_tensors
from pointsman.sample import user_turn

TARGETS = ("vllm",)
SCALES = (1 / 16, 8.0)
"""Outside of these, alpha / r is more often a slip than a choice."""

# What trainers are known to write beside an adapter when they also train whole modules.
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
"""What the values must be that are looked at here; any may be null."""
_PICKLES = ("adapter_model.bin", "adapter_model.pt")


def check_adapter(
    path: str | Path,
    base: Base | None,
    *,
    target: str | None = None,
    max_lora_rank: int = vllm_lint.MAX_RANK,
) -> Report:
    """Looks for everything that is wrong with an adapter; never stops at a fault.

    Args:
        path: folder or Hub id.
        base: without adapters, and left as it was. Of ``load_skeleton``: no prompt is answered.
            None: only what the adapter's files tell by themselves.
        target: ``vllm`` also looks for what that server refuses or passes over.
        max_lora_rank: what that server is started with.

    Raises:
        ConfigError: an unknown ``target``.
    """
    if target not in (None, *TARGETS):
        raise ConfigError(f"--target {target!r} is not known; give {' or '.join(TARGETS)}")
    run = Findings(str(path))
    adapter = _read(run, str(path))
    if adapter is None:
        return run.report()
    _check_files(run, adapter)
    if base is not None:
        _check_origin(run, adapter, base)
        check_structure(run, adapter, base)
        _check_invocation(run, adapter, base)
    if target == "vllm":
        vllm_lint.check_vllm(run, adapter, max_lora_rank)
    counts: dict[str, Any] = {"tensors": len(adapter.tensors), "modules": len(adapter.modules)}
    if base is not None and base.device.type != "meta" and is_loadable(run.findings):
        counts["largest_change"] = _probe(run, adapter, base)
    return run.report(**counts)


def check_on_load(name: str, folder: Path, base: Base) -> list[Finding]:
    """What an engine looks for whenever it loads an adapter; returns what is only odd.

    The same as ``check_adapter``, but for the keys and shapes, which ``attach`` has PEFT place on
    the base itself, for the tokens that invoke it, which each request must have, and the probe.

    Raises:
        MismatchError: it was made for another base.
        ArtefactError: anything else that ``check_adapter`` calls an error.
    """
    run = Findings(f"adapter {name}: {folder}")
    adapter = _read(run, str(folder))
    if adapter is not None:
        _check_files(run, adapter)
        _check_origin(run, adapter, base)
    for finding in run.report().errors:
        kind = MismatchError if finding.kind == "other-base" else ArtefactError
        raise kind(str(finding).removeprefix("error: "))
    return run.findings


def is_loadable(findings: Sequence[Finding]) -> bool:
    """Whether PEFT can take it: no errors but those of another server, and of other files."""
    fine = ("outside-weights", *vllm_lint.CODES)
    return all(finding.level != "error" or finding.kind in fine for finding in findings)


def fix_adapter(path: str | Path, base: Base, out: Path) -> Report:
    """Writes a copy of an adapter with today's keys, which then passes, and returns its report.

    Raises:
        ConfigError: its keys are today's, so that there is nothing to rename.
        ArtefactError: it has faults that other names do not mend, or ``out`` cannot be written.
    """
    report = check_adapter(path, base)
    others = [finding for finding in report.errors if finding.kind != "old-layout"]
    if others:
        raise ArtefactError(f"{out}: not written; names alone do not mend this: {others[0]}")
    if not report.errors:
        raise ConfigError(f"{path}: its keys match the base, nothing to fix; use it as it is")
    adapter = _read(Findings(str(path)), str(path))
    fixed = None if adapter is None else adapter_file.remapped(adapter)
    assert fixed is not None  # the finding says so
    adapter_file.write(fixed, out)
    return check_adapter(out, base)


# Files


def _read(run: Findings, path: str) -> AdapterFile | None:
    """The adapter, or None where one of its files cannot be had."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        try:
            folder = fetch_adapter(NAME, path)
        except ArtefactError as error:
            reason = str(error).removeprefix(f"adapter {NAME}: ").removeprefix(f"{path}: ")
            run.error("folder", reason, f"give the folder that holds {CONFIG}")
            return None
    config = _read_config(run, folder)
    tensors = _read_weights(run, folder)
    _check_around(run, folder)
    if config is None or tensors is None:
        return None
    return AdapterFile(folder, config, tensors)


def _read_config(run: Findings, folder: Path) -> dict[str, Any] | None:
    if not (folder / CONFIG).is_file():
        inside = sorted(place.parent.name for place in folder.glob(f"*/{CONFIG}"))
        mend = f"give {folder / inside[-1]}" if inside else "give the folder that holds it"
        run.error("config", f"no {CONFIG} in it", mend)
        return None
    try:
        config = read_object(folder / CONFIG)
    except ArtefactError as error:
        run.error("config", _without(error, folder), SAVE_AGAIN)
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


def _read_weights(run: Findings, folder: Path) -> dict[str, Tensor] | None:
    pickles = [name for name in _PICKLES if (folder / name).is_file()]
    convert = (
        "load it where it was trained and save it again with save_pretrained, which writes "
        "safetensors"
    )
    if not (folder / WEIGHTS).is_file():
        if pickles:
            run.error("pickle", f"{pickles[0]} is a pickle, which is never loaded", convert)
        else:
            run.error("weights", f"no {WEIGHTS} in it", SAVE_AGAIN)
        return None
    if pickles:
        run.warning("pickle", f"{pickles[0]} lies beside {WEIGHTS} and is never read", "delete it")
    try:
        tensors = read_tensors(folder / WEIGHTS)
    except ArtefactError as error:
        run.error("weights", _without(error, folder), "copy or save the adapter again")
        return None
    if not tensors:
        run.error("weights", f"{WEIGHTS} holds no weights at all", SAVE_AGAIN)
        return None
    return tensors


def _check_around(run: Findings, folder: Path) -> None:
    """Weights that the trainer left outside of the adapter, which no loader reads."""
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
    """Whether a file holds tensors; a pickle's archive is listed, never loaded."""
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


# What the adapter's own files tell


def _check_files(run: Findings, adapter: AdapterFile) -> None:
    _check_config(run, adapter)
    _check_values(run, adapter)


def _check_config(run: Findings, adapter: AdapterFile) -> None:
    if (init := rewrites_base(adapter.config)) is not None:
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
        mend = f"write the value that it was trained with into {CONFIG}"
        run.error("alpha", "lora_alpha is not said, and PEFT would take 8", mend)
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
    for pattern, code in (("rank_pattern", "rank"), ("alpha_pattern", "alpha")):
        for place in adapter.config.get(pattern) or {}:
            if not _names_one_of(place, adapter.modules):
                message = f"{pattern} names {place}, which is none of its modules"
                run.warning(code, message, "compare with the trainer's settings")


def _names_one_of(pattern: str, modules: set[str]) -> bool:
    """As PEFT matches it: the end of a module's path, a regular expression."""
    try:
        return any(re.match(rf"(.*\.)?({pattern})$", module) for module in modules)
    except re.error:
        return False


def _check_values(run: Findings, adapter: AdapterFile) -> None:
    wrong = [key for key, t in adapter.tensors.items() if not bool(t.float().isfinite().all())]
    if wrong:
        run.error(
            "nan",
            f"{len(wrong)} of its {len(adapter.tensors)} tensors hold NaN or infinity, such as "
            f"{wrong[0]}",
            "take an earlier checkpoint, or train with a lower learning rate",
        )
    whole = [key for key, t in adapter.tensors.items() if t.numel() and ".lora_" in key]
    zero = {module_of(key) for key in whole if not bool(adapter.tensors[key].any())}
    if not zero:
        return
    message = f"all weights of A or B are 0 in {len(zero)} of its {len(adapter.modules)} modules"
    mend = "take a later checkpoint; check that the optimiser had its weights"
    only_lora = len(whole) == len(adapter.tensors) and not adapter.config.get("use_dora")
    if zero == adapter.modules and only_lora:
        run.error("zero-effect", f"{message}: it changes nothing", mend)
    else:
        run.warning("zero-effect", f"{message}, such as {min(zero)}", mend)


# What the base's shapes tell


def _check_origin(run: Findings, adapter: AdapterFile, base: Base) -> None:
    try:
        check_origin(base, NAME, adapter.folder)
    except PointsmanError as error:
        message = str(error).removeprefix(f"adapter {NAME} ({adapter.folder}) ")
        message, _, mend = message.rpartition("; ")
        run.error("other-base", message or str(error), mend or TRAIN_AGAIN)
        return
    named = str(adapter.config.get("base_model_name_or_path") or "")
    mine, theirs = (value.rstrip("/").rpartition("/")[2] for value in (named, base.id))
    if "qwen" not in mine.lower() or "qwen" not in theirs.lower():
        return  # a folder's name tells nothing
    if not is_same_model(mine, theirs):
        run.warning("other-base", f"was made for {named}, the base is {base.id}", TRAIN_AGAIN)
    elif mine.lower() != theirs.lower():
        mend = "compare its answers with the trainer's"
        run.warning("other-base", f"was trained on {named}, a copy of {base.id}", mend)


def _check_invocation(run: Findings, adapter: AdapterFile, base: Base) -> None:
    tokens = adapter.config.get("alora_invocation_tokens")
    if not tokens:
        return
    prompt = base.render([user_turn("Go", 0)])
    ids = list(base.tokenizer(prompt, add_special_tokens=False)["input_ids"])
    starts = range(len(ids) - len(tokens) + 1)
    if not any(ids[start : start + len(tokens)] == list(tokens) for start in starts):
        run.error(
            "invocation",
            f"its alora_invocation_tokens {list(tokens)} are not in what the chat template of "
            f"{base.id} makes of a prompt, so that it would never be on",
            TRAIN_AGAIN,
        )


# What it does


def _probe(run: Findings, adapter: AdapterFile, base: Base) -> float | None:
    """The largest change of a logit, for a synthetic prompt that is answered with it and without.

    On a twin of the base: PEFT changes a model's modules, and these stay as they are.
    """
    twin = replace(base, model=_twin(base.model))
    # With pixels: features of images that were seen before would hide a change of the tower.
    inputs = twin.stock_inputs(twin.encode([next(probe_prompts())]))
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before = twin.model(**inputs, logits_to_keep=1).logits.float()
            attached = attach(twin, NAME, adapter.folder)
            after = attached.model(**inputs, logits_to_keep=1).logits.float()
    except (ArtefactError, MismatchError) as error:
        message, _, mend = str(error).rpartition("; ")
        code = "other-base" if isinstance(error, MismatchError) else "attach"
        run.error(code, message.removeprefix(f"adapter {NAME}: "), mend)
        return None
    if not bool(before.isfinite().all()):
        run.error("nan", f"{base.id} itself gives NaN or infinity", "use another dtype or device")
        return None
    if not bool(after.isfinite().all()):
        mend = "take an earlier checkpoint; check lora_alpha"
        run.error("nan", "with it the base gives NaN or infinity for a synthetic prompt", mend)
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
    """The same weights in modules of its own; vectors are copied, as PEFT writes into biases."""
    tensors: Sequence[Tensor] = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors if tensor.dim() > 1})


def _without(error: Exception, folder: Path) -> str:
    """The message without the folder that it starts with, which a finding has of its own."""
    return str(error).removeprefix(f"{folder}/")
