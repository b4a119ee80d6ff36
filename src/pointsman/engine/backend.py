"""The interface of an engine's backends: the scheduler, or PEFT."""

from collections.abc import Sequence
from typing import Protocol

from pointsman.adapters.load import Adapter
from pointsman.engine.request import Request
from pointsman.models.base import Base
from pointsman.routing.router import Router


class Backend(Protocol):
    """Answers requests on the thread that owns the model."""

    @property
    def base(self) -> Base:
        """The base, with adapters in place."""

    @property
    def at_work(self) -> Sequence[Request]:
        """Requests that are being answered."""

    @property
    def room(self) -> int:
        """Requests that can be admitted."""

    def prepare(self, request: Request) -> None:
        """Preprocesses a request's text and images without the model; thread-safe.

        Raises:
            SampleError: the prompt cannot be answered.
        """

    def run(self, requests: Sequence[Request]) -> list[Request]:
        """Admits requests and makes one token for all; returns those that must keep waiting."""

    def rest(self) -> None:
        """Switches all adapters off, before the model is used for anything else."""

    def settle(self) -> None:
        """Has all admitted requests decided."""

    def use_router(self, router: Router) -> None:
        """Decides with another router from the next request on."""

    def add(self, adapter: Adapter) -> None:
        """Adds an adapter. Raises ``ConfigError`` if it does not suit the plan."""

    def remove(self, name: str) -> None:
        """Removes an adapter. Raises ``ConfigError`` while it is answering."""
