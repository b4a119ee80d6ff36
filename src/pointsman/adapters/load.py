"""Loading an adapter: its files are read once and checked by the rules of ``adapters.check``.

PEFT is not needed here: see ``adapters.peft`` for adapters that only PEFT can run.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pointsman.adapters.check.files import check_files, read_adapter
from pointsman.adapters.check.origin import check_origin
from pointsman.adapters.check.structure import check_structure, fit_plain
from pointsman.adapters.files import AdapterFile
from pointsman.adapters.layout import Layout
from pointsman.adapters.weights import Lora
from pointsman.errors import ArtefactError, MismatchError
from pointsman.findings import Finding, Findings
from pointsman.labels import check_name
from pointsman.models.base import Base
from pointsman.routing.router import Router


@dataclass(frozen=True)
class Adapter:
    """An adapter that was read and fits its base."""

    name: str
    file: AdapterFile
    lora: Lora | str
    """Its matrices, or the reason why only PEFT can run it"""
    warnings: tuple[Finding, ...]


def open_adapter(name: str, path: str | Path) -> AdapterFile:
    """Reads an adapter's files and checks them without a base.

    Raises:
        LabelError: the name is not legal for an adapter.
        ArtefactError: a file is missing, broken, pickled or faulty.
    """
    check_name(name)
    run = Findings(f"adapter {name}: {Path(path).expanduser()}")
    file = read_adapter(run, path)
    raise_errors(run)
    assert file is not None  # otherwise an error was raised
    return file


def open_sealed(name: str, source: AdapterFile | str | Path, router: Router) -> AdapterFile:
    """An adapter's files, read or given, checked against the router's seal.

    Raises:
        LabelError, ArtefactError: as ``open_adapter``.
        MismatchError: a file is not the one that the router sealed.
    """
    file = source if isinstance(source, AdapterFile) else open_adapter(name, source)
    router.check_adapter(name, file.folder, file.digests)
    return file


def fit_adapter(name: str, file: AdapterFile, base: Base, layout: Layout) -> Adapter:
    """Checks an adapter against a base. One that PEFT must run is fitted by ``peft.attach``.

    Args:
        layout: the base's layout before its projections were replaced.

    Raises:
        MismatchError: it was made for another base.
        ArtefactError: anything else that ``check_adapter`` calls an error.
    """
    run = Findings(f"adapter {name}: {file.folder}")
    check_files(run, file)
    check_origin(run, file, base)
    fit = check_structure(run, file, partial(fit_plain, layout=layout), layout, base.id)
    raise_errors(run)
    lora: Lora | str = fit.obstacle or ""
    if fit.plain is not None:
        lora = fit.plain.lora(name, file)
    return Adapter(name, file, lora, tuple(run.findings))


def raise_errors(run: Findings) -> None:
    """Raises the first error of a check; a mismatch of the base comes before all others."""
    errors = run.report().errors
    for finding in errors:
        if finding.kind == "other-base":
            raise MismatchError(str(finding).removeprefix("error: "))
    for finding in errors:
        raise ArtefactError(str(finding).removeprefix("error: "))
