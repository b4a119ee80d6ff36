"""What ``bench_against_vllm.py`` measures, the same way on each side.

A side takes requests and advances until something happened to them; all figures come from the times
at which tokens appeared.
"""

import io
import json
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from PIL import Image

AUTO, NAMED = "auto", "named"
"""Ways to ask: the router chooses, or the caller names the adapter"""
FIRST_REQUESTS = 10
"""Asked one by one after the start"""
Figure = dict[str, Any]


@dataclass(frozen=True)
class Counts:
    """How much is asked."""

    rounds: int = 3
    tokens: int = 32
    """Of an answer, where nothing else is said"""
    together: int | None = 8
    """Requests whose first tokens are timed together, besides one alone; None: none are timed"""
    steps: Mapping[int, int] = field(default_factory=lambda: {1: 65, 8: 128, 32: 320})
    """Tokens of an answer, by batch: the first answer must last until all others have begun"""
    burst: int = 64
    """Requests asked at once"""
    clients: Mapping[int, int] = field(default_factory=lambda: {1: 8, 8: 32, 32: 64, 64: 128})
    """Requests of a closed loop, by its clients"""
    running: int = 8
    admitted: int = 16
    """Requests that arrive while ``running`` others are answered"""
    long: int = 256
    """Tokens of the running ones' answers"""
    ignores_end: bool = True


COUNTS = {
    "8B": Counts(),
    "toy": Counts(
        rounds=1,
        tokens=4,
        together=2,
        steps={1: 8, 2: 24},
        burst=4,
        clients={1: 2, 2: 4},
        running=2,
        admitted=2,
        long=24,
    ),
    # Answers of a trained model end by themselves, as those of the original's way do.
    "pocket": Counts(
        rounds=5, tokens=256, together=None, steps={}, burst=0, clients={1: 8, 8: 24},
        running=0, ignores_end=False,
    ),
}  # fmt: skip
"""By the shape of what is served"""


@dataclass(frozen=True)
class Ask:
    """One request: what a client would send."""

    picture: bytes
    """A PNG file"""
    text: str
    prompt: str
    """The text in the base's chat template"""
    model: str | None
    """``auto`` or an adapter's name; None: the base"""


@dataclass(eq=False)
class Timeline:
    """When what became of a request."""

    asked: float
    tokens: list[float] = field(default_factory=list)
    """When each token of the answer appeared"""
    is_done: bool = False


class Side(Protocol):
    """An engine that answers."""

    def submit(self, ask: Ask, tokens: int) -> Timeline:
        """Asks for so many tokens; the time of the asking is now."""

    def advance(self) -> None:
        """Returns when a request may have begun or ended. Raises a request's error."""


class Requests:
    """Endless requests, each with a picture that no other request of the run has."""

    def __init__(self, path: Path) -> None:
        self._rows = cycle([json.loads(line) for line in path.read_text().splitlines()])
        self._number = 0

    def take(self, count: int, way: str) -> list[Ask]:
        return [self._one(next(self._rows), way) for _ in range(count)]

    def _one(self, row: dict[str, Any], way: str) -> Ask:
        self._number += 1
        generator = random.Random(self._number)
        with Image.open(row["image"]) as image:
            picture = image.convert("RGB")
        for at in range(8):
            picture.putpixel((at, 0), tuple(generator.randrange(256) for _ in range(3)))
        file = io.BytesIO()
        picture.save(file, "png", compress_level=1)
        model = AUTO if way == AUTO else row["adapter"]
        return Ask(file.getvalue(), row["text"], row["prompt"], model)


def figure(values: Sequence[float], unit: str, factor: float = 1.0) -> Figure:
    """The median of what was seen, and all of it."""
    seen = [float(f"{factor * value:.4g}") for value in values]
    return {"value": median(seen), "unit": unit, "seen": seen}


def serve(side: Side, asks: Iterable[Ask], clients: int, tokens: int) -> list[Timeline]:
    """A closed loop: each client asks its next request when it has an answer."""
    waiting, running, found = deque(asks), list[Timeline](), list[Timeline]()
    while waiting or running:
        while waiting and len(running) < clients:
            running.append(side.submit(waiting.popleft(), tokens))
            found.append(running[-1])
        side.advance()
        running = [timeline for timeline in running if not timeline.is_done]
    return found


def span(timelines: Sequence[Timeline], last: Callable[[Timeline], float]) -> float:
    """Seconds from the first request to the last of something."""
    return max(map(last, timelines)) - min(timeline.asked for timeline in timelines)


def first_token(timeline: Timeline) -> float:
    return timeline.tokens[0]


def last_token(timeline: Timeline) -> float:
    return timeline.tokens[-1]


def step_time(timelines: Sequence[Timeline]) -> float:
    """Seconds between two tokens while all requests are answered."""
    begun, ended = max(map(first_token, timelines)), min(map(last_token, timelines))
    latest = max(timelines, key=first_token)
    inside = [at for at in latest.tokens if begun <= at <= ended]
    if len(inside) < 5:
        raise ValueError(f"{len(timelines)} answers overlap for {len(inside)} tokens; ask for more")
    return (inside[-1] - inside[0]) / (len(inside) - 1)


def longest_gap(side: Side, requests: Requests, counts: Counts, way: str) -> float:
    """Seconds between two tokens of running requests while others are admitted, at most."""
    first = requests.take(counts.running, way)
    then = requests.take(counts.admitted, way)
    running = [side.submit(ask, counts.long) for ask in first]
    while not all(len(timeline.tokens) > 1 for timeline in running):
        side.advance()
    since = time.perf_counter()
    admitted = [side.submit(ask, counts.tokens) for ask in then]
    while not all(timeline.is_done for timeline in (*running, *admitted)):
        side.advance()
    until = max(map(first_token, admitted))
    gaps = [
        after - before
        for timeline in running
        for before, after in zip(timeline.tokens, timeline.tokens[1:], strict=False)
        if after > since and before < until
    ]
    return max(gaps)


def phases(
    side: Side, requests: Requests, counts: Counts, ways: Sequence[str]
) -> Iterator[tuple[str, Callable[[], dict[str, Figure]]]]:
    """Names of phases, and what measures them; the first way is measured in all of them."""

    def each(measure: Callable[[str], float], unit: str, ways: Sequence[str], warm: int) -> Any:
        seen: dict[str, list[float]] = {way: [] for way in ways}
        factor = 1e3 if unit == "ms" else 1.0
        for number in range(counts.rounds + warm):
            for way in ways if number % 2 == 0 else ways[::-1]:
                seen[way].append(measure(way))
        return {way: figure(values[warm:], unit, factor) for way, values in seen.items()}

    def begin(size: int, way: str) -> float:
        return span(serve(side, requests.take(size, way), size, 1), first_token)

    def steps(size: int, tokens: int, way: str) -> float:
        return step_time(serve(side, requests.take(size, way), size, tokens))

    def rate(clients: int, count: int, way: str) -> float:
        asks = requests.take(count, way)
        return count / span(serve(side, asks, clients, counts.tokens), last_token)

    def burst(way: str) -> float:
        asks = requests.take(counts.burst, way)
        return span(serve(side, asks, counts.burst, counts.tokens), last_token)

    main = ways[:1]
    for size in (1, counts.together) if counts.together else ():
        yield (
            f"first_token_{size}",
            lambda size=size: each(lambda way: begin(size, way), "ms", ways, 2),
        )
    for size, tokens in counts.steps.items():
        yield (
            f"step_{size}",
            lambda size=size, tokens=tokens: each(
                lambda way: steps(size, tokens, way), "ms", main, 1
            ),
        )
    if counts.burst:
        yield "burst", lambda: each(burst, "s", ways, 0)
    for clients, count in counts.clients.items():
        yield (
            f"clients_{clients}",
            lambda clients=clients, count=count: each(
                lambda way: rate(clients, count, way), "requests/s", main, 1
            ),
        )
    if counts.running:
        yield (
            "longest_gap",
            lambda: each(lambda way: longest_gap(side, requests, counts, way), "ms", main, 0),
        )


def first_requests(side: Side, requests: Requests, counts: Counts, way: str) -> dict[str, Any]:
    """Requests one by one after the start: what has not been compiled is compiled now."""
    times = [
        span(serve(side, [ask], 1, counts.tokens), last_token)
        for ask in requests.take(FIRST_REQUESTS, way)
    ]
    return {
        "first_request": {way: figure(times[:1], "ms", 1e3)},
        "tenth_request": {way: figure(times[-1:], "ms", 1e3)},
        "first_over_tenth": {way: figure([times[0] / times[-1]], "times")},
        "first_requests": {way: figure(times, "ms", 1e3)},
    }


def ratios(sides: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Ours over each other side's figures, and routed over named within ours."""
    ours = sides.get("ours", {})
    found = {
        f"ours over {name}": {
            phase: over(figures, AUTO, other[phase], NAMED)
            for phase, figures in ours.items()
            if AUTO in figures and NAMED in other.get(phase, {})
        }
        for name, other in sides.items()
        if name != "ours"
    }
    routed = {
        phase: over(figures, AUTO, figures, NAMED)
        for phase, figures in ours.items()
        if AUTO in figures and NAMED in figures
    }
    return found | {"ours, routed over named": routed}


def over(left: dict[str, Any], way: str, right: dict[str, Any], other: str) -> float:
    return float(f"{left[way]['value'] / right[other]['value']:.3g}")
