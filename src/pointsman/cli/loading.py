"""What commands load: the project, and the engine, router, base or encoder that it names.

An option of the command line comes before the project file, and the project file before the
embedded pocket model. Imported by commands when they run, with all model libraries.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pointsman.cli import console
from pointsman.cli.projects import find_config
from pointsman.engine.engine import Engine
from pointsman.engine.options import EngineOptions
from pointsman.errors import ConfigError
from pointsman.evaluation.multitask import engine_beside
from pointsman.labels import BASE
from pointsman.models.base import Base, load_base
from pointsman.models.checkpoint import Dtype
from pointsman.models.features import FeatureRecipe, Reader
from pointsman.models.text_encoder import load_encoder
from pointsman.pocket import pocket_folder
from pointsman.project import FILE_NAME, Project, load_project
from pointsman.routing.load import load_encoder_of, load_router
from pointsman.routing.request_router import RequestRouter
from pointsman.routing.router import Router
from pointsman.routing.text_router import TextRouter


@dataclass(frozen=True)
class Given:
    """What a command line says about what to load."""

    config: Path | None = None
    router: Path | None = None
    base: str | None = None
    encoder: str | None = None
    revision: str | None = None
    max_pixels: int | None = None
    device: str | None = None
    dtype: Dtype | None = None
    plan: str | None = None
    multitask: str | None = None


@contextmanager
def open_router(given: Given, *, answers: bool = False) -> Iterator[RequestRouter]:
    """What decides requests: an engine, or a router that reads text alone without its base.

    Args:
        answers: an engine, wherever there is a base to answer with.
    """
    given = replace(given, config=find_config(given.config))
    project = _project(given)
    needs_engine = given.multitask is not None or (
        answers and project is not None and project.base is not None
    )
    alone = None if needs_engine else _text_router(given, project)
    if alone is not None:
        yield alone
        return
    with _engine(given, project) as engine:
        yield engine


def open_engine(given: Given) -> Engine:
    """The project's engine, else the pocket's; with ``multitask``, its last adapter."""
    given = replace(given, config=find_config(given.config))
    return _engine(given, _project(given))


def open_base(given: Given) -> Base:
    """The base that is given, else the project's, else the pocket's."""
    if given.base is None:
        given = replace(given, config=find_config(given.config))
    project = None if given.config is None else load_project(given.config)
    if project is None and given.base is None:
        console.note("no --base and no --config: using the embedded pocket base")
        project = _pocket()
    base = given.base or (project.base if project else None)
    if base is None:
        raise ConfigError(f'{given.config}: needs base = "a Hub id or folder", or give --base')
    console.quiet_libraries()
    return load_base(
        base,
        revision=base_revision(given, project),
        device=given.device,
        dtype=given.dtype,
        max_pixels=given.max_pixels or (project.max_pixels if project else None),
    )


def base_revision(given: Given, project: Project | None) -> str | None:
    """The revision of the base; the project's belongs to the project's base alone."""
    is_projects = project is not None and given.base in (None, project.base)
    return given.revision or (project.revision if project and is_projects else None)


def open_reader(given: Given) -> Reader:
    """The text encoder that is given, or that the project names; else the base."""
    if given.base is not None and given.encoder is not None:
        raise ConfigError(
            f"--base {given.base} and --encoder {given.encoder}: the router reads with one of "
            "them; give that one"
        )
    encoder = given.encoder
    if given.base is None and encoder is None:
        given = replace(given, config=find_config(given.config))
        encoder = load_project(given.config).encoder if given.config else None
    if encoder is None:
        return open_base(given)
    console.quiet_libraries()
    return load_encoder(encoder, revision=given.revision, device=given.device, dtype=given.dtype)


def recipe_of(
    reader: Reader,
    layers: tuple[int, ...] | None,
    poolings: tuple[str, ...] | None,
    history: str,
) -> FeatureRecipe:
    """The recipe that is asked for; what is None is the reader's default."""
    return FeatureRecipe(
        layers or reader.default_layers,
        poolings or (reader.default_pooling,),  # type: ignore[arg-type]  # checked by the recipe
        history,  # type: ignore[arg-type]  # likewise
    )


def _pocket() -> Project:
    with pocket_folder() as folder:
        return load_project(folder / FILE_NAME)


def _project(given: Given) -> Project | None:
    """The project file with the command line's router and encoder in place of its own."""
    if given.config is None:
        return None
    project = load_project(given.config)
    return replace(
        project,
        router=project.router if given.router is None else str(given.router),
        encoder=given.encoder or project.encoder,
    )


def _text_router(given: Given, project: Project | None) -> TextRouter | None:
    """A router that reads text alone, with its encoder; None where it reads with the base."""
    if project is not None:
        loaded, encoder = load_router(project, str(given.config)), project.encoder
    elif given.router is not None:
        loaded, encoder = Router.load(given.router), given.encoder
    elif given.encoder is not None:
        raise ConfigError(f"--encoder {given.encoder}: give the --router that was trained on it")
    else:
        return None
    console.quiet_libraries()
    reader = load_encoder_of(loaded, encoder, device=given.device, dtype=given.dtype)
    if reader is None:
        return None
    return TextRouter(reader, loaded, fallback=project.fallback if project else BASE)


def _engine(given: Given, project: Project | None) -> Engine:
    where = str(given.config)
    if project is None:
        console.note("no --config: using the embedded pocket model")
        project, where = _pocket(), "the pocket model"
        if given.router is not None:
            project = replace(project, router=str(given.router))
        if given.encoder is not None:
            project = replace(project, encoder=given.encoder)
    console.quiet_libraries()
    device, dtype, plan = given.device, given.dtype, given.plan
    if given.multitask is not None:
        return engine_beside(project, where, given.multitask, device=device, dtype=dtype, plan=plan)
    options = EngineOptions(plan=plan)
    return Engine.from_project(project, where, device=device, dtype=dtype, options=options)
