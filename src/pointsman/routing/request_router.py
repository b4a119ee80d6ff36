"""Request routers: an engine, or a router with the model that it reads with."""

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
    """Routes requests; implemented by ``Engine``, ``TextRouter`` and ``ReaderRouter``."""

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
    """A router with the reader that it was trained on. It only routes, never answers. Thread-safe.

    Args:
        reader: a base without adapters, or a text encoder. This object takes it over.
        router: a router trained on this reader.
        fallback: the adapter to name if the router abstains: ``base``, one of the router's
            adapters, or ``error``, which marks the route as refused.
        hysteresis: a session keeps its adapter until the probability of another exceeds that of
            its own by more than this, from 0 to 1.

    Raises:
        ConfigError: the hysteresis is out of range.
        LabelError: the fallback is not one of the router's adapters.
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
            image: what ``load_image`` reads, or None; not read if ``reads_images`` is False.
            text: the instruction.
            session: the session's name. A session keeps the adapter that it was last routed to,
                even if the router abstains, until the probability of another adapter exceeds that
                of its own by more than the hysteresis; ``Route.held`` is then set.

        Raises:
            RequestError: ``session`` is not a valid name.
            SampleError: the image cannot be read, or the text has no words.
        """
        check_session(session)
        prompt = make_prompt(image if self.reads_images else None, text)
        with self._lock:
            held = self._sessions.held([session], torch.device("cpu"))
            [decision] = self.router.route(self.reader, [prompt], held, self._fallback)
            self._sessions.decided(session, decision)
        return decision

    def route_batch(self, prompts: Sequence[Prompt]) -> list[Route]:
        """Decisions for several requests in one padded batch, without sessions.

        Raises:
            SampleError: the reader cannot read a prompt.
        """
        if not prompts:
            return []
        with self._lock:
            return self.router.route(self.reader, prompts, fallback=self._fallback)
