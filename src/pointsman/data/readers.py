"""Readers of training sets: JSONL, JSON, parquet, or a Hugging Face dataset."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, time
from pathlib import Path
from typing import Any

from pointsman.data.dataset import MANIFEST
from pointsman.errors import ImageError, MissingDependency, SampleError

Record = dict[str, Any]
OnFault = Callable[[SampleError], None]
_LINES = (".jsonl", ".ndjson", ".json")
_PARQUET = (".parquet",)
_BLANK = b" \t\r\n\xef\xbb\xbf"  # some editors put a byte order mark in front
_BATCH = 64  # rows in memory at once: they may carry the bytes of their images
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def read_source(path: str, on_fault: OnFault | None = None) -> Iterator[tuple[str, Record]]:
    """Yields (where, record) for each sample of one training set.

    ``where`` is ``file:line`` for JSONL and ``file[index]`` for everything else. Image paths come
    back joined to the folder of the file.

    Args:
        path: a ``.jsonl``, ``.json`` (a list, or lines) or ``.parquet`` file; a folder saved by
            ``datasets.save_to_disk``, a folder of such files, or one that
            ``datasets.load_dataset`` reads; or the Hub id of a dataset (all its splits are read).
        on_fault: called with the error of each record that cannot be read, instead of raising it.

    Raises:
        SampleError: there is nothing at ``path``, or it cannot be read.
        MissingDependency: ``path`` needs ``datasets`` or ``pyarrow``, which are not installed.
    """
    for where, record, folder in _open(path):
        if isinstance(record, SampleError):
            fault = record
        elif isinstance(record, dict):
            yield where, _located(record, folder)
            continue
        else:
            kind = type(record).__name__
            fault = SampleError(f"{where}: a sample is a JSON object, not {kind}")
        if on_fault is None:
            raise fault
        on_fault(fault)


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields (``file:line``, decoded value), with a ``SampleError`` as the value of a broken line.

    Unlike ``sample.read_jsonl`` it continues after a broken line, to report all of them. Raises
    ``SampleError`` if the file cannot be read.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip(_BLANK):
                    yield f"{path}:{number}", _decoded(line, f"{path}:{number}")
    except OSError as error:
        raise SampleError(f"{path}: cannot be read ({error.strerror})") from None


def image_values(record: Mapping[str, Any]) -> list[Any]:
    """The images of a record, unchanged: paths, or Hugging Face image values."""
    value = record.get("images", record.get("image"))
    return value if isinstance(value, list) else [] if value is None else [value]


def image_bytes(value: Any) -> tuple[str, bytes]:
    """(name for errors, content of the image file) of one of ``image_values``.

    Args:
        value: a path, or ``{"bytes": …, "path": …}`` as Hugging Face stores an image.

    Raises:
        ImageError: the file is missing or cannot be read, or the value is of another kind.
    """
    path = value.get("path") if isinstance(value, Mapping) else value
    if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
        return str(path or "embedded image"), value["bytes"]
    if not isinstance(path, str) or not path:
        raise ImageError(f"an image is given as {_short(value)}; give its path")
    file = Path(path)
    try:
        if file.exists() and not file.is_file():  # a pipe would never end
            raise ImageError(f"{file}: not a file")
        return str(file), file.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{file}: no such image") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{file}: cannot be read ({error})") from None


def _located(record: Record, folder: Path) -> Record:
    """The record without null keys, its image paths joined to ``folder``."""
    # In Arrow every row has the columns of all rows: null means that the key is absent.
    record = {key: value for key, value in record.items() if value is not None}
    key = "images" if "images" in record else "image"
    if key in record:
        values = [_joined(value, folder) for value in image_values(record)]
        record[key] = values if isinstance(record[key], list) else values[0]
    return record


def _joined(value: Any, folder: Path) -> Any:
    if isinstance(value, str) and value:
        return str(folder / value.removeprefix("file://"))
    if isinstance(value, Mapping) and value.get("path") and not value.get("bytes"):
        return _joined(value["path"], folder)
    return value


def _open(path: str) -> Iterator[tuple[str, Any, Path]]:
    file = Path(path).expanduser()
    if file.is_dir():
        return _folder(file)
    if file.is_file():
        return _file(file)
    if file.suffix.lower() in _LINES + _PARQUET or not _HUB_ID.fullmatch(path):
        raise SampleError(f"{path}: no such file or folder")
    return _hub(path, Path())


def _file(file: Path) -> Iterator[tuple[str, Any, Path]]:
    suffix = file.suffix.lower()
    if suffix not in _LINES + _PARQUET:
        known = ", ".join(_LINES + _PARQUET)
        raise SampleError(f"{file}: a source is one of {known}, a folder or a Hub id")
    try:
        if suffix in _PARQUET:
            records = _parquet(file)
        else:
            records = _json_list(file) if _starts_list(file) else read_lines(file)
        for where, record in records:
            yield where, record, file.parent
    except OSError as error:
        raise SampleError(f"{file}: cannot be read ({error.strerror or error})") from None


def _decoded(content: bytes, where: str, kind: str = "a line of JSON") -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return SampleError(f"{where}: not {kind} ({error})")


def _starts_list(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(1024).lstrip(_BLANK).startswith(b"[")


def _json_list(file: Path) -> Iterator[tuple[str, Any]]:
    records = _decoded(file.read_bytes(), str(file), "JSON")
    if isinstance(records, SampleError):
        raise records
    for index, record in enumerate(records):
        yield f"{file}[{index}]", record


def _parquet(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise _missing(str(file), "pyarrow") from None
    try:
        batches = parquet.ParquetFile(file).iter_batches(batch_size=_BATCH)
        yield from _rows(batches, str(file))
    except ValueError as error:  # pyarrow's ArrowInvalid
        raise SampleError(f"{file}: not a parquet file, or a broken one ({error})") from None


def _folder(folder: Path) -> Iterator[tuple[str, Any, Path]]:
    if (folder / MANIFEST).is_file():
        raise SampleError(
            f"{folder}: already a routing dataset; a source is the training set of one adapter"
        )
    saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    # datasets takes a folder of one JSONL and many images for an image folder and drops the JSONL.
    files = [
        file
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in (".jsonl", *_PARQUET) and file.stem != "metadata"
    ]
    if saved or not files:
        yield from _hub(str(folder), folder, saved=saved)
    for file in [] if saved else files:
        yield from _file(file)


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


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
