"""What answers an engine's requests: the scheduler, or PEFT."""

from collections.abc import Sequence
from typing import Protocol

from pointsman.adapters.load import Adapter
from pointsman.engine.request import Request
from pointsman.models.base import Base


class Backend(Protocol):
    """Answers requests on the thread that owns the model."""

    @property
    def base(self) -> Base:
        """The base, adapters in place."""

    @property
    def at_work(self) -> Sequence[Request]:
        """Requests that are being answered."""

    @property
    def room(self) -> int:
        """Requests that can be admitted."""

    def prepare(self, request: Request) -> None:
        """Text and image work of a request, off the model: called on its caller's thread.

        Raises:
            SampleError: a prompt that cannot be answered.
        """

    def run(self, requests: Sequence[Request]) -> list[Request]:
        """Admits requests and makes one token for all; those that must wait on come back."""

    def rest(self) -> None:
        """Leaves nothing on, before the model is used otherwise."""

    def add(self, adapter: Adapter) -> None:
        """Takes one more adapter. Raises ``ConfigError`` if it does not suit the plan."""

    def remove(self, name: str) -> None:
        """Forgets an adapter. Raises ``ConfigError`` while it answers."""
