"""A JSONL file of requests: reads them and writes one line of JSON per result, in order."""

import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pointsman.cli import console
from pointsman.conversation import Prompt, make_prompt
from pointsman.dialects.record import read_record
from pointsman.dialects.values import Image, image_of
from pointsman.engine.answer import Answer
from pointsman.engine.stream import Stream
from pointsman.errors import PointsmanError, SampleError
from pointsman.files import write_text
from pointsman.images import Source, load_image
from pointsman.routing.request_router import RequestRouter
from pointsman.routing.route import Route
from pointsman.sample import to_jsonl

STDIN = "-"
AHEAD = 64
"""Maximum number of requests that are submitted and not yet answered"""
BATCH = 8
"""Requests that are routed in one batch"""
Outcome = tuple[int, Route | Answer | PointsmanError]
"""A line number, and the result or the error"""


class RequestFile:
    """The requests in a file, or on standard input (``-``). Image paths are relative to the file.

    Raises:
        SampleError: the file is missing or cannot be read.
    """

    images: bool = True
    """False skips all images, for a router that reads only text"""

    def __init__(self, path: str) -> None:
        self.name = "standard input" if path == STDIN else path
        self.folder = Path() if path == STDIN else Path(path).parent
        self.total = None if path == STDIN else sum(1 for _ in self._lines(path))
        self._numbered = self._lines(path)

    def __iter__(self) -> Iterator[tuple[int, Prompt | PointsmanError]]:
        """The number of each line, and its prompt or its error."""
        for number, line in self._numbered:
            try:
                yield number, self._prompt(line)
            except PointsmanError as error:
                yield number, error

    def _lines(self, path: str) -> Iterator[tuple[int, str]]:
        try:
            if path == STDIN:
                yield from _filled(sys.stdin)
                return
            with Path(path).open(encoding="utf-8-sig") as lines:
                yield from _filled(lines)
        except FileNotFoundError:
            raise SampleError(f"{self.name}: no such file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise SampleError(f"{self.name}: cannot be read ({error})") from None

    def _prompt(self, line: str) -> Prompt:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SampleError(f"not a line of JSON ({error})") from None
        if isinstance(record, dict) and "text" in record:
            return self._plain(record)
        return self._conversation(record)

    def _plain(self, record: Mapping[str, Any]) -> Prompt:
        text, image = record["text"], record.get("image")
        if not isinstance(text, str):
            raise SampleError(f"text is {text!r}; give a string")
        is_shown = self.images and image is not None
        return make_prompt(self._source(image_of(image)) if is_shown else None, text)

    def _conversation(self, record: Any) -> Prompt:
        """A conversation, without the assistant turns at its end."""
        found = read_record(record)
        turns = list(found.turns)
        while turns[-1].role == "assistant":
            turns.pop()
        if not self.images:
            return Prompt(tuple(replace(turn, parts=(turn.text,)) for turn in turns), ())
        return Prompt(tuple(turns), tuple(load_image(self._source(i)) for i in found.images))

    def _source(self, image: Image) -> Source:
        return image if isinstance(image, bytes) else self.folder / image


def route_all(router: RequestRouter, requests: RequestFile) -> Iterator[Outcome]:
    """The route of each request, computed in batches."""
    following = iter(requests)
    while batch := list(islice(following, BATCH)):
        prompts = [prompt for _, prompt in batch if isinstance(prompt, Prompt)]
        routes = iter(_routes(router, prompts))
        for number, prompt in batch:
            yield number, next(routes) if isinstance(prompt, Prompt) else prompt


def _routes(router: RequestRouter, prompts: list[Prompt]) -> list[Route | PointsmanError]:
    try:
        return list(router.route_batch(prompts))
    except PointsmanError as error:
        if len(prompts) == 1:
            return [error]
        # One bad request fails its batch, so each is routed alone.
        return [route for prompt in prompts for route in _routes(router, [prompt])]


def answer_all(submit: Callable[[Prompt], Stream], requests: RequestFile) -> Iterator[Outcome]:
    """The answer to each request; up to ``AHEAD`` of them are in the engine at once."""
    waiting: deque[tuple[int, Stream | PointsmanError]] = deque()
    for number, prompt in requests:
        waiting.append((number, submit(prompt) if isinstance(prompt, Prompt) else prompt))
        if len(waiting) == AHEAD:
            yield _finished(*waiting.popleft())
    yield from (_finished(number, stream) for number, stream in waiting)


def _finished(number: int, stream: Stream | PointsmanError) -> Outcome:
    if isinstance(stream, PointsmanError):
        return number, stream
    try:
        return number, stream.result()
    except PointsmanError as error:
        return number, error


def write_outcomes(outcomes: Iterable[Outcome], requests: RequestFile, out: Path | None) -> int:
    """Writes one line of JSON per result and reports failures. Returns the number of failures.

    Args:
        out: file for all results, written at the end; None prints each result at once.
    """
    lines: list[dict[str, Any]] = []
    failed = done = 0
    with console.progress("requests") as report:
        for done, (number, outcome) in enumerate(outcomes, 1):
            if isinstance(outcome, PointsmanError):
                failed += 1
                console.error(f"{requests.name}:{number}: {outcome}")
            elif out is None:
                console.show_line({"line": number, **asdict(outcome)})
            else:
                lines.append({"line": number, **asdict(outcome)})
            report(done, requests.total)
    if not done:
        raise SampleError(f"{requests.name}: holds no requests")
    if out is not None:
        write_text(out, to_jsonl(lines))
        console.say(f"{out}: {len(lines)} results")
    if failed:
        console.error(f"{failed} of {done} requests failed")
    return failed


def _filled(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())
