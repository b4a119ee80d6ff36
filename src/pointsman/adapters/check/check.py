"""Adapter check: everything that is wrong or odd with one adapter, before anything serves it.

Most of these faults are silent elsewhere: weights whose keys match nothing, an adapter trained on
another base of the same shape, weights that a trainer saved outside the adapter. The files and the
base's shapes are checked first, which needs none of the base's weights. Then one synthetic prompt
is answered with the adapter and without it.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pointsman.adapters.check.files import check_files, read_adapter
from pointsman.adapters.check.origin import check_invocation, check_origin
from pointsman.adapters.check.peft_fit import fit_any, is_known
from pointsman.adapters.check.probe import probe
from pointsman.adapters.check.structure import check_structure
from pointsman.adapters.check.vllm import CODES, VllmOptions, check_vllm
from pointsman.adapters.files import AdapterFile, remapped, write
from pointsman.adapters.layout import Layout
from pointsman.errors import ArtefactError, ConfigError
from pointsman.findings import Finding, Findings, Report
from pointsman.models.base import Base

TARGETS = ("vllm",)


def check_adapter(
    path: str | Path | AdapterFile,
    base: Base | None,
    *,
    target: str | None = None,
    max_lora_rank: int = 16,
    enable_tower_connector_lora: bool = False,
) -> Report:
    """Reports everything that is wrong with an adapter; does not stop at the first fault.

    Args:
        path: folder or Hub id, or the adapter as ``open_adapter`` reads it.
        base: the base without adapters; it is left as it was. With a base from ``load_skeleton``
            no prompt is answered. None: only the adapter's own files are checked.
        target: ``vllm`` also reports what vLLM refuses, and what it loads but does not compute.
        max_lora_rank: the ``--max-lora-rank`` that vLLM is started with.
        enable_tower_connector_lora: whether vLLM is started with the option of this name.

    Raises:
        ConfigError: an unknown ``target``, or a ``max_lora_rank`` that vLLM does not accept.
    """
    if target not in (None, *TARGETS):
        raise ConfigError(f"--target {target!r} is not known; give {' or '.join(TARGETS)}")
    vllm = VllmOptions(max_lora_rank, enable_tower_connector_lora)
    run = Findings(str(path.folder if isinstance(path, AdapterFile) else path))
    adapter = path if isinstance(path, AdapterFile) else read_adapter(run, path)
    if adapter is None:
        return run.report()
    check_files(run, adapter)
    layout = None if base is None else Layout.of(base.model)
    if is_known(run, adapter.config) and base is not None and layout is not None:
        check_origin(run, adapter, base)
        fitter = partial(fit_any, layout=layout, model=base.model)
        check_structure(run, adapter, fitter, layout, base.id)
        check_invocation(run, adapter, base)
    if target == "vllm":
        check_vllm(run, adapter, layout, vllm)
    counts: dict[str, Any] = {"tensors": len(adapter.tensors), "modules": len(adapter.modules)}
    if base is not None and base.device.type != "meta" and is_loadable(run.findings):
        counts["largest_change"] = probe(run, adapter, base)
    return run.report(**counts)


def is_loadable(findings: Sequence[Finding]) -> bool:
    """Whether PEFT can load it: no errors except those of another server and of other files."""
    fine = ("outside-weights", *CODES)
    return all(finding.level != "error" or finding.kind in fine for finding in findings)


def fix_adapter(path: str | Path, base: Base, out: Path) -> Report:
    """Writes a copy of an adapter with current key names, and returns the copy's report.

    Raises:
        ConfigError: its keys are current, so there is nothing to rename.
        ArtefactError: it has faults that renaming does not fix, or ``out`` cannot be written.
    """
    report = check_adapter(path, base)
    others = [finding for finding in report.errors if finding.kind != "old-layout"]
    if others:
        raise ArtefactError(f"{out}: not written; renaming alone does not fix it: {others[0]}")
    if not report.errors:
        raise ConfigError(f"{path}: its keys match the base, nothing to fix; use it as it is")
    adapter = read_adapter(Findings(str(path)), str(path))
    fixed = None if adapter is None else remapped(adapter)
    assert fixed is not None  # the finding says so
    write(fixed, out)
    return check_adapter(out, base)
