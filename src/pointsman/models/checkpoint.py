"""Checkpoints: finding or fetching, loading, fingerprints; the only place for device and dtype."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from torch import Tensor, nn
from transformers import AutoConfig
from transformers.utils import logging

from pointsman.errors import ArtefactError, ConfigError, MismatchError
from pointsman.files import digest_file, digest_json, read_object

Dtype = Literal["float32", "bfloat16", "float16", "fp8"]
"""Of the weights. ``fp8`` is of a base's decoder alone, see ``models.fp8``"""
PaddingSide = Literal["left", "right"]
# Pickled weights (*.bin, *.pt) are never fetched and never read.
_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_FLAGS = ("content", "special", "normalized", "single_word", "lstrip", "rstrip")
_PROBE = "Pick an appointment , don't  wait .\nÉté 12"
"""Shows a prefix space, an added start or end, lower case, and spaces that decoding takes out."""
# Keys of config.json that vary with the library that wrote it, not with the model.
_VOLATILE = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "use_cache")


@dataclass(frozen=True)
class Fingerprint:
    """SHA-256 digests of everything about a checkpoint that features depend on.

    Digests of missing parts are empty: a base has no ``reading``, and a text encoder has neither
    ``template`` nor ``image_processor`` nor ``ends``.

    Raises:
        TypeError: a digest is not a string, as in a broken file.
    """

    weights: str
    config: str
    tokenizer: str
    template: str = ""
    image_processor: str = ""
    reading: str = ""
    """How a text encoder truncates texts and scales pooled features"""
    ends: str = ""
    """The tokens that end an answer"""

    def __post_init__(self) -> None:
        if not all(isinstance(digest, str) for digest in vars(self).values()):
            raise TypeError(f"{self} is not made of digests")

    def check_same(self, other: Self, mine: str, theirs: str, hint: str) -> None:
        """Raises ``MismatchError`` naming the first part that differs."""
        for part, digest in vars(self).items():
            if digest != getattr(other, part):
                raise MismatchError(
                    f"{mine} and {theirs} differ in their {part.replace('_', ' ')} "
                    f"({digest[:12]} against {getattr(other, part)[:12]}); {hint}"
                )


def fetch(model_id: str, revision: str | None, *, weights: bool = True) -> tuple[Path, str | None]:
    """Folder of a checkpoint, and its commit if it came from the Hub. Raises ``ArtefactError``."""
    folder = Path(model_id).expanduser()
    if folder.is_dir():
        return folder, None
    wanted = [pattern for pattern in _FILES if weights or pattern != "*.safetensors"]
    snapshot = download(model_id, wanted, revision=revision)
    return snapshot, snapshot.name


def download(repository: str, patterns: Sequence[str], *, revision: str | None = None) -> Path:
    """Folder with a Hub repository's files that match ``patterns``. Raises ``ArtefactError``."""
    try:
        with quiet():
            return Path(
                snapshot_download(repository, revision=revision, allow_patterns=list(patterns))
            )
    except HFValidationError:
        raise ArtefactError(f"{repository}: no such folder") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ArtefactError(
            f"{repository}: no such folder, and it cannot be fetched from the Hub ({reason})"
        ) from None


def checked_config(folder: Path) -> dict[str, Any]:
    """A checkpoint's ``config.json``. Raises ``ArtefactError`` if a folder is no checkpoint."""
    if not (folder / "config.json").is_file():
        raise ArtefactError(f"{folder}: no config.json in it, so it is not a checkpoint")
    return read_object(folder / "config.json")


def pick_device(device: str | None) -> torch.device:
    """A device by name, by default the best available one. Raises ``ConfigError``."""
    if device is None:
        backends = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        return torch.device(next((name for name, there in backends.items() if there), "cpu"))
    try:
        where = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError):
        where = torch.device("meta")
    if where.type == "meta":  # it holds no values
        raise ConfigError(f"device {device!r} is not there; leave it out to use the best")
    return where


def pick_dtype(dtype: Dtype | None, device: torch.device) -> torch.dtype:
    """A dtype by name, by default bfloat16 on an accelerator and float32 on the CPU.

    With ``fp8`` it is the default: that of everything beside a decoder's linear layers.
    """
    if dtype is not None and dtype != "fp8":
        named: torch.dtype = getattr(torch, dtype)
        return named
    return torch.float32 if device.type == "cpu" else torch.bfloat16


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the progress bars and notices of transformers and the Hub off the terminal.

    Their switches belong to the process; they are put back as they were.
    """
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_had_bars = not are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if had_bars:
                logging.enable_progress_bar()  # type: ignore[no-untyped-call]
            (enable_progress_bars if hub_had_bars else disable_progress_bars)()


def loading(folder: Path, load: Callable[[Path], Any]) -> Any:
    """``load(folder)``, quietly; any failure is raised as an ``ArtefactError``."""
    try:
        with quiet():
            return load(folder)
    except ArtefactError:
        raise
    except Exception as error:  # transformers raises almost anything on a broken folder
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ArtefactError(f"{folder}: the checkpoint cannot be loaded ({reason})") from error


def load_model(
    folder: Path,
    kind: Any,
    dtype: torch.dtype,
    unused: str | None = None,
    *,
    as_stored: bool = False,
) -> Any:
    """A model from a folder's safetensors.

    Args:
        kind: one of transformers' automatic classes.
        unused: prefix of the names of weights that may be missing, since nothing reads them.
        as_stored: of a quantised checkpoint, read the bare values, without their scales.

    Raises:
        ArtefactError: there are no safetensors, or weights are missing from them.
    """
    if not list(folder.glob("*.safetensors")):
        raise ArtefactError(f"{folder}: no *.safetensors in it; pickled weights are never loaded")
    config = AutoConfig.from_pretrained(folder)
    if as_stored:
        vars(config).pop("quantization_config", None)
    model, info = kind.from_pretrained(
        folder, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True
    )
    names = sorted(info["missing_keys"])
    if missing := [name for name in names if unused is None or not name.startswith(unused)]:
        raise ArtefactError(
            f"{folder}: {len(missing)} weights are missing, the first is {missing[0]}; "
            "fetch the checkpoint again"
        )
    return model


def digest_weights(folder: Path) -> str:
    # Without names: the same tensors may come as model.safetensors or in numbered parts.
    files = sorted(folder.glob("*.safetensors"))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing releases the GIL
        return digest_json(list(pool.map(digest_file, files)))


def digest_config(config: dict[str, Any]) -> str:
    return digest_json(_stable(config))


def digest_tokenizer(folder: Path, tokenizer: Any) -> str:
    """SHA-256 over the vocabulary, the special tokens and how a text becomes tokens and back.

    The latter two are those of the loaded tokenizer: several files hold them, in several forms.
    """
    files = [path for name in _TOKENIZER_FILES if (path := folder / name).is_file()]
    added = {
        str(n): [getattr(token, flag) for flag in _FLAGS]
        for n, token in tokenizer.added_tokens_decoder.items()
    }
    roles = [getattr(tokenizer, f"{role}_token") for role in _ROLES]
    ids = list(tokenizer(_PROBE)["input_ids"])
    return digest_json([*map(digest_file, files), added, roles, ids, tokenizer.decode(ids)])


def pad(rows: Sequence[list[int]], value: int, side: PaddingSide) -> Tensor:
    """Rows of token ids as (B, T) int64."""
    tensors = [torch.tensor(row) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, True, value, padding_side=side)


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stable(inner) for key, inner in value.items() if key not in _VOLATILE}
    return value
