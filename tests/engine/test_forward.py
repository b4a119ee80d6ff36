"""A forward's compiled steps; what it computes is tested against PEFT in ``test_engine``."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from pointsman.adapters.peft import load_base_with_loras
from pointsman.adapters.weights import Lora
from pointsman.conversation import Prompt, make_prompt
from pointsman.engine.forward import Compiler, Forward, Routing, start_compilers
from pointsman.engine.lora_stack import LoraStack
from pointsman.models.encoding import TEXT_KEYS, Encoded
from pointsman.models.features import pool
from pointsman.models.vision import ImageCache
from pointsman.project import Project
from pointsman.routing.fit_scores import fit_scorer, rescaled
from pointsman.routing.router import Router
from support.engines import lora_of
from support.tiny import make_image

COUNTS = (3, 3, 2, 2, 1)
"""Requests at work in each step"""


@pytest.fixture
def run(tiny_project: Project, tmp_path: Path) -> Callable[[Compiler | None], Sequence[Tensor]]:
    prompts = [make_prompt(make_image(tmp_path / f"{i}.png", i), f"Pick {i}") for i in range(3)]
    return lambda compiler: logits_of(tiny_project, prompts, compiler)


Pair = tuple[Tensor, Tensor]
"""Tokens and logits of a step"""


def make_forward(
    project: Project,
    compiler: Compiler | None,
    slots: int = 4,
    resident: int | None = None,
    kept: int = 0,
) -> Forward:
    base = load_base_with_loras(project.base, project.adapters)
    loras = [lora_of(base.model, name) for name in project.labels]
    base = replace(base, model=base.model.unload())
    stack = LoraStack(base, [x for x in loras if isinstance(x, Lora)], resident=resident)
    return Forward(base, stack, slots, compiler, kept)


def logits_of(
    project: Project, prompts: Sequence[Prompt], compiler: Compiler | None
) -> list[Tensor]:
    forward = make_forward(project, compiler)
    base, encoded = forward.base, forward.base.encode(prompts)
    rows = torch.tensor([0, 1, forward.stack.zero])
    features = base.image_features(encoded)
    found = [forward.prefill(encoded, features, [0, 1, 2], rows)]
    for step, count in enumerate(COUNTS):
        with torch.inference_mode():
            forward.begin(range(len(found[-1])), found[-1].argmax(-1))
        found.append(forward.step(count, encoded["input_ids"].shape[1] + step).logits)
    return found


def test_one_compiled_layer_serves_all_layers_and_batches(
    run: Callable[[Compiler | None], Sequence[Tensor]],
) -> None:
    """Traced whole, with nothing left to Python; once, and once more for batches of any size."""
    counter = CompileCounterWithBackend("eager")
    compiled = run(compiler_of(counter))
    # Prompts are one case. A single request is another, and so is the first block of the tower.
    assert counter.frame_count <= 1 + 3 + 2
    for mine, theirs in zip(compiled, run(None), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)


def test_sizes_of_another_engine_are_no_sizes_that_change(
    tiny_project: Project, tmp_path: Path
) -> None:
    """Slots and rows stay numbers in the code, though the first engine had others."""
    prompts = [make_prompt(make_image(tmp_path / "0.png", 0), "Pick 0")] * 2
    changing: list[tuple[int, ...]] = []

    def backend(graph: Any, inputs: Sequence[Any]) -> Any:
        examples = [n.meta["example_value"] for n in graph.graph.nodes if n.op == "placeholder"]
        shapes = [e.shape for e in examples if isinstance(e, Tensor)]
        changing[-1] += (sum(isinstance(size, torch.SymInt) for s in shapes for size in s),)
        return graph.forward

    torch._dynamo.reset()
    for slots, resident, kept in ((5, 2, 2), (3, 3, 1)):
        changing.append(())
        compiler = partial(torch.compile, backend=backend, fullgraph=True)
        read(make_forward(tiny_project, compiler, slots, resident, kept), prompts, (0, 1))
    first, second = changing
    assert second == first[-2:], "prompts and steps; the tower is the same"


def test_this_pytorch_has_what_the_engine_sets_on_cuda() -> None:
    """None of it is public, so another version may name it otherwise."""
    start_compilers()
    assert callable(torch._inductor.async_compile.maybe_warm_pool)
    assert hasattr(torch._inductor.config.triton, "enable_pdl")


def compiler_of(counter: CompileCounterWithBackend) -> Compiler:
    return lambda layer, **options: torch.compile(layer, backend=counter, fullgraph=True, **options)


def read(forward: Forward, prompts: Sequence[Prompt], rows: Sequence[int] | None) -> list[Tensor]:
    """Logits of a prefill, as rows say or routed to them, and of two steps after it."""
    encoded = forward.base.encode(prompts)
    features = forward.base.image_features(encoded)
    count, known = len(prompts), None if rows is None else torch.tensor(rows)

    def decide(reads: Sequence[Tensor], batch: Encoded) -> Tensor:
        assert [states.shape[:2] for states in reads] == [batch["input_ids"].shape] * 2
        return torch.arange(count)

    routing = Routing((1, 2), decide, again=True) if known is None else None
    found = [forward.prefill(encoded, features, range(count), known, routing)]
    longest = encoded["input_ids"].shape[1]
    for step in range(2):
        with torch.inference_mode():
            forward.begin(range(count), found[-1].argmax(-1))
        found.append(forward.step(count, longest + step).logits)
    for slot in range(count):
        forward.release(slot)
    return found


@pytest.mark.parametrize("rows", [None, (0, 1, 3)])
def test_compiled_prefills_are_padded_and_give_the_same(
    tiny_project: Project, tmp_path: Path, rows: Sequence[int] | None
) -> None:
    prompts = [
        make_prompt(make_image(tmp_path / f"{i}.png", i), "Pick " + "9 " * i) for i in range(3)
    ]
    stock = make_forward(tiny_project, None)
    counter = CompileCounterWithBackend("eager")
    ours = make_forward(tiny_project, compiler_of(counter))
    for count in (3, 2):
        chosen = rows and rows[:count]
        theirs = read(stock, prompts[:count], chosen)
        read(ours, prompts[:count], chosen)
        made = counter.frame_count
        mine = read(ours, prompts[:count], chosen)
        assert counter.frame_count == made  # the second time, nothing is compiled
        for one, other in zip(mine, theirs, strict=True):
            assert torch.allclose(one, other, atol=1e-4)


def test_slots_that_grow_and_prompts_of_any_length_compile_nothing_more(
    tiny_project: Project, tmp_path: Path
) -> None:
    prompt = make_prompt(make_image(tmp_path / "0.png", 0), "Pick 1")
    counter = CompileCounterWithBackend("eager")
    forward = make_forward(tiny_project, compiler_of(counter))

    def prefill(prompts: Sequence[Prompt]) -> Tensor:
        encoded = forward.base.encode(prompts)
        features = forward.base.image_features(encoded)
        rows = torch.arange(len(prompts))
        return forward.prefill(encoded, features, range(len(prompts)), rows)

    before = prefill([prompt, prompt])
    prefill([prompt])
    prefill([prompt] * 3)
    made = counter.frame_count
    for words in (1, 60, 300):
        text = make_prompt(None, "Go " * words)
        prefill([text])
        prefill([text, prompt, text])
    with torch.inference_mode():  # as in an engine
        forward.slots.reserve(3000)
    assert torch.equal(prefill([prompt, prompt]), before)
    assert counter.frame_count == made


def every_part(router: Router) -> Router:
    """A router with whatever may have to run on the device."""
    x, labels = torch.randn(30, router.head.hidden_size), torch.arange(30) % 3
    outside = (torch.randn(1, router.head[-1].in_features), torch.zeros(1))  # type: ignore[arg-type]
    scorer = rescaled(fit_scorer(1.0, (x, labels)), router.head, (x, labels))
    scorer = scorer.with_veto(outside, 0.0, 1.0)
    calibration = replace(router.calibration, log_prior=(0.1, 0.2, -0.3))
    return replace(router, scorer=scorer, calibration=calibration)


def test_nothing_of_a_routed_prefill_is_read_back(tiny_project: Project, tmp_path: Path) -> None:
    """On the device ``meta`` nothing can be read: whatever would wait for a device raises."""
    base = load_base_with_loras(tiny_project.base, tiny_project.adapters)
    loras = [lora_of(base.model, name) for name in tiny_project.labels]
    prompts = [make_prompt(make_image(tmp_path / f"{i}.png", i), "Pick" * i) for i in range(3)]
    encoded = base.encode(prompts)
    base = replace(base, model=base.model.unload().to("meta"), images=ImageCache())
    there = {k: encoded[k].to(base.device) for k in (*TEXT_KEYS, "pixels")}
    moved = cast(Encoded, {**encoded, **there})
    stack = LoraStack(base, [lora for lora in loras if isinstance(lora, Lora)])
    forward = Forward(base, stack, 4)

    router = every_part(Router.load(Path(str(tiny_project.router)))).to(base.device)

    def decide(reads: Sequence[Tensor], batch: Encoded) -> Tensor:
        features = torch.stack([pool(states, batch, "last") for states in reads], 1)
        labels = router.labels_of(router.read(features))
        return stack.rows_of(router.answering(labels, "calendar"))

    routing = Routing(router.recipe.layers, decide, again=False)
    features = base.image_features(moved)
    logits = forward.prefill(moved, features, [0, 1, 2], None, routing)
    assert logits.device.type == "meta"
    assert logits.shape[0] == 3


def test_steps_are_captured_anew_when_an_adapter_changes_other_layers(
    tiny_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CUDA graph, for which a double stands here, knows only the tables that there were."""
    captured: list[Pair] = []

    def capture(step: Callable[[], Pair], moving: Sequence[Tensor]) -> Callable[[], Pair]:
        captured.append(step())
        return lambda: captured[-1]

    monkeypatch.setattr("pointsman.engine.forward.Graph", capture)
    base = load_base_with_loras(tiny_project.base, tiny_project.adapters)
    found = [lora_of(base.model, name) for name in tiny_project.labels]
    low, high = (lora for lora in found[:2] if isinstance(lora, Lora))
    high = replace(high, weights={k: v for k, v in high.weights.items() if k[0] > 1})
    assert low.lowest_layer < high.lowest_layer
    base = replace(base, model=base.model.unload())
    stack = LoraStack(base, [high], resident=2, max_rank=low.rank)
    forward = Forward(base, stack, 2)
    monkeypatch.setattr(forward, "_is_cuda", True)
    for _ in range(2):
        forward.step(1, 5)
    assert len(captured) == 1
    stack.add(low)
    forward.step(1, 5)
    assert len(captured) == 2
