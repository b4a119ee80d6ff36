"""Sessions: the label that each session holds, so that a conversation keeps its adapter."""

from collections import OrderedDict
from collections.abc import Sequence

import torch

from pointsman.errors import ConfigError, RequestError
from pointsman.labels import OUT_OF_SCOPE
from pointsman.models.cpu_kernels import to_device
from pointsman.routing.route import Held, Route

HYSTERESIS = 0.2
LIMIT = 10_000
"""Maximum number of sessions in the table"""


class Sessions:
    """A table of sessions; the least recently used one makes room for a new one.

    Args:
        hysteresis: by how much another label's probability must exceed that of the held label.

    Raises:
        ConfigError: the hysteresis is not a number from 0 to 1.
    """

    def __init__(self, hysteresis: float, limit: int = LIMIT) -> None:
        check_hysteresis(hysteresis)
        self._hysteresis, self._limit = float(hysteresis), limit
        self._labels: OrderedDict[str, int] = OrderedDict()

    def held(self, sessions: Sequence[str | None], device: torch.device) -> Held | None:
        """The labels that a batch's sessions hold, on a device; None if none holds a label."""
        labels = [self._labels.get(session or "", OUT_OF_SCOPE) for session in sessions]
        if all(label == OUT_OF_SCOPE for label in labels):
            return None
        return Held(to_device(torch.tensor(labels), device), self._hysteresis)

    def decided(self, session: str | None, route: Route) -> None:
        """Records a decision; if the router abstained, there is nothing to hold."""
        if session is None or route.label == OUT_OF_SCOPE:
            return
        self._labels[session] = route.label
        self._labels.move_to_end(session)
        if len(self._labels) > self._limit:
            self._labels.popitem(last=False)


def check_hysteresis(hysteresis: float) -> None:
    """Raises ``ConfigError`` unless it is a number from 0 to 1."""
    is_number = isinstance(hysteresis, (int, float)) and not isinstance(hysteresis, bool)
    if not (is_number and 0 <= hysteresis <= 1):
        raise ConfigError(f"hysteresis is {hysteresis!r}; give a number from 0 to 1")


def check_session(session: str | None) -> None:
    """Raises ``RequestError`` unless ``session`` is a valid name."""
    if session is not None and (not isinstance(session, str) or not session):
        raise RequestError(f"session {session!r}: give a name, or None for no session")
