"""Text routing: a router with a text encoder, in front of a server that holds the adapters.

No base is loaded and no image is read.
"""

from pathlib import Path
from typing import Self

from pointsman.errors import ConfigError
from pointsman.labels import BASE
from pointsman.models.checkpoint import Dtype
from pointsman.project import FILE_NAME, Project, load_project
from pointsman.routing.load import load_encoder_of, load_router
from pointsman.routing.request_router import ReaderRouter
from pointsman.routing.router import Router
from pointsman.routing.sessions import HYSTERESIS


class TextRouter(ReaderRouter):
    """A router with the text encoder that it reads with. Thread-safe; no image is read.

    ``TextRouter.load("router").route(None, "Click December 3").adapter`` names an adapter. See
    ``ReaderRouter`` for its arguments and methods.
    """

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        encoder: str | Path | None = None,
        device: str | None = None,
        dtype: Dtype | None = None,
        fallback: str = BASE,
        hysteresis: float = HYSTERESIS,
    ) -> Self:
        """Loads a router folder and its text encoder.

        Args:
            path: the router folder.
            encoder: Hub id or folder; by default its location when the router was trained.
            device: ``cuda``, ``cuda:1``, ``mps`` or ``cpu``; by default the best there is.
            dtype: by default bfloat16 on an accelerator and float32 on the CPU.
            fallback, hysteresis: as for ``ReaderRouter``.

        Raises:
            ArtefactError: the router folder is incomplete, or there is no such encoder.
            ConfigError: the router reads with its base, or an option is out of range.
            LabelError: the fallback is not one of the router's adapters.
            MismatchError: a file is not the one that was sealed, or the encoder is not the one
                that the router was trained on.
        """
        router = Router.load(path)
        return cls._of(router, str(path), encoder, device, dtype, fallback, hysteresis)

    @classmethod
    def from_config(
        cls,
        path: str | Path = FILE_NAME,
        *,
        device: str | None = None,
        dtype: Dtype | None = None,
    ) -> Self:
        """Loads the router and the text encoder that a project file names.

        Raises:
            PointsmanError: as ``load``, or something is missing or wrong in the project file.
        """
        return cls.from_project(load_project(Path(path)), str(path), device=device, dtype=dtype)

    @classmethod
    def from_project(
        cls,
        project: Project,
        where: str,
        *,
        device: str | None = None,
        dtype: Dtype | None = None,
    ) -> Self:
        """Loads the router and the text encoder of a project; ``where`` is its name in errors.

        Raises:
            PointsmanError: as ``load``, or the project has no router or another label order.
        """
        hysteresis = HYSTERESIS if project.hysteresis is None else project.hysteresis
        router = load_router(project, where)
        return cls._of(router, where, project.encoder, device, dtype, project.fallback, hysteresis)

    @classmethod
    def _of(
        cls,
        router: Router,
        where: str,
        encoder: str | Path | None,
        device: str | None,
        dtype: Dtype | None,
        fallback: str,
        hysteresis: float,
    ) -> Self:
        named = None if encoder is None else str(encoder)
        reader = load_encoder_of(router, named, device=device, dtype=dtype)
        if reader is None:
            raise ConfigError(
                f"{where}: the router reads with its base, {router.origin.base_model_id}; "
                "give it to an Engine"
            )
        return cls(reader, router, fallback=fallback, hysteresis=hysteresis)
