"""Routers that read text alone: a text encoder in place of the base."""

from pointsman.errors import ConfigError
from pointsman.models.text_encoder import TextEncoder, load_encoder
from pointsman.routing.router import Router


def load_encoder_of(
    router: Router, encoder: str | None = None, *, device: str | None = None
) -> TextEncoder | None:
    """A router's text encoder; None where the router reads with the base.

    Args:
        encoder: Hub id or folder; by default where it was when the router was trained.

    Raises:
        ConfigError: an encoder for a router that reads with the base.
        MismatchError: another encoder than the router was trained on.
    """
    origin = router.origin
    if origin.is_encoder:
        revision = None if encoder else origin.base_revision
        loaded = load_encoder(encoder or origin.base_model_id, revision=revision, device=device)
        router.check_base(loaded)
        return loaded
    if encoder is not None:
        raise ConfigError(
            f"encoder {encoder!r}: the router reads with its base, {origin.base_model_id}; "
            "leave the encoder out, or preprocess with it and train a router"
        )
    return None
