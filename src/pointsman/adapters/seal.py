"""Sealing adapters: a router records the digests of the files behind its labels.

A router is trained on the base alone, often before its adapters exist, so sealing is a separate
step. A seal is replaced only for adapters that are named.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from pointsman.adapters.check.check import check_adapter
from pointsman.adapters.load import open_adapter
from pointsman.errors import ArtefactError
from pointsman.models.base import load_skeleton
from pointsman.project import Project
from pointsman.routing.router import Router


def seal_adapters(path: Path, project: Project, again: Collection[str] = ()) -> dict[str, str]:
    """Seals the files of a project's adapters into the router folder ``path``.

    Args:
        again: adapters whose seals are to be replaced by those of the current files, for example
            after retraining.

    Returns:
        What became of each adapter, in label order: ``sealed``, ``unchanged`` or ``sealed again``.

    Raises:
        LabelError: a name in ``again`` is not an adapter of the router.
        MismatchError: the project has other labels, or an adapter that is not in ``again`` differs
            from the sealed one.
        ArtefactError: an adapter is missing or broken, or its files or shapes have a fault.
    """
    router = Router.load(path)
    project.labels.check_same(router.labels, "the project", str(path), "use the router's project")
    for name in again:
        router.labels.label(name)  # raises on an unknown name
    files = {name: open_adapter(name, place) for name, place in project.adapters.items()}
    for name, file in files.items():
        if name not in again:
            router.check_adapter(name, file.folder, file.digests)
    # A text router may run in front of a server: then there may be no base to check them against.
    skeleton = load_skeleton(project.base, revision=project.revision) if project.base else None
    for name, file in files.items():
        if errors := check_adapter(file, skeleton).errors:
            raise ArtefactError(f"adapter {name}: not sealed; {errors[0]}")
    found = {name: dict(file.digests) for name, file in files.items()}
    done = {name: _outcome(router.adapter_digests.get(name), found[name]) for name in files}
    replace(router, adapter_digests=found).save(path)
    return done


def _outcome(before: dict[str, str] | None, now: dict[str, str]) -> str:
    if before is None:
        return "sealed"
    return "unchanged" if before == now else "sealed again"
