"""A randomised stress test of an engine, against the answers of PEFT alone, one by one.

Callers on threads of their own submit, cancel, route, continue conversations, and add and remove
adapters, while the device fails at random. Every answer must be right, and every error must be
that of a fault, or say that the adapter was removed. At the end nothing may be left over.
"""

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import torch

from pointsman.adapters.peft import load_base_with_loras
from pointsman.conversation import Prompt
from pointsman.data.dataset import read_dataset
from pointsman.data.generate import generate_dataset
from pointsman.engine.answer import Answer
from pointsman.engine.engine import Engine
from pointsman.engine.kv_cache import SPARE
from pointsman.engine.options import EngineOptions
from pointsman.engine.sampling import Sampling
from pointsman.engine.scheduler import Scheduler
from pointsman.engine.stream import Stream
from pointsman.errors import (
    ArtefactError,
    ConfigError,
    EngineClosedError,
    LabelError,
    QueueFullError,
)
from pointsman.labels import BASE, ROUTED
from pointsman.models.base import load_base
from pointsman.models.features import FeatureRecipe
from pointsman.routing.feature_store import preprocess
from pointsman.routing.route import Route
from pointsman.routing.router import Router
from pointsman.routing.train import TrainSettings, train_router
from support.engines import MIXED, ask, go_on, make_adapters_for
from support.faults import Faults, InjectedFault, kill
from support.tiny import ADAPTERS, make_base, make_sources

MOST = 8
"""Tokens of the longest answer"""
CLEAR = 1e-3
"""By how much the most likely token, or label, must lead, to be the same in any batch"""
PROMPTS = (*MIXED, ask("Pick day 4 " * 30, 7), ask("Fill in the field " * 32))
"""Some outgrow the slots' first room"""
PATIENCE = 120.0
"""Seconds after which a request hangs"""
Key = tuple[int, str | None]
"""A prompt of ``PROMPTS``, and the adapter whose answer is part of it (None: the first turn)"""


class Serial:
    """Right answers: PEFT and transformers alone, one request at a time.

    Args:
        guests: adapters that callers add, by a name for each version.
    """

    def __init__(
        self, base: Path, adapters: Mapping[str, str], guests: Mapping[str, str], router: Path
    ) -> None:
        self.base = load_base_with_loras(str(base), {**adapters, **guests}, dtype="float32")
        self.guests, self._router = dict(guests), Router.load(router)
        self._bare, self._lock = load_base(str(base), dtype="float32"), threading.Lock()
        names: list[str | None] = [*ADAPTERS, None]
        self.firsts: list[Key] = [(number, None) for number in range(len(PROMPTS))]
        self.nexts: list[Key] = [
            (number, name or BASE) for number in range(len(PROMPTS)) for name in names
        ]
        self.tokens = cache(self._tokens)
        self.label = cache(self._label)
        self.prompt = cache(self._prompt)

    def text(self, key: Key, adapter: str | None, length: int) -> str:
        tokens, _ = self.tokens(key, adapter)
        return self.base.decode(torch.tensor(tokens[:length], dtype=torch.long)).strip()

    def _prompt(self, key: Key) -> Prompt:
        number, said_by = key
        if said_by is None:
            return PROMPTS[number]
        name = None if said_by == BASE else said_by
        return go_on(PROMPTS[number], self.text((number, None), name, MOST), "And then, please?")

    def _tokens(self, key: Key, adapter: str | None) -> tuple[list[int], bool]:
        """The answer's tokens, and whether they are the same in any batch."""
        prompt = self.prompt(key)
        with self._lock:  # the adapter that is on is state of the model
            return self._alone(prompt, adapter)

    def _alone(self, prompt: Prompt, adapter: str | None) -> tuple[list[int], bool]:
        encoded = self.base.encode([prompt])
        inputs = self.base.stock_inputs(encoded)
        del inputs["position_ids"]
        model: Any = self.base.model
        options = {"max_new_tokens": MOST, "do_sample": False, "output_logits": True}
        options["return_dict_in_generate"] = True
        with torch.inference_mode():
            if adapter is None:
                with model.disable_adapter():
                    found = model.generate(**inputs, **options)
            else:
                model.set_adapter(adapter, inference_mode=True)
                found = model.generate(**inputs, **options)
        best = torch.cat(found.logits).topk(2).values
        tokens = found.sequences[0, encoded["input_ids"].shape[1] :].tolist()
        return tokens, bool((best[:, 0] - best[:, 1]).min() > CLEAR)

    def _label(self, key: Key) -> tuple[int, bool]:
        """The router's label without a session, and whether it is the same in any batch."""
        prompt = self.prompt(key)
        with self._lock:
            [route] = self._router.route(self._bare, [prompt])
        margin = abs(route.score - self._router.calibration.threshold)
        best = sorted(route.probabilities.values())[-2:]
        return route.label, margin > CLEAR and best[1] - best[0] > CLEAR


@dataclass(eq=False)
class Asked:
    """A submitted request, and what would be right."""

    key: Key
    stream: Stream
    length: int
    names: set[str | None]
    """Adapters whose answer is right; for a guest, every version since it was submitted"""
    guest: str | None = None
    session: str | None = None


@dataclass
class Tally:
    """What came of all requests."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    hung: int = 0
    leaked: list[str] = field(default_factory=list)

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.counts + other.counts,
            self.faults + other.faults,
            self.wrong + other.wrong,
            self.hung + other.hung,
            self.leaked + other.leaked,
        )

    @property
    def verdict(self) -> str:
        found = f"{len(self.wrong)} wrong, {self.hung} hung, {len(self.leaked)} leaks"
        return f"{found}, {self.faults.total()} faults {[*self.wrong[:3], *self.leaked[:3]]}"

    @property
    def is_clean(self) -> bool:
        return not self.wrong and not self.hung and not self.leaked


class Caller:
    """One thread's requests: a guest adapter, sessions and a random generator of its own."""

    def __init__(self, engine: Engine, serial: Serial, tally: Tally, seed: int) -> None:
        self._engine, self._serial, self._tally = engine, serial, tally
        self._rng = random.Random(seed)
        self._guest, self._version = f"guest-{seed}", ""
        self._flying: deque[Asked] = deque()
        self._held: dict[str, set[int | None]] = {}
        """Labels that a session may hold; a request that failed may have been decided or not"""
        self._order: dict[str, list[Asked | tuple[Key, Route | None]]] = {}
        self._number = 0
        self._seed = seed

    def run(self, requests: int) -> None:
        for _ in range(requests):
            self._act()
            while len(self._flying) > self._rng.choice((2, 6, 14)):
                self._finish(self._flying.popleft())
        self.finish()

    def finish(self) -> None:
        while self._flying:
            self._finish(self._flying.popleft())
        for name, order in self._order.items():
            self._check_session(name, order)
        self._order.clear()

    def _act(self) -> None:
        chance = self._rng.random()
        if chance < 0.06:
            self._change_guest()
        if chance > 0.97:
            self._route_in_session()
        asked = self._submit()
        if asked is None:
            return
        self._flying.append(asked)
        if self._rng.random() < 0.12:
            victim = self._rng.choice(self._flying)
            if self._rng.random() < 0.3:
                time.sleep(0.002)
            victim.stream.cancel()

    def _submit(self) -> Asked | None:
        rng, serial = self._rng, self._serial
        key = rng.choice(serial.nexts if rng.random() < 0.4 else serial.firsts)
        kind = rng.choices(("named", "routed", "session", "guest"), (5, 3, 2, 2))[0]
        name: str | None = ROUTED
        session = guest = None
        names: set[str | None] = {*ADAPTERS, None}
        if kind == "guest" and self._version:
            name, guest, names = self._guest, self._guest, {self._version}
        elif kind == "session":
            session = f"session-{self._seed}-{rng.randrange(2)}"
        elif kind != "routed":
            # Mostly the adapter that gave the answer in the prompt, which may be cached.
            own = key[1] if key[1] is not None and rng.random() < 0.8 else None
            name = own or rng.choice((*ADAPTERS, BASE))
            names = {None if name == BASE else name}
        length = MOST if key[1] is None else rng.randint(1, MOST)
        sampling = Sampling(temperature=0.7, top_k=1) if rng.random() < 0.2 else None
        if self._engine.plan.name == "peft":
            sampling = None
        try:
            stream = self._engine.submit(
                serial.prompt(key),
                adapter=name,
                session=session,
                max_new_tokens=length,
                sampling=sampling,
            )
        except QueueFullError:
            self._tally.counts["refused: the queue is full"] += 1
            return None
        self._tally.counts["requests"] += 1
        asked = Asked(key, stream, length, names, guest, session)
        if session:
            self._order.setdefault(session, []).append(asked)
        return asked

    def _route_in_session(self) -> None:
        prompt = self._serial.prompt(key := (5, None))
        session, route = f"session-{self._seed}-{self._rng.randrange(2)}", None
        try:
            route = self._engine.route(None, prompt.turns[0].text, session=session)
        except InjectedFault:
            self._tally.counts["failed: a fault"] += 1
        self._tally.counts["requests"] += 1
        self._order.setdefault(session, []).append((key, route))

    def _change_guest(self) -> None:
        try:
            if self._version:
                self._engine.remove_adapter(self._guest)
                self._version = ""
                self._tally.counts["removed"] += 1
            else:
                version = self._rng.choice(list(self._serial.guests))
                for asked in self._flying:
                    if asked.guest:
                        asked.names.add(version)
                self._engine.add_adapter(self._guest, self._serial.guests[version])
                self._version = version
                self._tally.counts["added"] += 1
        except ConfigError as error:
            if "answering requests" not in str(error):
                self._tally.wrong.append(str(error))
        except InjectedFault:
            self._tally.counts["failed: a fault"] += 1
        except ArtefactError as error:  # PEFT's own errors are put into words
            if "injected" not in str(error):
                self._tally.wrong.append(str(error))
            self._tally.counts["failed: a fault"] += 1
        if (self._guest in self._engine.adapters) is not bool(self._version):
            self._tally.wrong.append(f"{self._guest} is half there")

    def _finish(self, asked: Asked) -> None:
        counts = self._tally.counts
        try:
            answer = asked.stream.result(PATIENCE)
        except TimeoutError:
            self._tally.hung += 1
        except InjectedFault:
            counts["failed: a fault"] += 1
        except LabelError as error:
            counts["refused: its adapter was removed"] += 1
            if asked.guest is None:
                self._tally.wrong.append(f"{asked.key}: {error}")
        except EngineClosedError:
            counts["refused: the engine had died"] += 1
        except Exception as error:
            self._tally.wrong.append(f"{asked.key}: {type(error).__name__}: {error}")
        else:
            counts[f"answered: {answer.finish_reason}"] += 1
            self._check(asked, answer)

    def _check(self, asked: Asked, answer: Answer) -> None:
        said, names = answer.completion_tokens, asked.names
        if answer.finish_reason == "cancelled" and not said:
            if answer.text:
                self._tally.wrong.append(f"{asked.key}: cancelled with {answer.text!r}")
            return
        if answer.route is not None:
            names = {answer.route.adapter}
            if answer.adapter != answer.route.adapter:
                self._tally.wrong.append(f"{asked.key}: routed to another adapter")
            if asked.session is None and not self._is_label(asked.key, answer.route.label):
                self._tally.wrong.append(f"{asked.key}: routed to {answer.route.label}")
        serial = self._serial
        if not all(serial.tokens(asked.key, name)[1] for name in names):
            self._tally.counts["not compared: too close"] += 1
            return
        right = {serial.text(asked.key, name, said) for name in names}
        whole = answer.finish_reason != "length" or said == asked.length
        if answer.text not in right or not whole or "".join(asked.stream).strip() != answer.text:
            self._tally.wrong.append(f"{asked.key} by {names}: {answer.text!r}, not {right}")

    def _is_label(self, key: Key, label: int) -> bool:
        right, is_clear = self._serial.label(key)
        return not is_clear or label == right

    def _check_session(self, name: str, order: Sequence[Asked | tuple[Key, Route | None]]) -> None:
        """With a hysteresis of 1, a session keeps the first label that was decided in it."""
        may_hold = self._held.setdefault(name, {None})
        for each in order:
            key, route = each if isinstance(each, tuple) else (each.key, _decided(each.stream))
            right, is_clear = self._serial.label(key)
            alone = None if right < 0 else right
            if route is None:  # it failed before it was decided, or after
                if None in may_hold:
                    may_hold.add(alone)
                continue
            label = None if route.label < 0 else route.label
            if is_clear and label not in {alone if held is None else held for held in may_hold}:
                self._tally.wrong.append(f"{name}: {label}, though it may hold {may_hold}")
            if label is not None:
                may_hold.clear()
            may_hold.add(label)


def _decided(stream: Stream) -> Route | None:
    return stream._feed.route


def leaks(engine: Engine) -> Iterator[str]:
    """What an engine that has nothing to do still holds."""
    worker, backend = engine._worker, engine._backend
    if worker._waiting or worker._taken or worker._jobs or backend.at_work or worker._turns:
        yield "requests or jobs"
    if not isinstance(backend, Scheduler):
        return
    stack, forward, kept = backend.stack, backend.forward, backend._prefixes
    if backend._again or any(stack._users) or len(stack._free) + len(stack._row) != stack.rows:
        yield f"rows: users {stack._users}, {len(stack._free)} free of {stack.rows}"
    if forward.active.any():
        yield f"slots: {forward.active.tolist()}"
    if len(kept._empty) + len(kept._kept) != forward.slots.count - backend._slots:
        yield "places of kept conversations"
    if len(stack._labels) > len(ADAPTERS) + CALLERS or len(stack.where) != len(stack._labels):
        yield f"labels: {stack._labels}"
    if {table.shape[2] for table in forward.slots._tables()} != {forward.slots.length + SPARE}:
        yield "tables of different lengths"


CALLERS = 3


def run(
    engine: Engine,
    serial: Serial,
    requests: int,
    seed: int,
    rate: float,
    *,
    dies: bool = False,
) -> Tally:
    """Sends an engine random requests while its device fails at ``rate``; closes the engine.

    Args:
        dies: in the end the device breaks for good while requests wait and run.
    """
    tally, faults = Tally(), Faults(seed, rate)
    callers = [Caller(engine, serial, tally, CALLERS * seed + n) for n in range(CALLERS)]
    with faults.injected(engine):
        _together(callers, requests // CALLERS)
    tally.faults = faults.counts
    if engine._worker.thread.is_alive():
        engine.route_batch([PROMPTS[1]])  # a round that ends after all others
        tally.leaked = list(leaks(engine))
        _together(callers, 8)  # and without faults
    else:
        tally.wrong.append("the worker died")
    if dies:
        for caller in callers:
            for _ in range(6):
                caller._act()
        kill(engine)
        for caller in callers:
            caller.finish()
    engine.close()
    return tally


def _together(callers: Sequence[Caller], requests: int) -> None:
    with ThreadPoolExecutor(len(callers)) as pool:
        for done in [pool.submit(caller.run, requests) for caller in callers]:
            done.result()


@dataclass(frozen=True)
class World:
    """A tiny base with adapters of one plan, and PEFT's answers with them."""

    plan: str
    base: Path
    router: Path
    adapters: Mapping[str, str]
    serial: Serial

    @classmethod
    def make(cls, plan: str, folder: Path) -> Self:
        """Writes what is not there yet; worlds of other plans share the base and the router."""
        base, router = folder / "base", folder / "router"
        if not base.exists():
            make_base(base)
            generate_dataset(make_sources(folder / "sources"), folder / "data", val=0.25, test=0.25)
            data, recipe = read_dataset(folder / "data"), FeatureRecipe((2,))
            features = preprocess(data, load_base(str(base)), folder / "features", recipe)
            train_router(features, router, settings=TrainSettings(mlp_sizes=(0,)))
        return cls.of(plan, base, router, folder / plan)

    @classmethod
    def of(cls, plan: str, base: Path, router: Path, folder: Path) -> Self:
        """Writes the adapters of a plan, and two more that callers add.

        Plan ``peft`` is asked for: random DoRA would answer everything alike.
        """
        kind = "two-pass" if plan == "peft" else plan
        adapters = make_adapters_for(kind, load_base(str(base)), folder)
        guests = make_adapters_for(kind, load_base(str(base)), folder / "guests", seed=50)
        versions = dict(zip(("first", "second"), guests.values(), strict=False))
        return cls(plan, base, router, adapters, Serial(base, adapters, versions, router))

    def engine(self, device: str | None = None, **options: Any) -> Engine:
        """An engine in which a session never leaves the adapter that it holds."""
        return Engine(
            load_base(str(self.base), device=device, dtype="float32"),
            Router.load(self.router),
            self.adapters,
            options=EngineOptions(plan=self.plan, hysteresis=1.0, **options),
        )
