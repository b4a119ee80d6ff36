"""The project file ``pointsman.toml``: the one place where a user writes the label order."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointsman.errors import ConfigError
from pointsman.labels import FALLBACKS, LabelMap

FILE_NAME = "pointsman.toml"
_KEYS = (
    "base",
    "revision",
    "max_pixels",
    "encoder",
    "router",
    "fallback",
    "hysteresis",
    "adapters",
)


@dataclass(frozen=True)
class Project:
    """One base, its adapters in label order, and the router that chooses among them."""

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
    fallback: str = "base"
    """Who answers where the router abstains: ``base``, an adapter, or ``error``: it fails."""
    hysteresis: float | None = None
    """Of sessions, see ``Engine``; by default the engine's own."""

    def __post_init__(self) -> None:
        if self.fallback not in (*FALLBACKS, *self.adapters):
            known = ", ".join((*FALLBACKS, *self.adapters))
            raise ConfigError(f"fallback {self.fallback!r} is none of {known}")
        _ = self.labels  # an illegal label map is refused here, not at its first use

    @property
    def labels(self) -> LabelMap:
        return LabelMap(tuple(self.adapters))


def load_project(path: str | Path) -> Project:
    """Reads a project file; relative paths in it are relative to its folder.

    Raises:
        ConfigError: missing file, bad TOML, an unknown or missing key, a value of a wrong type.
        LabelError: an adapter name that cannot be one.
    """
    path = Path(path)
    try:
        # Some editors write a byte order mark.
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such project file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML ({error})") from None
    if unknown := [key for key in table if key not in _KEYS]:
        raise ConfigError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}")
    for key in ("base", "revision", "encoder", "router", "fallback"):
        if not isinstance(table.get(key, ""), str):
            raise ConfigError(f"{path}: {key} is {table[key]!r}; give a string")
    if not table.get("base") and not table.get("encoder"):
        raise ConfigError(f'{path}: needs base = "a Hub id or folder"')
    max_pixels = table.get("max_pixels")
    if max_pixels is not None and (type(max_pixels) is not int or max_pixels < 1):
        raise ConfigError(f"{path}: max_pixels is {max_pixels!r}; give a whole number of pixels")
    hysteresis = table.get("hysteresis", 0.0)
    if type(hysteresis) not in (int, float) or not 0 <= hysteresis <= 1:
        raise ConfigError(f"{path}: hysteresis is {hysteresis!r}; give a number from 0 to 1")
    adapters = table.get("adapters")
    if not isinstance(adapters, dict) or not all(isinstance(v, str) for v in adapters.values()):
        raise ConfigError(f'{path}: needs [adapters] with lines of the form name = "path"')
    _ = LabelMap.from_json(list(adapters), f"{path}: [adapters]")
    return Project(
        base=_located(table["base"], path.parent) if table.get("base") else None,
        adapters={name: _located(value, path.parent) for name, value in adapters.items()},
        router=str(path.parent / _expanded(table["router"])) if "router" in table else None,
        revision=table.get("revision"),
        max_pixels=max_pixels,
        encoder=_located(table["encoder"], path.parent) if table.get("encoder") else None,
        fallback=table.get("fallback", "base"),
        hysteresis=table.get("hysteresis"),
    )


def _located(value: str, folder: Path) -> str:
    """``value`` as a path if something is there or it looks like one; a Hub id is left alone."""
    path = folder / _expanded(value)
    is_path = path.exists() or value.startswith((".", "/", "~")) or value.count("/") > 1
    if not is_path:
        return value
    # The dot stays: without it a missing folder such as "./a/b" would be looked for on the Hub.
    return str(path) if path.exists() or path.is_absolute() else f"./{path}"


def _expanded(value: str) -> Path:
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ConfigError(f"{value}: no such user, so no such home; give a whole path") from None


def adapter_labels(path: str | Path | None = None) -> dict[str, int]:
    """Adapter name to label, as ``ADAPTER_LABELS`` of the original scripts.

    Args:
        path: the project file; by default ``pointsman.toml`` in the working directory.
    """
    project = load_project(path or Path(FILE_NAME))
    return {name: label for label, name in enumerate(project.labels)}


def __getattr__(name: str) -> Any:
    # Read when they are asked for: importing this module touches no file.
    if name == "ADAPTER_LABELS":
        return adapter_labels()
    if name == "STANDARD_ADAPTER_ORDER":
        return list(adapter_labels())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
