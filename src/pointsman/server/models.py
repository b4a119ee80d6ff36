"""Models: the names that clients ask for, and adapters that are loaded while the server runs.

A request keeps the generation of an adapter that it began with. Each generation has a name of its
own in the engine, and is removed there when its last request has ended.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointsman.adapters.load import open_adapter
from pointsman.engine.engine import Engine
from pointsman.errors import (
    ArtefactError,
    ConfigError,
    LabelError,
    MismatchError,
    PointsmanError,
    RequestError,
)
from pointsman.labels import BASE, ROUTED, check_name
from pointsman.protocol.shown import generation


@dataclass(frozen=True)
class Generation:
    """An adapter's files, as they were loaded."""

    name: str
    inner: str
    """Its name in the engine"""
    digest: str
    root: str
    """Its folder, as it was asked for"""


@dataclass
class Models:
    """The served models. Thread-safe.

    Args:
        root: folder from which adapters may be loaded; None: none may.
    """

    engine: Engine
    router_digest: str
    root: Path | None
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._loading = threading.Lock()
        self._loaded: dict[str, Generation] = {}
        self._users: Counter[str] = Counter()
        self._retired: set[str] = set()
        self._count = 0
        self._names: dict[str, str] = {}
        """Names of loaded adapters by those in the engine"""
        sealed = self.engine.router.adapter_digests
        self._sealed = {
            name: Generation(name, name, generation(sealed.get(name, {})), name)
            for name in self.engine.labels
        }

    @property
    def base_names(self) -> tuple[str, ...]:
        """Names of the base; a folder's path is no client's business."""
        identity = self.engine.base.id
        return (BASE, BASE if Path(identity).exists() else identity)

    def take(self, model: str) -> Generation | None:
        """What answers for a model: an adapter's generation; None for ``auto`` and the base.

        Its generation stays until ``give_back``.

        Raises:
            LabelError: there is no such model.
        """
        name = self.plain(model)
        with self._lock:
            if name in (ROUTED, BASE):
                return None
            found = self._all()[name]
            self._users[found.inner] += 1
            return found

    def give_back(self, taken: Generation) -> None:
        """Ends a request's use of a generation."""
        with self._lock:
            self._users[taken.inner] -= 1
        self._sweep()

    def plain(self, model: str) -> str:
        """``auto``, ``base`` or an adapter's name. Raises ``LabelError`` for an unknown model."""
        before, colon, after = model.partition(":")
        name = after if colon and before in self.base_names else model
        if name in self.base_names:
            return BASE
        with self._lock:
            if name != ROUTED and name not in self._all():
                known = ", ".join((ROUTED, BASE, *self._all()))
                raise LabelError(f"model {model[:80]!r} does not exist; there are {known}")
        return name

    def generation_of(self, adapter: str | None) -> str | None:
        """The digest of an adapter in service."""
        with self._lock:
            found = self._all().get(adapter or BASE)
            return None if found is None else found.digest

    def public_name(self, inner: str) -> str:
        """The name that clients know an adapter by, from that in the engine."""
        return self._names.get(inner, inner)

    def listed(self) -> list[dict[str, Any]]:
        """The models in the form of OpenAI's and vLLM's list."""
        name = self.base_names[-1]
        rows: list[dict[str, Any]] = [
            {"id": BASE, "root": name, "parent": None},
            {"id": ROUTED, "root": "router", "parent": name, "digest": self.router_digest},
        ]
        with self._lock:
            for each in self._all().values():
                row = {"id": each.name, "root": each.root, "parent": name, "digest": each.digest}
                rows.append(row)
        longest = int(self.engine.base.config.text_config.max_position_embeddings)
        common = {"object": "model", "created": self.created, "owned_by": "pointsman"}
        return [{**common, "max_model_len": longest, **row} for row in rows]

    def load(self, name: str, path: str, *, in_place: bool, expected: str | None) -> str:
        """Loads an adapter, or its next generation; returns the generation's digest.

        Args:
            path: below the root.
            in_place: whether it may replace one of this name.
            expected: the generation that is in service now, or it is not replaced.

        Raises:
            RequestError: it may not be loaded like this.
            PointsmanError: its files are missing, broken or for another base.
        """
        check_name(name)
        place = self.inside(path)
        with self._loading:
            with self._lock:
                before = self._loaded.get(name)
                is_taken = name in self._sealed or before is not None
            if expected is not None and expected != self.generation_of(name):
                now = self.generation_of(name) or "none"
                raise RequestError(
                    f"adapter {name!r}: generation {now} is in service, not {expected}"
                )
            if name in self._sealed:
                raise RequestError(f"adapter {name!r} is sealed by the router; use another name")
            if is_taken and not in_place:
                raise RequestError(
                    f"adapter {name!r} has already been loaded; send load_inplace to replace it"
                )
            with self.told():
                after = self._add(name, place, path)
        if before is not None and before.inner != after.inner:
            self._retire(before)
        return after.digest

    @contextmanager
    def told(self) -> Iterator[None]:
        """Errors of files become errors of the request, without the server's paths."""
        try:
            yield
        except (ArtefactError, MismatchError, ConfigError) as error:
            paths = () if self.root is None else (self.root.resolve(), self.root)
            message = str(error)
            for path in paths:
                message = message.replace(f"{path}/", "")
            raise RequestError(message) from None

    def _add(self, name: str, place: Path, root: str) -> Generation:
        file = open_adapter(name, place)
        digest = generation(file.digests)
        before = self._loaded.get(name)
        if before is not None and before.digest == digest:
            return before
        self._count += 1
        found = Generation(name, f"{name[:48]}--{self._count}", digest, root)
        self.engine.add_adapter(found.inner, file)
        with self._lock:
            self._loaded[name] = found
            self._names[found.inner] = name
        return found

    def unload(self, name: str, *, expected: str | None = None) -> None:
        """Takes an adapter out of service; its running requests end with it.

        Raises:
            LabelError: it is not loaded.
            RequestError: it is the router's, or another generation is in service.
        """
        if name in (*self._sealed, ROUTED, BASE):
            raise RequestError(f"adapter {name!r} is sealed by the router; it must stay")
        with self._lock:
            found = self._loaded.get(name)
            if found is None:
                raise LabelError(f"adapter {name!r} is not loaded")
            if expected not in (None, found.digest):
                raise RequestError(
                    f"adapter {name!r}: generation {found.digest} is in service, not {expected}"
                )
            del self._loaded[name]
        self._retire(found)

    def _all(self) -> dict[str, Generation]:
        return {**self._sealed, **self._loaded}

    def _retire(self, old: Generation) -> None:
        with self._lock:
            self._retired.add(old.inner)
        self._sweep()

    def _sweep(self) -> None:
        """Removes retired generations that no request uses, off the caller's thread."""
        with self._lock:
            unused = [inner for inner in self._retired if not self._users[inner]]
            self._retired.difference_update(unused)
        if unused:
            threading.Thread(target=self._remove, args=(unused,), daemon=True).start()

    def _remove(self, unused: list[str]) -> None:
        for inner in unused:
            try:
                self.engine.remove_adapter(inner)
                self._names.pop(inner, None)
            except ConfigError:  # its last token is still being made
                time.sleep(0.05)
                with self._lock:
                    self._retired.add(inner)
                self._sweep()
            except PointsmanError:
                pass  # the engine is closing

    def inside(self, path: str) -> Path:
        """A folder below the root. The same error for what is outside and what is not there."""
        if self.root is None:
            raise RequestError("adapters cannot be loaded: [server] adapter_root is not set")
        root = self.root.resolve()
        try:
            place = (root / path).resolve()
            is_there = place.is_dir() and _is_inside(root, place)
        except (OSError, ValueError, RuntimeError):
            is_there = False
        if not is_there:
            raise LabelError("path: no such folder below the server's adapter_root")
        return place


def _is_inside(root: Path, place: Path) -> bool:
    """Whether a folder and all in it, links resolved, are files and folders below the root."""
    return place.is_relative_to(root) and all(
        each.resolve().is_relative_to(root) and (each.is_file() or each.is_dir())
        for each in place.rglob("*")
    )
