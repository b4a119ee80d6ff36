"""The multitask adapter: trained on everything, as a baseline for the router's adapters.

It is in the same stack as the others, so that timings do not differ by the way of answering.
"""

from pointsman.adapters.files import CONFIG, fetch_adapter
from pointsman.engine.engine import Engine
from pointsman.engine.options import EngineOptions
from pointsman.files import read_object
from pointsman.models.checkpoint import Dtype
from pointsman.project import Project

NAME = "multitask"


def engine_beside(
    project: Project,
    where: str,
    path: str,
    *,
    device: str | None = None,
    dtype: Dtype | None = None,
    plan: str | None = None,
) -> Engine:
    """A project's engine with room for one more adapter, which is the last of its ``adapters``.

    Args:
        where: the project's name in errors.
        path: folder or Hub id of the adapter.
        device, dtype: as for ``Engine.from_project``.
        plan: as for ``EngineOptions``.

    Raises:
        ArtefactError, MismatchError: it is missing, broken or made for another base.
        ConfigError: it does not suit the plan of the others.
    """
    config = read_object(fetch_adapter(path) / CONFIG)
    rank = config.get("r")  # loading it reports any other fault
    options = EngineOptions(
        plan=plan,
        resident=len(project.adapters) + 1,
        max_rank=rank if isinstance(rank, int) and rank > 0 else None,
    )
    engine = Engine.from_project(project, where, device=device, dtype=dtype, options=options)
    name = NAME
    while name in engine.adapters:
        name += "-"
    try:
        engine.add_adapter(name, path)
    except BaseException:
        engine.close()
        raise
    return engine
