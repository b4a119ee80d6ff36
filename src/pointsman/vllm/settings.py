"""Settings: the project that vLLM serves, in each of its processes."""

import os
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from pointsman.project import Project, load_project
from pointsman.routing.load import load_router
from pointsman.routing.router import Router
from pointsman.routing.seal import router_digest

CONFIG = "POINTSMAN_CONFIG"
"""The environment variable that names the project file; vLLM's processes inherit it"""


@dataclass(frozen=True, eq=False)
class Settings:
    """A project and its router."""

    where: str
    """The project file"""
    project: Project
    router: Router

    @cached_property
    def router_digest(self) -> str:
        return router_digest(str(self.project.router))

    @property
    def reads_with_base(self) -> bool:
        """Whether the router reads the base's states; otherwise it has a text encoder."""
        return not self.router.origin.is_encoder


def load_settings() -> Settings | None:
    """The settings of this process; None if no project file is named.

    Raises:
        PointsmanError: the project file or its router has a fault.
    """
    where = os.environ.get(CONFIG)
    return _load(where) if where else None


@cache
def _load(where: str) -> Settings:
    path = str(Path(where).absolute())
    project = load_project(path)
    return Settings(path, project, load_router(project, path))
