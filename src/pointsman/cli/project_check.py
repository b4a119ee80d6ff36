"""Checks a project file and everything it names, and reports all faults at once.

It does not read the weights of the base. ``adapters check`` and the engine check against those.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pointsman.adapters.check.check import check_adapter
from pointsman.adapters.files import CONFIG, WEIGHTS, fetch_adapter
from pointsman.errors import PointsmanError
from pointsman.files import digest_file
from pointsman.findings import Finding, Level, Report
from pointsman.models.base import Base, load_skeleton
from pointsman.models.checkpoint import fetch
from pointsman.project import Project, faults, load_project, read_table
from pointsman.routing.load import load_router
from pointsman.routing.router import Router
from pointsman.routing.seal import unsealed_note
from pointsman.server.options import ServerOptions


@dataclass
class _Check:
    where: str
    findings: list[Finding] = field(default_factory=list)

    def add(self, level: Level, kind: str, message: str) -> None:
        message = message.removeprefix(f"{self.where}: ")
        self.findings.append(Finding(level, kind, self.where, message))

    @contextmanager
    def errors_of(self, kind: str) -> Iterator[None]:
        """Turns an error inside the block into a finding."""
        try:
            yield
        except PointsmanError as error:
            self.add("error", kind, str(error))


def check_project(path: Path) -> Report:
    """Looks for faults in a project file and in everything it names.

    The kinds of findings are ``project``, ``server``, ``base``, ``encoder``, ``router``, ``seal``,
    and the codes of ``check_adapter``. ``counts`` has the numbers of ``adapters`` and ``labels``.
    """
    run = _Check(str(path))
    project = _project(run, path)
    if project is None:
        return Report(path, run.findings, {})
    base = _base(run, project)
    folders = _adapters(run, project, base)
    router = _router(run, project)
    if router is not None:
        _reader(run, project, router, base)
        _seals(run, router, folders)
    run.findings.sort(key=lambda finding: finding.level != "error")
    labels = 0 if router is None else len(router.labels)
    return Report(path, run.findings, {"adapters": len(project.adapters), "labels": labels})


def _project(run: _Check, path: Path) -> Project | None:
    with run.errors_of("project"):
        table = read_table(path)
        _server(run, table.get("server"), path.parent)
        broken = list(faults(table, path))
        for fault in broken:
            run.add("error", "project", str(fault))
        return None if broken else load_project(path)
    return None


def _server(run: _Check, table: Any, folder: Path) -> None:
    """Checks the options of ``serve``, and whether the environment has the key that they need."""
    if isinstance(table, dict):
        with run.errors_of("server"):
            for fault in ServerOptions.faults(table, folder):
                run.add("error", "server", str(fault))


def _base(run: _Check, project: Project) -> Base | None:
    """The base without its weights; None if there is none, or if it has errors."""
    if project.base is None:
        return None
    with run.errors_of("base"):
        return load_skeleton(project.base, revision=project.revision)
    return None


def _adapters(run: _Check, project: Project, base: Base | None) -> dict[str, Path]:
    """Checks the adapters; returns the folders of those that exist."""
    folders = {}
    for name, place in project.adapters.items():
        found = check_adapter(place, base).findings
        run.findings += [replace(f, where=f"adapter {name}: {f.where}") for f in found]
        try:
            folders[name] = fetch_adapter(place)
        except PointsmanError:
            continue  # check_adapter reported it
    return folders


def _router(run: _Check, project: Project) -> Router | None:
    if project.router is None:
        message = 'names no router, so it cannot route; train one and add router = "folder"'
        run.add("warning", "router", message)
        return None
    with run.errors_of("router"):
        return load_router(project, run.where)
    return None


def _reader(run: _Check, project: Project, router: Router, base: Base | None) -> None:
    """Checks that the router reads with the base or the encoder of the project."""
    origin = router.origin
    if origin.is_encoder:
        with run.errors_of("encoder"):
            fetch(project.encoder or origin.base_model_id, None, weights=False)
        return
    if project.encoder is not None:
        run.add(
            "error",
            "encoder",
            f"encoder is {project.encoder!r}, but the router reads with its base, "
            f"{origin.base_model_id}; leave the encoder out, or train a router on it",
        )
    if project.base is None:
        run.add(
            "error",
            "base",
            f'the router reads with a base; add base = "{origin.base_model_id}"',
        )
    elif base is not None:
        with run.errors_of("base"):
            replace(origin.fingerprint, weights="").check_same(
                base.fingerprint,
                f"the router's base ({origin.base_model_id})",
                f"the base of the project ({base.id})",
                "use that base, or preprocess and train a router on this one",
            )


def _seals(run: _Check, router: Router, folders: dict[str, Path]) -> None:
    for name, folder in folders.items():
        if name in router.labels.names:
            with run.errors_of("seal"):
                digests = {file: digest_file(folder / file) for file in (CONFIG, WEIGHTS)}
                router.check_adapter(name, folder, digests)
    if router.unsealed:
        run.add("warning", "seal", unsealed_note(router.unsealed))
