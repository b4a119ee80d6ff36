"""The engine's options and their defaults."""

from dataclasses import dataclass, replace
from typing import Self

from pointsman.engine.plan import check_plan
from pointsman.errors import ConfigError
from pointsman.labels import BASE
from pointsman.models.qwen3_vl import IMAGE_CACHE_MB, MAX_NEW_TOKENS
from pointsman.project import Project
from pointsman.routing.sessions import HYSTERESIS, check_hysteresis


@dataclass(frozen=True)
class EngineOptions:
    """The options of an engine.

    Raises:
        ConfigError: a value is out of range.
    """

    plan: str | None = None
    """``in-pass``, ``activated``, ``two-pass`` or ``peft``; by default the fastest plan that is
    exact for the adapters, see ``engine.plan.Plan``"""
    slots: int = 32
    """Requests answered at the same time; others wait"""
    max_waiting: int = 1024
    """Requests beyond ``slots``, which wait; further ones are refused with ``QueueFullError``"""
    kept: int = 4
    """Conversations in the prefix cache: their next turns reuse the cached keys and values"""
    image_cache_mb: int = IMAGE_CACHE_MB
    """MiB of image features on the device: an image that is asked about again is not read again"""
    resident: int | None = None
    """Adapters on the device at the same time, by default all; others stay on the host"""
    max_rank: int | None = None
    """Largest rank that ``add_adapter`` accepts; by default the largest rank at the start"""
    max_new_tokens: int = MAX_NEW_TOKENS
    """Maximum length of an answer in tokens, if the request sets no limit"""
    fallback: str | None = None
    """What answers if the router abstains: ``base``, an adapter, or ``error`` (the request fails
    with ``AbstainedError``). By default the project's value, else ``base``"""
    hysteresis: float | None = None
    """A session keeps its adapter until the probability of another exceeds that of its own by more
    than this, from 0 to 1. By default the project's value, else 0.2"""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            self._check_count(name, least)
        if self.plan is not None:
            check_plan(self.plan)
        if self.hysteresis is not None:
            check_hysteresis(self.hysteresis)

    def _check_count(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value is None and name in ("resident", "max_rank"):
            return
        if type(value) is not int:
            raise ConfigError(f"{name} is {value!r}; give a whole number")
        if value < least:
            raise ConfigError(f"{name} is {value}; give {least} or more")

    def with_defaults(self, project: Project | None = None) -> Self:
        """A copy with ``fallback`` and ``hysteresis`` set: the project's, else the defaults."""
        fallback = self.fallback or (project.fallback if project else BASE)
        hysteresis = self.hysteresis
        if hysteresis is None and project is not None:
            hysteresis = project.hysteresis
        hysteresis = HYSTERESIS if hysteresis is None else hysteresis
        return replace(self, fallback=fallback, hysteresis=hysteresis)


_LEAST = {
    "slots": 1,
    "max_waiting": 1,
    "kept": 0,
    "image_cache_mb": 0,
    "resident": 1,
    "max_rank": 1,
    "max_new_tokens": 1,
}
