"""One request's fault stays its own: memory, values that are not finite, adapters come and gone."""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pointsman.adapters.peft import load_base_with_loras
from pointsman.engine.engine import Engine
from pointsman.engine.forward import Forward
from pointsman.engine.kv_cache import GRAIN, SPARE
from pointsman.engine.peft_backend import PeftBackend, route_and_generate
from pointsman.errors import ArtefactError
from pointsman.models.base import Base
from pointsman.routing.router import Router
from support.engines import MIXED, ask, batch_of, go_on, make_adapters_for, make_engine, peft_text
from support.faults import FailingOperation, InjectedFault
from support.stress import leaks
from support.tiny import ADAPTERS, make_adapter

MakeEngine = Callable[..., Engine]
LONG = ask("word " * 90, 7)
"""More tokens than the slots' first room"""


def said(engine: Engine, prompt: Any = MIXED[0], adapter: str = "calendar", new: int = 8) -> str:
    return engine.submit(prompt, adapter=adapter, max_new_tokens=new).result(30).text


class Failing:
    """A weight whose allocation number ``at`` fails."""

    def __init__(self, weight: Tensor, at: int) -> None:
        self._weight, self._left = weight, at

    def new_zeros(self, shape: Sequence[int]) -> Tensor:
        self._left -= 1
        if self._left == 0:
            raise InjectedFault("no memory")
        return self._weight.new_zeros(shape)


@pytest.mark.parametrize("at", [1, 4, 8])
def test_slots_that_cannot_grow_stay_as_they_are(
    make: MakeEngine, reference: Base, at: int
) -> None:
    with make(slots=2, kept=1) as engine:
        slots = batch_of(engine).forward.slots
        with patch.object(slots, "_weight", Failing(slots._weight, at)):
            with pytest.raises(InjectedFault):
                said(engine, LONG)
            assert slots.length == GRAIN
            assert {table.shape[2] for table in slots._tables()} == {GRAIN + SPARE}
            assert said(engine) == peft_text(reference, MIXED[0], "calendar", 8)
        assert said(engine, LONG) == peft_text(reference, LONG, "calendar", 8)
        assert slots.length > GRAIN
        assert not list(leaks(engine))


def test_only_the_request_that_needs_room_fails(make: MakeEngine, reference: Base) -> None:
    almost = ask("x" * 170, 7)  # outgrows the room while it is answered
    with make(slots=2, kept=0) as engine:
        slots = batch_of(engine).forward.slots
        with patch.object(slots, "_weight", Failing(slots._weight, 1)):
            grows = engine.submit(almost, adapter="claim-window", max_new_tokens=150)
            beside = engine.submit(MIXED[1], adapter="calendar", max_new_tokens=150)
            with pytest.raises(InjectedFault):
                grows.result(30)
        assert beside.result(30).text == peft_text(reference, MIXED[1], "calendar", 150)


class Recorded:
    """Stands for a CUDA graph: it holds the tensors that were there when it was captured."""

    def __init__(self, step: Callable[[], tuple[Tensor, Tensor]], forward: Forward) -> None:
        self._step, self._forward = step, forward
        self._tables, self._rows = list(forward.slots._tables()), forward.stack.batch.rows

    def __call__(self) -> tuple[Tensor, Tensor]:
        now = self._forward.slots._tables()
        assert all(mine is table for mine, table in zip(self._tables, now, strict=True))
        self._forward.stack.batch.choose(self._rows, is_step=True)
        found = self._step()
        self._forward.forget_steps()
        return found


@pytest.fixture
def padded(make: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Engine]]:
    """Engines whose steps are padded to powers of two and recorded, as on CUDA."""
    engines: list[Engine] = []

    def made(**options: Any) -> Engine:
        engine = make(**options)
        engines.append(engine)
        forward = batch_of(engine).forward
        monkeypatch.setattr(
            "pointsman.engine.forward.Graph",
            lambda step, moving: Recorded(step, forward),
        )
        monkeypatch.setattr(forward, "_is_cuda", True)
        batch_of(engine).asks_ahead = True
        return engine

    yield made
    for engine in engines:
        engine.close()


@pytest.mark.parametrize("slots", [3, 5, 8])
def test_padded_steps_leave_kept_conversations_alone(
    padded: MakeEngine, reference: Base, slots: int
) -> None:
    engine = padded(slots=slots, kept=2)
    first, cache = said(engine), batch_of(engine).forward.slots
    with patch.object(batch_of(engine)._prefixes, "put", lambda *_: None):  # keeps the first one
        before = [table[slots:].clone() for table in cache._tables()]
        streams = [
            engine.submit(ask(f"Fill {n}", n + 10), adapter="calendar", max_new_tokens=6)
            for n in range(slots)
        ]
        for stream in streams:
            stream.result(30)
        for table, was in zip(cache._tables(), before, strict=True):
            assert torch.equal(table[slots:], was)
        turn = go_on(MIXED[0], first, "And then?")
        assert said(engine, turn) == peft_text(reference, turn, "calendar", 8)


def test_graphs_of_replaced_tables_are_dropped(padded: MakeEngine, reference: Base) -> None:
    engine = padded(slots=3, kept=0)
    slots = batch_of(engine).forward.slots
    expected = said(engine)
    with (
        patch.object(slots, "_weight", Failing(slots._weight, 6)),
        pytest.raises(InjectedFault),
    ):
        said(engine, LONG)
    assert said(engine) == expected
    assert said(engine, LONG) == peft_text(reference, LONG, "calendar", 8)
    assert said(engine) == expected


def diverged(path: str, folder: Path, factor: float = 1e22) -> str:
    """A copy of an adapter with weights that are finite, and answers that are not."""
    shutil.copytree(path, folder)
    file = folder / "adapter_model.safetensors"
    weights = {k: v * factor if "v_proj" in k else v for k, v in load_file(file).items()}
    assert all(bool(value.isfinite().all()) for value in weights.values())
    save_file(weights, file, {"format": "pt"})
    return str(folder)


@pytest.fixture
def unprobed() -> Iterator[None]:
    """Diverged adapters are loaded: others may diverge for prompts unlike the synthetic one."""
    with (
        patch("pointsman.engine.loading.check_finite"),
        patch("pointsman.engine.peft_backend.check_answer"),
        patch("pointsman.adapters.peft.check_answer"),
    ):
        yield


@pytest.mark.usefixtures("unprobed")
@pytest.mark.parametrize("plan", ["in-pass", "two-pass", "activated", "peft"])
def test_an_answer_that_is_not_finite_is_an_error_of_its_own(
    tiny_base_folder: Path, tiny_base: Base, router_folder: Path, tmp_path: Path, plan: str
) -> None:
    adapters = make_adapters_for(plan, tiny_base, tmp_path)
    reference = load_base_with_loras(str(tiny_base_folder), adapters)
    adapters["provider-select"] = diverged(adapters["provider-select"], tmp_path / "diverged")
    right = peft_text(reference, MIXED[0], "calendar", 8)
    with make_engine(tiny_base_folder, adapters, router_folder, slots=2, kept=0) as engine:
        assert engine.plan.name == plan
        for _ in range(2):
            bad = engine.submit(ask("word " * 30, 3), adapter="provider-select", max_new_tokens=4)
            beside = engine.submit(MIXED[0], adapter="calendar", max_new_tokens=8)
            with pytest.raises(ArtefactError, match="'provider-select': its logits are not finite"):
                bad.result(30)
            assert beside.result(30).text == right
            assert [said(engine) for _ in range(3)] == [right] * 3, "in the slot that it had"


def test_what_a_slot_holds_never_reaches_its_next_request(
    make: MakeEngine, reference: Base
) -> None:
    with make(slots=1, kept=0) as engine:
        for bad in (float("nan"), float("inf"), -float("inf")):
            for table in batch_of(engine).forward.slots._tables():
                with torch.inference_mode():
                    table.fill_(bad)
            assert said(engine) == peft_text(reference, MIXED[0], "calendar", 8)


@pytest.mark.usefixtures("unprobed")
def test_route_and_generate_refuses_too(
    tiny_base_folder: Path, tiny_adapters: dict[str, str], tiny_router: Path, tmp_path: Path
) -> None:
    bad = diverged(tiny_adapters["calendar"], tmp_path / "bad")
    base = load_base_with_loras(str(tiny_base_folder), tiny_adapters | {"calendar": bad})
    with pytest.raises(ArtefactError, match="'calendar': its logits are not finite"):
        route_and_generate(base, Router.load(tiny_router), MIXED[0], adapters="calendar")


def test_a_conversation_that_was_half_copied_is_not_kept(make: MakeEngine, reference: Base) -> None:
    with make(slots=1, kept=1) as engine:
        right, slots = said(engine), batch_of(engine).forward.slots
        said(engine, MIXED[1])

        def half(source: int, target: int, length: int) -> None:
            for table in list(slots._tables())[:3]:
                table[target, :, :length] = table[source, :, :length]
            raise InjectedFault("no memory")

        with patch.object(slots, "move", half), pytest.raises(InjectedFault):
            said(engine)
        turn = go_on(MIXED[0], right, "And then?")
        assert said(engine, turn) == peft_text(reference, turn, "calendar", 8)
        assert not list(leaks(engine))


def test_adapters_come_and_go_a_thousand_times(make: MakeEngine) -> None:
    with make(slots=1, resident=2) as engine:
        stack = batch_of(engine).stack
        lora = stack._hosted["provider-select"]
        stack.remove("provider-select")
        size = len(stack.where), len(stack._labels), len(stack._invocations), len(stack._free)
        for _ in range(1000):
            stack.add(lora)
            stack.remove(lora.name)
        assert size[1] == len(ADAPTERS)
        assert size == (
            len(stack.where),
            len(stack._labels),
            len(stack._invocations),
            len(stack._free),
        )


def test_an_adapter_that_fails_on_its_way_is_whole_or_absent(
    make: MakeEngine, reference: Base
) -> None:
    """To the device and back to the host, at any operation: it is answered right the next time."""
    right = {name: peft_text(reference, MIXED[0], name, 8) for name in ADAPTERS}

    def fail(_: str) -> None:
        raise InjectedFault("no memory")

    with make(slots=2, kept=0, resident=1) as engine:
        stack = batch_of(engine).stack

        def load(at: int) -> int:
            """Operations that it takes."""
            with FailingOperation(at, fail) as operations:
                row = stack.acquire("claim-window")
            assert row is not None
            stack.release(row)
            return at - operations._left

        count = engine._worker.own(lambda: load(10**6))
        assert count > 100
        for at in (1, *range(7, count + 1, count // 11), count):
            assert said(engine) == right["calendar"]  # it is the one on the device
            with pytest.raises(InjectedFault):
                engine._worker.own(partial(load, at))
            assert not list(leaks(engine))
            assert {name: said(engine, adapter=name) for name in ADAPTERS} == right


@pytest.fixture(scope="module")
def by_peft(
    tiny_base_folder: Path,
    tiny_base: Base,
    router_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Engine]:
    adapters = make_adapters_for("peft", tiny_base, tmp_path_factory.mktemp("peft"))
    with make_engine(tiny_base_folder, adapters, router_folder, slots=4) as engine:
        assert isinstance(engine._backend, PeftBackend)
        yield engine


def test_plan_peft_answers_no_more_than_its_slots_at_once(by_peft: Engine) -> None:
    model, sizes = by_peft.base.model, []
    generate, gate = model.generate, threading.Event()

    def counted(**inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        return generate(**inputs)

    holder = threading.Thread(target=lambda: by_peft._worker.own(gate.wait))
    holder.start()
    with patch.object(model, "generate", counted):
        streams = [
            by_peft.submit(ask("Hello"), adapter=ADAPTERS[n % 2], max_new_tokens=1 + n % 3)
            for n in range(20)
        ]
        gate.set()
        lengths = [stream.result(60).completion_tokens for stream in streams]
    holder.join()
    assert lengths == [1 + n % 3 for n in range(20)]
    assert sum(sizes) == 20
    assert max(sizes) <= 4


def test_plan_peft_cancels_while_it_generates(by_peft: Engine) -> None:
    long, beside = (
        by_peft.submit(MIXED[0], adapter="calendar", max_new_tokens=most) for most in (1500, 12)
    )
    waiting = by_peft.submit(MIXED[1], adapter="claim-window", max_new_tokens=1500)
    while not by_peft._backend.at_work:
        threading.Event().wait(0.01)
    waiting.cancel()
    long.cancel()
    cut = long.result(20)
    assert (waiting.result(20).text, waiting.result().finish_reason) == ("", "cancelled")
    assert (cut.finish_reason, cut.completion_tokens < 1500) == ("cancelled", True)
    assert beside.result(30).completion_tokens == 12


@pytest.mark.parametrize("plan", ["two-pass", "peft"])
def test_an_adapter_that_comes_back_is_the_new_version(
    tiny_base_folder: Path, tiny_base: Base, router_folder: Path, tmp_path: Path, plan: str
) -> None:
    paths = [str(make_adapter(tiny_base_folder, tmp_path / f"{n}", 60 + n)) for n in (0, 1)]
    reference = load_base_with_loras(str(tiny_base_folder), dict(zip("ab", paths, strict=True)))
    right = [[peft_text(reference, prompt, name, 12) for prompt in MIXED[:3]] for name in "ab"]
    assert right[0] != right[1]
    adapters = make_adapters_for("two-pass", tiny_base, tmp_path / "own")
    with make_engine(tiny_base_folder, adapters, router_folder, plan=plan) as engine:
        for version in (0, 1, 0):
            engine.add_adapter("guest", paths[version])
            found = [said(engine, prompt, "guest", 12) for prompt in MIXED[:3]]
            assert found == right[version]
            engine.remove_adapter("guest")
        assert "guest" not in engine.base.adapters
