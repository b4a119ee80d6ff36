"""Memory that runs out fails that batch alone, over HTTP."""

import gc
import io
import json
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image

from pointsman.engine.engine import Engine
from pointsman.engine.options import EngineOptions
from support.engines import batch_of
from support.server import screen, serve_here, user
from support.stress import leaks

SLOTS = 2
NEVER = 1 << 60
"""Bytes that no machine has"""


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def text(self) -> str:
        return str(self.body["choices"][0]["message"]["content"])


class Allocation:
    """A hook of a module that really asks for too much memory, when its inputs are ``meant``."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.meant: Any = lambda _: False
        self.count = 0
        self.held: list[weakref.ref[torch.Tensor]] = []
        """Tensors of the forwards that failed"""
        module.register_forward_pre_hook(self._before)

    def _before(self, _: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if self.meant(inputs[0]):
            mine = torch.ones(1000)
            self.held.append(weakref.ref(mine))
            self.count += 1
            torch.empty(NEVER, dtype=torch.uint8)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.pocket(options=EngineOptions(slots=SLOTS, kept=0)) as found:
        yield found


@pytest.fixture(scope="module")
def url(engine: Engine) -> Iterator[str]:
    with serve_here(engine) as found:
        yield found


def ask(url: str, text: str, *pictures: bytes, **more: Any) -> Reply:
    body = {"model": "calendar", "messages": [user(text, *pictures)], **more}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return Reply(response.status, dict(response.headers), json.load(response))
    except urllib.error.HTTPError as error:
        return Reply(error.code, dict(error.headers), json.load(error))


def _resized(content: bytes) -> bytes:
    """A screen of which the tower reads another number of patches."""
    file = io.BytesIO()
    Image.open(io.BytesIO(content)).resize((320, 160)).save(file, "png")
    return file.getvalue()


def check_refused(reply: Reply) -> None:
    assert reply.status == 503
    assert int(reply.headers["retry-after"]) >= 1
    assert int(reply.headers["retry-after-ms"]) > 0
    assert "out of memory" in reply.body["error"]["message"]
    assert "DefaultCPUAllocator" not in str(reply.body)


def check_nothing_is_left(engine: Engine, hook: Allocation) -> None:
    until = time.monotonic() + 10
    while engine._backend.at_work and time.monotonic() < until:
        time.sleep(0.01)
    assert not list(leaks(engine))
    assert hook.count == len(hook.held) > 0
    assert [held() for held in hook.held] == [None] * hook.count


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Memory must be free at once, and not when the collector comes."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_prompt_that_has_no_memory(engine: Engine, url: str) -> None:
    hook = Allocation(engine.base.core.visual)
    usual, other = screen(), _resized(screen())
    sizes: list[int] = []
    hook.meant = lambda values: sizes.append(len(values))
    right = [ask(url, f"Pick day {n}", usual, max_tokens=12).text for n in range(4)]
    hook.meant = lambda values: len(values) not in sizes
    # Prompts that come while the model is busy are read together.
    with ThreadPoolExecutor(8) as pool:
        busy = pool.submit(engine._worker.own, lambda: time.sleep(0.5))
        bad = pool.submit(ask, url, "Another screen", other)
        good = [pool.submit(ask, url, f"Pick day {n}", usual, max_tokens=12) for n in range(4)]
        busy.result()
    check_refused(bad.result())
    assert [reply.result().text for reply in good] == right
    check_nothing_is_left(engine, hook)
    hook.meant = lambda _: False
    assert ask(url, "Another screen", other).status == 200


@pytest.mark.usefixtures("no_collector")
def test_a_step_that_has_no_memory(engine: Engine, url: str) -> None:
    hook = Allocation(engine.base.model.lm_head)
    right = ask(url, "Pick day 3", screen(), max_tokens=12).text
    scheduler = batch_of(engine)

    def is_full_step(_: torch.Tensor) -> bool:
        at_work = scheduler.at_work
        return not hook.count and len(at_work) == SLOTS and all(len(r.tokens) > 3 for r in at_work)

    hook.meant = is_full_step
    long = {"max_tokens": 400, "ignore_eos": True}
    replies: list[Future[Reply]] = []
    with ThreadPoolExecutor(8) as pool:
        replies += [pool.submit(ask, url, f"Long {n}", screen(), **long) for n in range(SLOTS)]
        until = time.monotonic() + 30
        while len(scheduler.at_work) < SLOTS and time.monotonic() < until:
            time.sleep(0.005)
        waiting = [pool.submit(ask, url, "Pick day 3", screen(), max_tokens=12) for _ in range(3)]
    for reply in replies:
        check_refused(reply.result())
    assert [reply.result().text for reply in waiting] == [right] * 3
    check_nothing_is_left(engine, hook)
    assert hook.count == 1
