"""The health of one adapter: everything that is wrong or odd with it, before anything serves it.

Most of these faults are silent elsewhere: weights whose keys match nothing, an adapter of another
base of the same shape, weights that a trainer left outside. What its files and the base's shapes
tell is looked at first and needs none of the base's weights; then one synthetic prompt is answered
with and without it.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pointsman.adapters.check.files import check_files, read_adapter
from pointsman.adapters.check.origin import check_invocation, check_origin
from pointsman.adapters.check.peft_fit import fit_any
from pointsman.adapters.check.probe import probe
from pointsman.adapters.check.structure import check_structure
from pointsman.adapters.check.vllm import CODES, MAX_RANK, check_vllm
from pointsman.adapters.files import remapped, write
from pointsman.adapters.layout import Layout
from pointsman.errors import ArtefactError, ConfigError
from pointsman.findings import Finding, Findings, Report
from pointsman.models.base import Base

TARGETS = ("vllm",)


def check_adapter(
    path: str | Path,
    base: Base | None,
    *,
    target: str | None = None,
    max_lora_rank: int = MAX_RANK,
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
    adapter = read_adapter(run, str(path))
    if adapter is None:
        return run.report()
    check_files(run, adapter)
    if base is not None:
        check_origin(run, adapter, base)
        layout = Layout.of(base.model)
        fitter = partial(fit_any, layout=layout, model=base.model)
        check_structure(run, fitter(adapter), fitter, layout, base.id)
        check_invocation(run, adapter, base)
    if target == "vllm":
        check_vllm(run, adapter, max_lora_rank)
    counts: dict[str, Any] = {"tensors": len(adapter.tensors), "modules": len(adapter.modules)}
    if base is not None and base.device.type != "meta" and is_loadable(run.findings):
        counts["largest_change"] = probe(run, adapter, base)
    return run.report(**counts)


def is_loadable(findings: Sequence[Finding]) -> bool:
    """Whether PEFT can take it: no errors but those of another server, and of other files."""
    fine = ("outside-weights", *CODES)
    return all(finding.level != "error" or finding.kind in fine for finding in findings)


def fix_adapter(path: str | Path, base: Base, out: Path) -> Report:
    """Writes a copy of an adapter with current key names, and returns the copy's report.

    Raises:
        ConfigError: its keys are current, and there is nothing to rename.
        ArtefactError: it has faults that other key names do not fix, or ``out`` cannot be written.
    """
    report = check_adapter(path, base)
    others = [finding for finding in report.errors if finding.kind != "old-layout"]
    if others:
        raise ArtefactError(f"{out}: not written; names alone do not fix it: {others[0]}")
    if not report.errors:
        raise ConfigError(f"{path}: its keys match the base, nothing to fix; use it as it is")
    adapter = read_adapter(Findings(str(path)), str(path))
    fixed = None if adapter is None else remapped(adapter)
    assert fixed is not None  # the finding says so
    write(fixed, out)
    return check_adapter(out, base)
