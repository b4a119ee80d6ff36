"""Loads the router that a project names, and the text encoder that a router reads with."""

from pointsman.errors import ConfigError
from pointsman.models.checkpoint import Dtype
from pointsman.models.text_encoder import TextEncoder, load_encoder
from pointsman.project import Project
from pointsman.routing.router import Router


def load_router(project: Project, where: str) -> Router:
    """The router that a project names; ``where`` is the project's name in errors.

    Raises:
        ArtefactError: the router folder is incomplete.
        ConfigError: the project names no router.
        MismatchError: the router has another label map, or a file is not the one that was sealed.
    """
    if project.router is None:
        raise ConfigError(f'{where}: needs router = "folder"; train one: `pointsman train`')
    router = Router.load(project.router)
    project.labels.check_same(
        router.labels,
        where,
        f"the router {project.router}",
        "list [adapters] in the router's order, or train a router on this order",
    )
    return router


def load_encoder_of(
    router: Router,
    encoder: str | None = None,
    *,
    device: str | None = None,
    dtype: Dtype | None = None,
) -> TextEncoder | None:
    """A router's text encoder; None if the router reads with the base.

    ``Router.check_base`` checks that it is the one that the router was trained on.

    Args:
        encoder: Hub id or folder; by default its location when the router was trained.
        device, dtype: as for ``load_encoder``.

    Raises:
        ArtefactError: there is no such checkpoint.
        ConfigError: an encoder is given, but the router reads with the base.
    """
    origin = router.origin
    if origin.is_encoder:
        revision = None if encoder else origin.base_revision
        return load_encoder(
            encoder or origin.base_model_id, revision=revision, device=device, dtype=dtype
        )
    if encoder is not None:
        raise ConfigError(
            f"encoder {encoder!r}: the router reads with its base, {origin.base_model_id}; "
            "leave the encoder out, or preprocess with it and train a router"
        )
    return None
