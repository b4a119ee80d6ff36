"""Loads what a project names."""

from pathlib import Path

from pointsman.errors import ConfigError
from pointsman.project import Project
from pointsman.routing.router import Router


def load_router(project: Project, where: str) -> Router:
    """The router that a project names; ``where`` is the project's name in errors.

    Raises:
        ConfigError: it names none.
        MismatchError: the router's label map is another one.
    """
    if project.router is None:
        raise ConfigError(f'{where}: needs router = "folder"; train one: `pointsman train`')
    router = Router.load(Path(project.router))
    project.labels.check_same(
        router.labels,
        where,
        f"the router {project.router}",
        "list [adapters] in the router's order, or train a router on this order",
    )
    return router
