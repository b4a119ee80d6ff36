"""What decides requests: an engine, or a router with the model that it reads with."""

import threading
from collections.abc import Sequence
from typing import Protocol

import torch

from pointsman.conversation import Prompt, make_prompt
from pointsman.images import Source
from pointsman.labels import BASE, LabelMap
from pointsman.models.features import Reader
from pointsman.routing.route import Route
from pointsman.routing.router import Router
from pointsman.routing.sessions import HYSTERESIS, Sessions, check_session


class RequestRouter(Protocol):
    """Decides requests: ``Engine``, ``TextRouter`` and ``ReaderRouter`` do."""

    @property
    def router(self) -> Router: ...
    @property
    def labels(self) -> LabelMap:
        """The router's label map."""

    @property
    def reads_images(self) -> bool:
        """Whether the images of a prompt are looked at."""

    def route(self, image: Source | None, text: str, *, session: str | None = None) -> Route:
        """The decision for one request; a session keeps its adapter, see ``Engine.submit``."""

    def route_batch(self, prompts: Sequence[Prompt]) -> list[Route]:
        """Decisions for several requests, in one padded batch."""


class ReaderRouter:
    """A router with the reader that it was trained on. It routes and never answers. Thread-safe.

    Args:
        reader: a base without adapters to answer with, or a text encoder. It belongs to this
            object from now on.
        router: trained on this reader.
        fallback: the adapter to name where the router abstains: ``base``, one of the router's
            adapters, or ``error``, which marks the route as refused.
        hysteresis: a session keeps its adapter until another one's probability exceeds that of its
            own by more than this, from 0 to 1.

    Raises:
        ConfigError: a hysteresis out of its range.
        LabelError: a fallback that is none of the router's adapters.
        MismatchError: the router belongs to another reader.
    """

    def __init__(
        self,
        reader: Reader,
        router: Router,
        *,
        fallback: str = BASE,
        hysteresis: float = HYSTERESIS,
    ) -> None:
        self.reader = reader
        router.check_fallback(fallback)
        self.router, self._fallback = router, fallback
        self._sessions = Sessions(hysteresis)
        self._lock = threading.Lock()
        with torch.inference_mode(), reader.without_adapters():
            router.check_base(reader)

    @property
    def labels(self) -> LabelMap:
        """The router's label map."""
        return self.router.labels

    @property
    def reads_images(self) -> bool:
        """Whether the images of a prompt are looked at."""
        return self.reader.reads_images

    def route(self, image: Source | None, text: str, *, session: str | None = None) -> Route:
        """The decision for one request.

        Args:
            image: a path, the bytes of an image file, a PIL image, or None; not read where
                ``reads_images`` is False.
            text: the instruction.
            session: keeps the adapter that it was routed to before, also where the router
                abstains, until another one's probability exceeds its own by more than the
                hysteresis; ``Route.held`` tells.

        Raises:
            RequestError: a session that is no name.
            SampleError: an image that cannot be read, or a text without words.
        """
        check_session(session)
        prompt = make_prompt(image if self.reads_images else None, text)
        with self._lock:
            held = self._sessions.held([session], torch.device("cpu"))
            [decision] = self.router.route(self.reader, [prompt], held, self._fallback)
            self._sessions.decided(session, decision)
        return decision

    def route_batch(self, prompts: Sequence[Prompt]) -> list[Route]:
        """Decisions for several requests, in one padded batch; no session takes part.

        Raises:
            SampleError: a prompt that the reader cannot read.
        """
        if not prompts:
            return []
        with self._lock:
            return self.router.route(self.reader, prompts, fallback=self._fallback)
