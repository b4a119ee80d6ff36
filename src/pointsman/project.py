"""The project file ``pointsman.toml``: the one place where a user writes the label order."""

import difflib
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointsman.errors import ConfigError, LabelError, PointsmanError
from pointsman.labels import BASE, FALLBACKS, LabelMap

FILE_NAME = "pointsman.toml"


@dataclass(frozen=True)
class Project:
    """One base, its adapters in label order, and the router that chooses among them.

    Raises:
        ConfigError: a fallback that is neither ``base``, ``error`` nor one of the adapters.
        LabelError: adapter names that make no label map.
    """

    base: str | None
    """Hub id or folder; a project with an encoder can route without one."""
    adapters: dict[str, str]
    """Name to path or Hub id, in label order."""
    router: str | None = None
    """Router folder; needed to serve, not to train."""
    revision: str | None = None
    """Commit, tag or branch of a Hub base."""
    max_pixels: int | None = None
    """Larger images are scaled down to this many pixels; by default the base's own limit."""
    encoder: str | None = None
    """Hub id or folder of a text encoder that the router reads with, in place of the base."""
    fallback: str = BASE
    """What answers where the router abstains: ``base``, an adapter, or ``error``: it fails."""
    hysteresis: float | None = None
    """See ``EngineOptions``, whose default holds where this is None."""
    route_text: bool = False
    """Whether ``auto`` routes requests without an image to an adapter, in both servers. Chat front
    ends send such requests in the background, for titles and tags; a router of screenshots was
    trained on none."""
    server: Mapping[str, Any] = field(default_factory=dict)
    """Options of ``pointsman serve``, see ``ServerOptions``"""
    labels: LabelMap = field(init=False, repr=False, compare=False)
    """The adapters' names in order"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", LabelMap(tuple(self.adapters)))
        known = (*FALLBACKS, *self.adapters)
        if self.fallback not in known:
            raise ConfigError(f"fallback {self.fallback!r} is not known; give {_or(known)}")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_pixels(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_table_of_text(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(path, str) for path in value.values())


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


_KEYS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "base": ("a string", _is_text),
    "revision": ("a string", _is_text),
    "max_pixels": ("a whole number of pixels", _is_pixels),
    "encoder": ("a string", _is_text),
    "router": ("a string", _is_text),
    "fallback": ("a string", _is_text),
    "hysteresis": ("a number from 0 to 1", _is_share),
    "route_text": ("true or false", _is_flag),
    "server": ("a table [server]", _is_table),
    "adapters": ('[adapters] with lines of the form name = "path"', _is_table_of_text),
}
"""Each key, what its value is, and whether a value is that"""


def load_project(path: str | Path) -> Project:
    """Reads a project file; relative paths in it are relative to its folder.

    Raises:
        ConfigError: missing file, bad TOML, an unknown or missing key, a value of a wrong type.
        LabelError: an adapter name that cannot be one.
    """
    path = Path(path)
    table = read_table(path)
    for fault in faults(table, path):
        raise fault
    return _project(table, path)


def read_table(path: Path) -> dict[str, Any]:
    """The TOML of a project file. Raises ``ConfigError``."""
    try:
        # Some editors write a byte order mark.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such project file; `pointsman init` writes one to fill in"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML ({error})") from None


def faults(table: Mapping[str, Any], path: Path) -> Iterator[PointsmanError]:
    """Everything that makes a table no project; ``load_project`` raises the first."""
    for key, value in table.items():
        if key not in _KEYS:
            yield ConfigError(f"{path}: unknown key {key!r}; {_known_keys(key)}")
        elif not _KEYS[key][1](value) and key != "adapters":
            yield ConfigError(f"{path}: {key} is {value!r}; give {_KEYS[key][0]}")
    if table.get("base", "") == "" and table.get("encoder", "") == "":
        yield ConfigError(
            f'{path}: needs base = "a Hub id or folder"; '
            'a router that reads text alone needs encoder = "a Hub id or folder" instead'
        )
    wanted, is_valid = _KEYS["adapters"]
    if not is_valid(table.get("adapters")):
        yield ConfigError(f"{path}: needs {wanted}{_wrong_adapter(table.get('adapters'))}")
        return
    yield from _faults_of_project(table, path)


def _faults_of_project(table: Mapping[str, Any], path: Path) -> Iterator[PointsmanError]:
    try:
        LabelMap.from_json(list(table["adapters"]), f"{path}: [adapters]")
    except LabelError as error:
        yield error
        return
    known = (*FALLBACKS, *table["adapters"])
    fallback = table.get("fallback", BASE)
    if isinstance(fallback, str) and fallback not in known:
        yield ConfigError(f"{path}: fallback is {fallback!r}; give {_or(known)}")


def _wrong_adapter(adapters: object) -> str:
    """The first adapter whose path is none, to be named in an error."""
    lines = adapters.items() if isinstance(adapters, dict) else ()
    return next((f"; {name} is {v!r}" for name, v in lines if not isinstance(v, str)), "")


def _known_keys(key: str) -> str:
    known = f"known are {', '.join(_KEYS)}"
    close = difflib.get_close_matches(key, _KEYS, n=1)
    return f"{known}; did you mean {close[0]!r}?" if close else known


def _or(values: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(values[:-1]), values[-1])))


def _project(table: Mapping[str, Any], path: Path) -> Project:
    folder = path.parent
    places = {key: _located(table[key], folder) for key in ("base", "encoder") if table.get(key)}
    if "router" in table:
        places["router"] = str(folder / expanded(table["router"]))
    adapters = {name: _located(value, folder) for name, value in table["adapters"].items()}
    # An empty base or encoder is none.
    return Project(**{**table, "base": None, "encoder": None, **places, "adapters": adapters})


def _located(value: str, folder: Path) -> str:
    """``value`` as a path if something is there or it looks like one; a Hub id is left alone."""
    path = folder / expanded(value)
    is_path = path.exists() or value.startswith((".", "/", "~")) or value.count("/") > 1
    if not is_path:
        return value
    # The dot stays: without it a missing folder such as "./a/b" would be looked for on the Hub.
    return str(path) if path.exists() or path.is_absolute() else f"./{path}"


def expanded(value: str) -> Path:
    """A path with the user's home in place of ``~``. Raises ``ConfigError`` if there is none."""
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ConfigError(f"{value}: no such user, so no such home; give a whole path") from None


def adapter_labels(path: str | Path | None = None) -> dict[str, int]:
    """Adapter name to label, as ``ADAPTER_LABELS`` of the original scripts.

    Args:
        path: the project file; by default ``pointsman.toml`` in the working directory.
    """
    labels = load_project(path or FILE_NAME).labels
    return {name: label for label, name in enumerate(labels)}


def __getattr__(name: str) -> Any:
    # Read when they are asked for: importing this module touches no file.
    if name == "ADAPTER_LABELS":
        return adapter_labels()
    if name == "STANDARD_ADAPTER_ORDER":
        return list(adapter_labels())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
