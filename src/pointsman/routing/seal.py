"""The seal: a router's digests of its own files, its fields and its adapters' files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pointsman.errors import ArtefactError, MismatchError
from pointsman.files import digest_file, digest_json, read_object
from pointsman.labels import LabelMap

FORMAT_VERSION = 1
CONFIG = "config.json"


def sealed(config: dict[str, Any], folder: Path, files: Sequence[str]) -> dict[str, Any]:
    """``config`` with the digests of ``files`` in ``folder``, of each field and of the whole.

    The digests of single fields show which field was changed.
    """
    digests: dict[str, Any] = {name: digest_file(folder / name) for name in files}
    digests["fields"] = {name: digest_json(value) for name, value in config.items()}
    digests["config"] = digest_json(config | {"digests": digests})
    return config | {"digests": digests}


def check_seal(folder: Path, config: dict[str, Any], files: Sequence[str]) -> None:
    """Raises an error that names the change unless ``config`` and ``files`` are as sealed.

    Raises:
        ArtefactError: it is not a router's config, its format is another, or a file cannot be read.
        MismatchError: a file or a field is not the one that was sealed.
    """
    _check_format(folder, config)
    for name in files:
        if digest_file(folder / name) != config["digests"].get(name):
            raise MismatchError(
                f"{folder / name} is not the file that was sealed; restore it or train again"
            )
    _check_fields(folder / CONFIG, config, config["digests"])


def _check_format(folder: Path, config: Mapping[str, Any]) -> None:
    if not {"adapters", "format_version"} & set(config):
        raise ArtefactError(f"{folder}: its {CONFIG} is not a router's; give a router folder")
    if config.get("format_version") != FORMAT_VERSION or not isinstance(
        config.get("digests"), dict
    ):
        raise ArtefactError(
            f"{folder}: a router of format {config.get('format_version')!r}; this version reads "
            f"{FORMAT_VERSION}"
        )


def _check_fields(where: Path, config: dict[str, Any], digests: Mapping[str, Any]) -> None:
    labels = LabelMap.from_json(config.get("adapters"), f"{where}: adapters")
    fields = digests.get("fields")
    known = fields if isinstance(fields, dict) else {}
    if labels.digest != known.get("adapters"):
        raise MismatchError(
            f"{where}: adapters {labels} are not the label map that was sealed; "
            "names are never reordered or renamed: restore the file or train a new router"
        )
    for name in {**config, **known}:
        if name != "digests":
            _check_field(where, name, config, known.get(name))
    inner = {name: digest for name, digest in digests.items() if name != "config"}
    if digest_json(config | {"digests": inner}) != digests.get("config"):
        raise MismatchError(
            f"{where}: 'digests' was changed after it was sealed; restore it or train again"
        )


def _check_field(where: Path, name: str, config: Mapping[str, Any], digest: Any) -> None:
    there = name in config
    if not there or digest_json(config[name]) != digest:
        raise MismatchError(
            f"{where}: {name!r} was {'changed' if there else 'deleted'} after it was sealed; "
            "restore it or train again"
        )


def check_adapter_seal(
    name: str, folder: Path, found: Mapping[str, str], sealed: Mapping[str, str]
) -> None:
    """Raises ``MismatchError`` unless an adapter's files are those that a router sealed.

    Args:
        found: SHA-256 of its files by file name.
        sealed: the router's digests in the same form; empty for an adapter that it does not seal.
    """
    for file, digest in sealed.items():
        if found.get(file) != digest:
            raise MismatchError(
                f"adapter {name}: {folder / file} is not the file that the router sealed; restore "
                f"it or, if it is meant, `pointsman seal ROUTER --config PROJECT --again {name}`"
            )


def unsealed_note(names: Sequence[str]) -> str:
    """The one-line warning for adapters that a router does not seal."""
    return (
        f"the router does not seal the files of {', '.join(names)}: another adapter in their place "
        "would not be noticed; `pointsman seal ROUTER --config PROJECT` seals them"
    )


def router_digest(folder: str | Path) -> str:
    """The digest of a whole sealed router. Raises ``ArtefactError`` if it is none."""
    config = read_object(Path(folder) / CONFIG)
    _check_format(Path(folder), config)
    return str(config["digests"].get("config"))
