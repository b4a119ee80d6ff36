"""The server's options and their defaults: the table ``[server]`` of the project file."""

import ipaddress
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from pointsman.engine.options import EngineOptions
from pointsman.errors import ConfigError

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
    """Waiting requests; further ones get status 429"""
    max_new_tokens: int = 1024
    """Longest answer in tokens, if a request sets no limit"""
    deadline: int = 300
    """Seconds after which a request ends"""
    drain: int = 30
    """Seconds in which running requests may end after a SIGTERM"""
    max_body_mb: int = 64
    """Largest request"""
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
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise ConfigError(
                    f"[server] {name} is {value!r}; give a whole number from {least} to {most}"
                )
        for name in ("host", "adapter_root", "decision_log"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value) and (name == "host" or value is not None):
                raise ConfigError(f"[server] {name} is {value!r}; give a string")
        if not isinstance(self.log_pictures, bool):
            raise ConfigError(f"[server] log_pictures is {self.log_pictures!r}; give true or false")
        if not all(isinstance(host, str) and host for host in self.image_hosts):
            raise ConfigError(f"[server] image_hosts is {list(self.image_hosts)}; give host names")
        if not self.is_local and not self.api_key:
            raise ConfigError(
                f"host {self.host} is open to other machines, and no key protects the server; set "
                f"{KEY}, or listen on 127.0.0.1"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @classmethod
    def from_table(cls, table: Any, folder: Path, **given: Any) -> Self:
        """The options of a project file's table; those that are given win, unless None.

        Args:
            folder: the project file's, for relative paths.

        Raises:
            ConfigError: an unknown key, or a value that cannot be.
        """
        if not isinstance(table, dict):
            raise ConfigError(f"[server] is {table!r}; give a table of options")
        known = [each.name for each in fields(cls) if each.name not in ("api_key", "admin_key")]
        if unknown := [name for name in table if name not in known]:
            fix = f"set {KEY}" if "key" in unknown[0] else f"known are {', '.join(known)}"
            raise ConfigError(f"[server] unknown key {unknown[0]!r}; {fix}")
        values = {**table, **{name: value for name, value in given.items() if value is not None}}
        for name in ("adapter_root", "decision_log"):
            if isinstance(values.get(name), str):
                values[name] = str(folder / Path(values[name]).expanduser())
        if isinstance(values.get("image_hosts"), list):
            values["image_hosts"] = tuple(values["image_hosts"])
        values |= {
            "api_key": os.environ.get(KEY) or None,
            "admin_key": os.environ.get(ADMIN_KEY) or None,
        }
        return cls(**values)


_RANGES = {
    "port": (0, 65535),
    "slots": (1, 1024),
    "max_waiting": (1, 100_000),
    "max_new_tokens": (1, 1_000_000),
    "deadline": (1, 86_400),
    "drain": (0, 3600),
    "max_body_mb": (1, 1024),
    "body_seconds": (1, 3600),
    "max_images": (0, 256),
    "max_pixels": (64, 64_000_000),
    "max_samples": (1, 128),
}
