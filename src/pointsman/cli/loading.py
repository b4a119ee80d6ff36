"""What commands load: the project, and the engine, router, base or encoder that it names.

Options take precedence over the project file, and the project file over the embedded pocket model.
Commands import this file when they run, because it imports all model libraries.
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
    """The options of a command that say what to load."""

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
    """An engine, or a text router without its base, if the router reads only text.

    Args:
        answers: an engine in any case, if the project has a base to answer with.
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
    """The project's engine, else the pocket's; ``multitask`` becomes its last adapter."""
    given = replace(given, config=find_config(given.config))
    return _engine(given, _project(given))


def open_base(given: Given) -> Base:
    """The given base, else the project's, else the pocket's."""
    if given.base is None:
        given = replace(given, config=find_config(given.config))
    project = _base_project(given)
    if project is not None:
        given = with_base_of(project, given)
    if given.base is None:
        raise ConfigError(f'{given.config}: needs base = "a Hub id or folder", or give --base')
    console.quiet_libraries()
    return load_base(
        given.base,
        revision=given.revision,
        device=given.device,
        dtype=given.dtype,
        max_pixels=given.max_pixels,
    )


def with_base_of(project: Project, given: Given) -> Given:
    """The same, with the project's base, revision and pixel limit where the options give none."""
    is_same = given.base in (None, project.base)  # a revision belongs to one base
    return replace(
        given,
        base=given.base or project.base,
        revision=given.revision or (project.revision if is_same else None),
        max_pixels=given.max_pixels or project.max_pixels,
    )


def _base_project(given: Given) -> Project | None:
    """The project that may name the base; None if only the options do."""
    if given.config is not None:
        return load_project(given.config)
    if given.base is not None:
        return None
    console.note("no --base and no --config: using the embedded pocket base")
    return _pocket()


def open_reader(given: Given) -> Reader:
    """The given text encoder, else the project's; else the base."""
    if given.base is not None and given.encoder is not None:
        raise ConfigError(
            f"--base {given.base} and --encoder {given.encoder}: a router reads with only one of "
            "them; give one"
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
    """A recipe, with the reader's default for what is None."""
    return FeatureRecipe(
        layers or reader.default_layers,
        poolings or (reader.default_pooling,),  # type: ignore[arg-type]  # checked by the recipe
        history,  # type: ignore[arg-type]  # likewise
    )


def _pocket() -> Project:
    with pocket_folder() as folder:
        return load_project(folder / FILE_NAME)


def project_or_pocket(config: Path | None) -> tuple[Project, str]:
    """The project of a file, else the pocket's, and its name in errors."""
    if config is not None:
        return load_project(config), str(config)
    console.note("no --config: using the embedded pocket model")
    return _pocket(), "the pocket model"


def _project(given: Given) -> Project | None:
    """The project, with the options' router and encoder instead of its own."""
    return None if given.config is None else _with_options(load_project(given.config), given)


def _with_options(project: Project, given: Given) -> Project:
    return replace(
        project,
        router=project.router if given.router is None else str(given.router),
        encoder=given.encoder or project.encoder,
    )


def _text_router(given: Given, project: Project | None) -> TextRouter | None:
    """The router with its text encoder; None if it reads with the base."""
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
        found, where = project_or_pocket(None)
        project = _with_options(found, given)
    console.quiet_libraries()
    device, dtype, plan = given.device, given.dtype, given.plan
    if given.multitask is not None:
        return engine_beside(project, where, given.multitask, device=device, dtype=dtype, plan=plan)
    options = EngineOptions(plan=plan)
    return Engine.from_project(project, where, device=device, dtype=dtype, options=options)
