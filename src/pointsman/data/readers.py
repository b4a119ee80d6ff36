"""Readers of training sets: JSONL, JSON, parquet, or a Hugging Face dataset."""

import re
from collections.abc import Iterator
from datetime import date, time
from pathlib import Path
from typing import Any

from pointsman.data.dataset import MANIFEST
from pointsman.dialects.json_files import read_values
from pointsman.dialects.values import Image
from pointsman.errors import ImageError, MissingDependency, SampleError

_LINES = (".jsonl", ".ndjson", ".json")
_PARQUET = (".parquet",)
_BATCH = 64  # rows in memory at once: they may carry the bytes of their images
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def read_source(path: str) -> Iterator[tuple[str, Any, Path]]:
    """Yields (where, record, folder) for each sample of one training set.

    ``where`` is ``file:line`` for JSONL and ``file[index]`` for everything else. ``folder`` is what
    the image paths of the record start from. A record that cannot be read comes back as a
    ``SampleError``.

    Args:
        path: a JSON file (see ``read_values``), or a ``.parquet`` one; a folder saved by
            ``datasets.save_to_disk``, or a folder of such files, in the layouts of the Hub; or the
            Hub id of a dataset (all its splits are read).

    Raises:
        SampleError: there is nothing at ``path``, or it cannot be read.
        MissingDependency: ``path`` needs ``datasets`` or ``pyarrow``, which are not installed.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        return _folder(file)
    if file.is_file():
        return _file(file)
    if file.suffix.lower() in _LINES + _PARQUET or not _HUB_ID.fullmatch(path):
        raise SampleError(f"{path}: no such file or folder")
    return _hub(path, Path())


def image_content(image: Image, folder: Path) -> tuple[str, bytes]:
    """(name for errors, content of the image file) of an image of a record.

    Raises:
        ImageError: the file is missing or cannot be read.
    """
    if isinstance(image, bytes):
        return "embedded image", image
    file = folder / image
    try:
        if file.exists() and not file.is_file():  # a pipe would never end
            raise ImageError(f"{file}: not a file")
        return str(file), file.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{file}: no such image") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{file}: cannot be read ({error})") from None


def _file(file: Path) -> Iterator[tuple[str, Any, Path]]:
    suffix = file.suffix.lower()
    if suffix not in _LINES + _PARQUET:
        known = ", ".join(_LINES + _PARQUET)
        raise SampleError(f"{file}: a source is one of {known}, a folder or a Hub id")
    for where, record in _parquet(file) if suffix in _PARQUET else read_values(file):
        if file.stem == "metadata" and isinstance(record, dict) and "file_name" in record:
            record["image"] = record.pop("file_name")  # the Hub's image folders
        yield where, record, file.parent


def _parquet(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise _missing(str(file), "pyarrow") from None
    try:
        batches = parquet.ParquetFile(file).iter_batches(batch_size=_BATCH)
        yield from _rows(batches, str(file))
    except OSError as error:
        raise SampleError(f"{file}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:  # pyarrow's ArrowInvalid
        raise SampleError(f"{file}: not a parquet file, or a broken one ({error})") from None


def _folder(folder: Path) -> Iterator[tuple[str, Any, Path]]:
    if (folder / MANIFEST).is_file():
        raise SampleError(
            f"{folder}: already a routing dataset; a source is the training set of one adapter"
        )
    saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    files = [] if saved else _files(folder) or _files(folder / "data")
    if not files:
        yield from _hub(str(folder), folder, saved=saved)
    for file in files:
        yield from _file(file)


def _files(folder: Path) -> list[Path]:
    """The files of samples in a folder; other ``.json`` files may describe those of lines."""
    if not folder.is_dir():
        return []
    found = [*sorted(folder.iterdir()), *sorted(folder.glob("*/metadata.jsonl"))]
    tables = [file for file in found if file.suffix.lower() in (".jsonl", ".ndjson", *_PARQUET)]
    lists = [file for file in found if file.suffix.lower() == ".json"]
    return tables or [file for file in lists if not file.stem.startswith("dataset_info")]


def _hub(path: str, folder: Path, saved: bool = False) -> Iterator[tuple[str, Any, Path]]:
    try:
        import datasets
    except ImportError:
        raise _missing(path, "datasets") from None
    try:
        found = datasets.load_from_disk(path) if saved else datasets.load_dataset(path)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())
        raise SampleError(
            f"{path}: not a folder or Hub dataset that can be read ({reason})"
        ) from None
    splits = found if isinstance(found, dict) else {"": found}
    for name, rows in splits.items():
        # Arrow tables leave images encoded: their bytes are copied, never encoded again.
        batches = rows.with_format("arrow").iter(batch_size=_BATCH)
        for where, record in _rows(batches, f"{path}/{name}" if name else path):
            yield where, record, folder


def _rows(batches: Any, where: str) -> Iterator[tuple[str, Any]]:
    index = 0
    for batch in batches:
        for row in batch.to_pylist():
            yield f"{where}[{index}]", _without_nulls(row)
            index += 1


def _without_nulls(value: Any) -> Any:
    """Rows as in JSON: no null keys in turns and parts, dates as text."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value.isoformat() if isinstance(value, date | time) else value


def _missing(path: str, package: str) -> MissingDependency:
    return MissingDependency(
        f"{path}: reading it needs {package}; run: pip install 'pointsman[data]'"
    )
