"""Files: written completely or not at all; a broken file gives a one-line error.

A file is written under a temporary name, flushed to the disk and renamed, so a reader (or the same
command after ``kill -9``) sees the old file or the new one and never half of one.
"""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from pointsman.errors import ArtefactError

TEMPORARY = ".partial"
LOCK = ".lock"
"""In a folder that a run is writing to."""
_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of a mount that cannot flush a file, as network and FUSE mounts may not."""
_POINTER = b"version https://git-lfs.github.com/spec/"
_MARKS = {
    "dataset.json": "a dataset",
    "metadata.json": "features",
    "adapter_config.json": "an adapter",
    "router.safetensors": "a router",
    "model.safetensors": "a base",
    "model.safetensors.index.json": "a base",
}


def write_bytes(path: Path, content: bytes) -> None:
    """Writes ``content`` to ``path`` atomically, making its folder. Raises ``ArtefactError``."""
    if not path.name:  # "." or "/"
        raise ArtefactError(f"{path}: is a folder; give the name of a file in it")
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                _sync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


@contextmanager
def sole_run(folder: Path) -> Iterator[None]:
    """Makes a folder and holds it for one run; empty at the end, it is removed.

    The system frees it when the process ends, in whatever way. A mount without locks is not held.

    Raises:
        ArtefactError: another run holds the folder, or it cannot be made.
    """
    missing = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    locks = _locked(path)
    _HELD.update(locks)
    try:
        yield
    finally:
        _HELD.difference_update(locks)
        for lock in locks:
            path.unlink(missing_ok=True)
            os.close(lock)
        with suppress(OSError):  # what is not empty stays
            for place in missing:
                place.rmdir()


_HELD: set[int] = set()


def _let_go() -> None:
    """In a forked child: a loader's worker may outlive a run that is killed."""
    for lock in _HELD:
        os.close(lock)


os.register_at_fork(after_in_child=_let_go)


def _locked(path: Path) -> list[int]:
    """An open file with an exclusive lock; none if the mount has no locks or is read-only."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    except OSError:  # the first write gives the reason
        return []
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ArtefactError(
            f"{path.parent}: another run is writing to it; wait until it ends, or choose "
            "another --out"
        ) from None
    except OSError:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        return []
    with suppress(FileNotFoundError):
        if os.path.samestat(path.stat(), os.fstat(descriptor)):
            return [descriptor]
    os.close(descriptor)  # the run before removed the file between the two calls
    return _locked(path)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Writes a safetensors file atomically."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, safetensors.torch.save(contiguous, metadata))


def read_json(path: Path) -> Any:
    """Reads a JSON file. Raises ``ArtefactError`` if it is missing or not JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        _refuse_pointer(path)
        raise ArtefactError(f"{path}: not a readable JSON file ({error})") from None


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file whose top level is an object. Raises ``ArtefactError``."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise ArtefactError(f"{path}: holds a JSON {type(value).__name__}, not an object")
    return value


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file onto the CPU. Never unpickles. Raises ``ArtefactError``."""
    return read_tensors_and_metadata(path)[0]


def read_tensors_and_metadata(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads a safetensors file and the strings in its header. Raises ``ArtefactError``."""
    if not path.is_file():
        raise ArtefactError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _not_tensors(path, error) from None


def read_tensors_and_digest(path: Path) -> tuple[dict[str, Tensor], str]:
    """Reads a safetensors file once: its tensors, and its SHA-256. Raises ``ArtefactError``."""
    if not path.is_file():
        raise ArtefactError(f"{path}: no such file")
    try:
        content = path.read_bytes()
        return safetensors.torch.load(content), digest_bytes(content)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _not_tensors(path, error) from None


def _refuse_pointer(path: Path) -> None:
    """Raises ``ArtefactError`` if Git LFS has not fetched a file."""
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(_POINTER)) == _POINTER
    except OSError:
        return
    if is_pointer:
        raise ArtefactError(f"{path}: a Git LFS pointer in place of the file; run git lfs pull")


def _not_tensors(path: Path, error: Exception) -> ArtefactError:
    _refuse_pointer(path)
    return ArtefactError(
        f"{path}: not a safetensors file, or a truncated one ({error}); "
        "delete it and rerun the command that wrote it (a pickle under this name is never loaded)"
    )


def refuse_other(folder: Path, what: str) -> None:
    """Raises ``ArtefactError`` if ``folder`` is not a folder or holds anything other than ``what``.

    Several kinds share file names: writing one over another would destroy it.
    """
    with _explained(folder):
        there = next((place for place in (folder, *folder.parents) if place.exists()), None)
    if there is not None and not there.is_dir():
        raise ArtefactError(
            f"{folder}: cannot be written ({there} is a file); choose another --out"
        )
    for mark, kind in _MARKS.items():
        if kind != what and (folder / mark).exists():
            raise ArtefactError(f"{folder}: holds {kind}, not {what}; choose another --out")


def digest_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises ``ArtefactError`` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read ({error.strerror})") from None


def digest_json(value: Any) -> str:
    """SHA-256 of a JSON value, independent of key order and white space.

    JSON may escape a lone surrogate, which UTF-8 cannot encode; it is hashed like any other value.
    """
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return digest_bytes(canonical.encode("utf-8", "surrogatepass"))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = (
            "free some space and run the same command again: what is done is kept"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "choose a place that can be written"
        )
        raise ArtefactError(f"{path}: cannot be written ({error.strerror}); {hint}") from None
