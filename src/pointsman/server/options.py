"""The server's options and their defaults: the table ``[server]`` of the project file."""

import ipaddress
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from pointsman.engine.options import EngineOptions
from pointsman.errors import ConfigError
from pointsman.project import expanded

KEY, ADMIN_KEY = "POINTSMAN_API_KEY", "POINTSMAN_ADMIN_KEY"
"""Environment variables: a key in a file would be committed one day"""


@dataclass(frozen=True)
class ServerOptions:
    """The options of a server.

    Raises:
        ConfigError: a value is of a wrong type or out of range.
    """

    host: str = "127.0.0.1"
    """The address to listen on; any other than a loopback one needs a key"""
    port: int = 8000
    """0: a free port"""
    slots: int = EngineOptions.slots
    """Requests answered at the same time; others wait"""
    max_waiting: int = 256
    """Requests beyond the slots, which wait; further ones get status 429"""
    image_cache_mb: int = EngineOptions.image_cache_mb
    """MiB of image features that are kept for further requests about the same images"""
    max_new_tokens: int = 1024
    """Longest answer in tokens, if a request sets no limit"""
    deadline: int = 300
    """Seconds after which a request ends"""
    drain: int = 30
    """Seconds in which running requests may end after a SIGTERM"""
    max_body_mb: int = 64
    """Largest request"""
    head_seconds: int = 30
    """Seconds in which the head of a connection's next request must have arrived"""
    body_seconds: int = 60
    """Seconds in which a request's body must have arrived"""
    max_images: int = 16
    """Images in a request"""
    max_pixels: int = 33_177_600
    """Pixels of an image before it is scaled down: an 8K screen"""
    max_samples: int = 16
    """Largest ``n`` of a request"""
    image_hosts: tuple[str, ...] = ()
    """Hosts from which images may be fetched; none by default"""
    adapter_root: str | None = None
    """Folder from which adapters may be loaded at run time; none by default"""
    decision_log: str | None = None
    """Folder of the decision log; none by default"""
    log_pictures: bool = False
    """Whether the decision log keeps pictures"""
    api_key: str | None = field(default=None, repr=False)
    """From the environment variable ``POINTSMAN_API_KEY``"""
    admin_key: str | None = field(default=None, repr=False)
    """From ``POINTSMAN_ADMIN_KEY``; without one, adapters and router cannot be changed"""

    def __post_init__(self) -> None:
        for fault in _faults_of(vars(self)):
            raise fault

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the server."""
        return _is_local(self.host)

    @classmethod
    def from_table(cls, table: Mapping[str, Any], folder: Path, **given: Any) -> Self:
        """The options of a project file's table; those that are given win, unless None.

        Args:
            folder: the project file's, for relative paths.

        Raises:
            ConfigError: an unknown key, or a value that cannot be.
        """
        for fault in _unknown(table):
            raise fault
        return cls(**_values(table, folder, given))

    @classmethod
    def faults(cls, table: Mapping[str, Any], folder: Path) -> Iterator[ConfigError]:
        """Everything that is wrong with a table; ``from_table`` raises the first."""
        yield from _unknown(table)
        known = {name: value for name, value in table.items() if name in _KNOWN}
        defaults = {each.name: each.default for each in fields(cls)}
        yield from _faults_of(defaults | _values(known, folder, {}))


_VARIABLES = {"api_key": KEY, "admin_key": ADMIN_KEY}
_KNOWN = [each.name for each in fields(ServerOptions) if each.name not in _VARIABLES]
"""The keys of the table"""
_RANGES = {
    "port": (0, 65535),
    "slots": (1, 1024),
    "max_waiting": (1, 100_000),
    "image_cache_mb": (0, 1_000_000),
    "max_new_tokens": (1, 1_000_000),
    "deadline": (1, 86_400),
    "drain": (0, 3600),
    "max_body_mb": (1, 1024),
    "head_seconds": (1, 3600),
    "body_seconds": (1, 3600),
    "max_images": (0, 256),
    "max_pixels": (64, 64_000_000),
    "max_samples": (1, 128),
}
_FOLDERS = ("adapter_root", "decision_log")


def _values(table: Mapping[str, Any], folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """A table's values and the given ones, with paths made whole and the environment's keys."""
    values = {**table, **{name: value for name, value in given.items() if value is not None}}
    for name in _FOLDERS:
        if isinstance(values.get(name), str) and values[name]:
            values[name] = str(folder / expanded(values[name]))
    if isinstance(values.get("image_hosts"), list):
        values["image_hosts"] = tuple(values["image_hosts"])
    return values | {name: os.environ.get(key) or None for name, key in _VARIABLES.items()}


def _unknown(table: Mapping[str, Any]) -> Iterator[ConfigError]:
    for name in table:
        if name not in _KNOWN:
            fix = f"set {KEY}" if "key" in name else f"known are {', '.join(_KNOWN)}"
            yield ConfigError(f"[server] unknown key {name!r}; {fix}")


def _faults_of(values: Mapping[str, Any]) -> Iterator[ConfigError]:
    """What is wrong with the values of all options."""
    for name, (least, most) in _RANGES.items():
        value = values[name]
        if type(value) is not int or not least <= value <= most:
            yield ConfigError(
                f"[server] {name} is {value!r}; give a whole number from {least} to {most}"
            )
    for name in ("host", *_FOLDERS):
        value = values[name]
        if not (isinstance(value, str) and value) and (name == "host" or value is not None):
            yield ConfigError(f"[server] {name} is {value!r}; give a string")
    if not isinstance(values["log_pictures"], bool):
        yield ConfigError(
            f"[server] log_pictures is {values['log_pictures']!r}; give true or false"
        )
    hosts = values["image_hosts"]
    if not isinstance(hosts, tuple) or not all(isinstance(h, str) and h for h in hosts):
        yield ConfigError(f"[server] image_hosts is {hosts!r}; give a list of host names")
    root, host = values["adapter_root"], values["host"]
    if isinstance(root, str) and root and not Path(root).is_dir():
        yield ConfigError(f"[server] adapter_root: {root} is no folder; make it, or give another")
    if isinstance(host, str) and host and not _is_local(host) and not values["api_key"]:
        yield ConfigError(
            f"[server] host {host} is open to other machines, and no key protects the server; set "
            f"{KEY}, or listen on 127.0.0.1"
        )


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
