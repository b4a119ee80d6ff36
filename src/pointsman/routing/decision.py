"""Decision: a route with the request that it is for, as one JSON object."""

import re
from dataclasses import dataclass
from typing import Any, Self, get_args

from pointsman.conversation import Role, Turn
from pointsman.routing.route import Route

_PLAIN = ("time", "id", "session", "model", "router_digest", "plan")
_ROUTE = ("label", "adapter", "probabilities", "abstained", "score", "held", "refused")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Decision:
    """One record of a decision log."""

    time: str
    """ISO 8601, UTC"""
    id: str
    """The request's"""
    session: str | None
    model: str
    """The model that the request named"""
    turns: tuple[Turn, ...]
    """What a router may see of the conversation"""
    images: tuple[str, ...]
    """Digests of the images, in the order in which the turns show them"""
    route: Route
    router_digest: str
    plan: str

    @property
    def choice(self) -> str | None:
        """The adapter that the router chose; None if it abstained, whatever answered then."""
        return None if self.route.abstained else self.route.adapter

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Reads the form of ``to_json``. Raises ``ValueError`` on anything else."""
        try:
            decision = cls(
                turns=tuple(Turn(t["role"], tuple(map(_text, t["parts"]))) for t in value["turns"]),
                images=tuple(value["images"]),
                route=Route(**{name: value[name] for name in _ROUTE}),
                **{name: _text(value[name]) for name in _PLAIN},
            )
            decision._check()
        except (TypeError, AttributeError, LookupError) as error:
            raise ValueError(f"not a decision ({error})") from None
        return decision

    def to_json(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "turns": [{"role": turn.role, "parts": list(turn.parts)} for turn in self.turns],
            "images": list(self.images),
            **{name: getattr(self.route, name) for name in _ROUTE},
        }

    def _check(self) -> None:
        """Raises ``TypeError`` or ``LookupError`` on a value that no decision has."""
        route = self.route
        texts = [self.time, self.id, self.model, self.router_digest, self.plan]
        texts += [part for turn in self.turns for part in turn.parts if part is not None]
        texts += [*self.images, *(name for name in (self.session, route.adapter) if name)]
        right = (
            all(isinstance(text, str) for text in texts)
            and all(turn.role in get_args(Role) for turn in self.turns)
            and all(_DIGEST.fullmatch(digest) for digest in self.images)
            and sum(turn.places for turn in self.turns) == len(self.images)
            and all(type(value) is bool for value in (route.abstained, route.held, route.refused))
            and all(type(p) in (int, float) for p in (route.score, *route.probabilities.values()))
            and type(route.label) is int
            and route.label in range(-1, len(route.probabilities))
        )
        if not (right and route.probabilities):
            raise TypeError("a value of the wrong kind")


def _text(value: Any) -> Any:
    """A text without half characters, which JSON can hold and no file can; None stays None.

    Raises:
        TypeError: the value is another one.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value.encode("utf-8", "replace").decode()
