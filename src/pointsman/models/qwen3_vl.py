"""Everything specific to Qwen3-VL checkpoints: config, fingerprint and library version."""

import inspect
from pathlib import Path
from typing import Any

import transformers

from pointsman.errors import ConfigError
from pointsman.files import digest_json, read_object
from pointsman.models.checkpoint import (
    Fingerprint,
    checked_config,
    digest_config,
    digest_tokenizer,
    digest_weights,
    fetch,
)
from pointsman.models.processor import load_processor, processor_settings

MODEL_TYPE = "qwen3_vl"
IMAGE_CACHE_MB = 1024
"""Default size of the cache of image features, in MiB, on the tower's device"""
MAX_NEW_TOKENS = 256
"""Maximum number of tokens of an answer, if the caller sets no limit"""


def qwen_config(folder: Path, base_model_id: str) -> dict[str, Any]:
    """A checkpoint's ``config.json``. Raises ``ConfigError`` if it is not a Qwen3-VL one."""
    config = checked_config(folder)
    if config.get("model_type") != MODEL_TYPE:
        raise ConfigError(
            f"{base_model_id}: a checkpoint of type {config.get('model_type')!r}; "
            f"give one of type {MODEL_TYPE!r} (Qwen3-VL)"
        )
    return config


def fingerprint_of(base_model_id: str, revision: str | None = None) -> Fingerprint:
    """A checkpoint's fingerprint without loading its weights into a model."""
    folder, _ = fetch(base_model_id, revision)
    weights = digest_weights(folder)
    return fingerprint(folder, checked_config(folder), load_processor(folder), weights)


def fingerprint(
    folder: Path,
    config: dict[str, Any],
    processor: tuple[Any, Any, str],
    weights: str,
) -> Fingerprint:
    """A checkpoint's fingerprint.

    Args:
        processor: what ``load_processor`` returns.
        weights: what ``digest_weights`` returns.
    """
    image_processor, tokenizer, template = processor
    return Fingerprint(
        weights=weights,
        config=digest_config(config),
        tokenizer=digest_tokenizer(folder, tokenizer),
        template=digest_json(template),
        image_processor=digest_json(processor_settings(image_processor)),
        ends=digest_json([_ends(folder), tokenizer.eos_token_id]),
    )


def _ends(folder: Path) -> list[Any]:
    """The tokens that end an answer by ``generation_config.json``; [] if it names none."""
    path = folder / "generation_config.json"
    ids = read_object(path).get("eos_token_id") if path.is_file() else None
    return [] if ids is None else sorted(ids) if isinstance(ids, list) else [ids]


def check_library(core: Any) -> None:
    """Refuses a version of transformers whose model silently ignores ``mm_encoder_outputs``.

    It would answer without having seen the images.
    """
    if "mm_encoder_outputs" not in inspect.signature(type(core).forward).parameters:
        raise ConfigError(
            f"transformers {transformers.__version__} does not take the features of images; "
            "install 5.23 or newer"
        )
