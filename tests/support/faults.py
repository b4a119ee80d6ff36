"""Faults of a device: out of memory at any operation, and at every call that the engine makes."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pointsman.engine import forward
from pointsman.engine.engine import Engine
from pointsman.engine.scheduler import Scheduler

LATEST = 600
"""Operations in one round, of which one fails"""


class InjectedFault(torch.OutOfMemoryError):
    """A fault of a test, of the class that a device raises."""


class FailingOperation(TorchDispatchMode):
    """Lets the operation number ``at`` fail, wherever it is."""

    def __init__(self, at: int, fail: Callable[[str], None]) -> None:
        super().__init__()
        self._left, self._fail = at, fail

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._left -= 1
        if self._left == 0:
            self._fail("an operation")
        return func(*args, **(kwargs or {}))


class Faults:
    """Faults of a seeded rate at the real boundaries of an engine.

    Args:
        rate: share of calls that fail.
    """

    def __init__(self, seed: int, rate: float) -> None:
        self._rng, self.rate = random.Random(seed), rate
        self.counts: Counter[str] = Counter()
        self._thread: threading.Thread | None = None

    @contextmanager
    def injected(self, engine: Engine) -> Iterator[None]:
        """Inside the block, calls of the engine's device fail at the rate."""
        backend: Any = engine._backend
        self._thread = engine._worker.thread
        places: list[tuple[Any, str]] = [(engine.base, "image_features")]
        places += [(engine.base, "on_device"), (engine.router, "route_prepared")]
        if isinstance(backend, Scheduler):
            places += [(backend.forward, name) for name in ("reading", "step", "_logits")]
            places += [(backend.forward.slots, name) for name in ("move", "clear")]
            places += [(backend.stack, "_read")]
            places += [(forward, "Graph"), (forward, "reach_bias")]
            places += [(torch, "multinomial")]
        else:
            places += [(engine.base.model, "generate")]
        rounds = [(backend, name) for name in ("run", "add", "remove")]
        # In a compiled layer or a graph there is no operation to be seen.
        rounds = rounds if engine.base.device.type == "cpu" else []
        with ExitStack() as stack:
            for owner, name in places:
                stack.enter_context(_replaced(owner, name, self._failing(name)))
            for owner, name in rounds:
                stack.enter_context(_replaced(owner, name, self._watched))
            if isinstance(backend, Scheduler):
                weight = _Allocating(backend.forward.slots._weight, self._may_fail)
                stack.enter_context(patch.object(backend.forward.slots, "_weight", weight))
            yield

    def _fail(self, place: str) -> None:
        self.counts[place] += 1
        raise InjectedFault(f"injected in {place}")

    def _may_fail(self, place: str) -> None:
        if threading.current_thread() is self._thread and self._rng.random() < self.rate:
            self._fail(place)

    def _failing(self, place: str) -> Callable[[Any], Any]:
        """Fails before a call, or after it, when it has changed what it changes."""

        def wrap(call: Any) -> Any:
            def called(*args: Any, **kwargs: Any) -> Any:
                self._may_fail(place)
                result = call(*args, **kwargs)
                self._may_fail(f"{place}, at its end")
                return result

            return called

        return wrap

    def _watched(self, call: Any) -> Any:
        """Fails at one operation of a call."""

        def called(*args: Any, **kwargs: Any) -> Any:
            if self._rng.random() >= 5 * self.rate:  # most rounds have fewer operations
                return call(*args, **kwargs)
            with FailingOperation(self._rng.randint(1, LATEST), self._fail):
                return call(*args, **kwargs)

        return called


class _Allocating:
    """A weight whose ``new_zeros`` may fail."""

    def __init__(self, weight: Any, may_fail: Callable[[str], None]) -> None:
        self._weight, self._may_fail = weight, may_fail

    def new_zeros(self, shape: tuple[int, ...]) -> Any:
        for _ in range(10):  # slots grow rarely
            self._may_fail("new_zeros")
        return self._weight.new_zeros(shape)


def _replaced(owner: Any, name: str, wrap: Callable[[Any], Any]) -> Any:
    if hasattr(type(owner), "__dataclass_params__"):  # some are frozen
        return _replaced(type(owner), name, wrap)
    return patch.object(owner, name, wrap(getattr(owner, name)))


def kill(engine: Engine) -> None:
    """Breaks an engine's device for good: every call fails, and so does releasing a slot."""

    def dead(*_: Any, **__: Any) -> Any:
        raise InjectedFault("a dead device")

    backend: Any = engine._backend
    if isinstance(backend, Scheduler):
        for name in ("reading", "step", "release"):
            setattr(backend.forward, name, dead)
    else:
        backend.run = dead
