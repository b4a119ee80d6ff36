"""Sealing adapters: a router learns the digests of the files that its labels stand for.

A router is trained on the base alone, often before its adapters are at hand, so this is a step of
its own. What was sealed once is only replaced for adapters that are named.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from pointsman.adapters.check.check import check_adapter
from pointsman.adapters.files import CONFIG, WEIGHTS, fetch_adapter
from pointsman.errors import ArtefactError
from pointsman.files import digest_file
from pointsman.models.base import load_skeleton
from pointsman.project import Project
from pointsman.routing.router import Router


def seal_adapters(path: Path, project: Project, again: Collection[str] = ()) -> dict[str, str]:
    """Seals the files of a project's adapters into the router folder ``path``.

    Args:
        again: adapters whose sealed files are to be replaced by those at hand, as after training
            one anew.

    Returns:
        What became of each adapter, in label order: ``sealed``, ``unchanged`` or ``sealed again``.

    Raises:
        LabelError: a name in ``again`` that is no adapter of the router.
        MismatchError: the project has other labels, or an adapter that is not in ``again`` is not
            the one that was sealed.
        ArtefactError: an adapter that is missing, broken, or has a fault by its files and shapes.
    """
    router = Router.load(path)
    project.labels.check_same(router.labels, "the project", str(path), "use the router's project")
    for name in again:
        router.labels.label(name)  # refuses a name that is none
    folders = {name: fetch_adapter(name, place) for name, place in project.adapters.items()}
    router.check_adapters({name: f for name, f in folders.items() if name not in again})
    # A router that reads text may stand before a server: then there may be no base to fit them to.
    skeleton = load_skeleton(project.base, revision=project.revision) if project.base else None
    digests, done = {}, {}
    for name, folder in folders.items():
        report = check_adapter(folder, skeleton)
        if report.errors:
            raise ArtefactError(f"adapter {name}: not sealed; {report.errors[0]}")
        found = {file: digest_file(folder / file) for file in (CONFIG, WEIGHTS)}
        was = router.adapter_digests.get(name)
        done[name] = "sealed" if was is None else "unchanged" if was == found else "sealed again"
        digests[name] = found
    replace(router, adapter_digests=digests).save(path)
    return done
