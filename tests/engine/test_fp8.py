"""Engines on a base with FP8 weights: routed, mixed, in steps, as each request alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from pointsman.adapters.activated import invocation_tokens
from pointsman.adapters.layout import Layout, key_of
from pointsman.adapters.load import fit_adapter, open_adapter
from pointsman.adapters.peft import load_base_with_loras
from pointsman.adapters.train import train_adapter
from pointsman.adapters.weights import Lora
from pointsman.conversation import Prompt
from pointsman.data.dataset import Dataset
from pointsman.engine.engine import Engine
from pointsman.engine.forward import Forward
from pointsman.engine.lora_stack import FusedProjections, LoraStack, RowSelection
from pointsman.engine.options import EngineOptions
from pointsman.errors import ConfigError, MismatchError
from pointsman.models.base import Base, load_base
from pointsman.models.features import FeatureRecipe, extract
from pointsman.models.fp8 import Fp8Linear, quantised
from pointsman.routing.feature_store import preprocess
from pointsman.routing.router import Router
from pointsman.routing.train import TrainSettings, train_router
from pointsman.sample import load_prompt
from support.engines import MIXED, UPPER, batch_of, make_adapters, same_route
from support.tiny import ADAPTERS, make_adapter, make_base

NEW = 6
MILD = {"lora_alpha": 4}
KINDS = {"two-pass": MILD, "in-pass": MILD | {"layers_to_transform": UPPER}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("wide"), is_wide=True)


@pytest.fixture(scope="module")
def base(folder: Path) -> Base:
    """Left as it is: engines replace the projections of bases of their own."""
    return load_base(str(folder), dtype="fp8")


@pytest.fixture(scope="module")
def adapters(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Mapping[str, str]]:
    """By the plan that they allow."""
    return {
        plan: make_adapters(folder, tmp_path_factory.mktemp(plan), *[options] * len(ADAPTERS))
        for plan, options in KINDS.items()
    }


@pytest.fixture(scope="module")
def router(base: Base, tiny_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("router")
    features = preprocess(tiny_data, base, out / "features", FeatureRecipe((2,)))
    train_router(features, out / "router", settings=TrainSettings(mlp_sizes=(0,)))
    return out / "router"


def make(folder: Path, adapters: Mapping[str, str], router: Path, **options: Any) -> Engine:
    base = load_base(str(folder), dtype="fp8")
    return Engine(base, Router.load(router), adapters, options=EngineOptions(**options))


def loras_of(base: Base, adapters: Mapping[str, str]) -> dict[str, Lora]:
    layout, found = Layout.of(base.model), {}
    for name, path in adapters.items():
        lora = fit_adapter(name, open_adapter(name, path), base, layout).lora
        assert isinstance(lora, Lora)
        found[name] = lora
    return found


@contextmanager
def by_hand(base: Base, lora: Lora | None) -> Iterator[None]:
    """Inside the block a LoRA is added to what the base's own layers compute."""

    def added(pair: tuple[Tensor, Tensor], _: Any, args: tuple[Tensor], output: Tensor) -> Tensor:
        return output + args[0] @ pair[0].mT @ pair[1].mT

    hooks = [
        module.register_forward_hook(partial(added, lora.weights[key]))
        for path, module in base.model.named_modules()
        if lora is not None and (key := key_of(path)) in lora.weights
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def said(base: Base, prompt: Prompt, lora: Lora | None) -> str:
    """What transformers alone says."""
    encoded = base.encode([prompt])
    inputs = base.stock_inputs(encoded)
    del inputs["position_ids"]
    with torch.inference_mode(), by_hand(base, lora):
        tokens = base.model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
    return base.decode(tokens[0, encoded["input_ids"].shape[1] :]).strip()


@pytest.mark.parametrize("plan", KINDS)
def test_answers_are_those_of_each_request_alone_and_of_adapters_added_by_hand(
    plan: str,
    folder: Path,
    base: Base,
    adapters: Mapping[str, Mapping[str, str]],
    router: Path,
) -> None:
    loras: dict[str, Lora | None] = {**loras_of(base, adapters[plan]), "base": None}
    names = [[*loras][index % len(loras)] for index in range(len(MIXED))]
    with make(folder, adapters[plan], router) as engine:
        assert engine.plan.name == plan
        assert (engine.base.precision, engine.base.dtype) == ("fp8", torch.float32)
        named = engine.generate_batch(MIXED, adapter=names, max_new_tokens=NEW)
        routed = engine.generate_batch(MIXED, max_new_tokens=NEW)
        for prompt, name, mixed in zip(MIXED, names, named, strict=True):
            [alone] = engine.generate_batch([prompt], adapter=name, max_new_tokens=NEW)
            assert mixed.text == alone.text == said(base, prompt, loras[name])
        for prompt, mixed in zip(MIXED, routed, strict=True):
            [alone] = engine.generate_batch([prompt], max_new_tokens=NEW)
            assert same_route(mixed.route, alone.route)
            assert mixed.text == alone.text
            assert mixed.text == said(base, prompt, loras[mixed.adapter or "base"])
    assert len({answer.text for answer in named}) > 3  # adapters do change answers


def test_activated_adapters_read_the_end_again(
    folder: Path, base: Base, router: Path, tmp_path: Path
) -> None:
    called = MILD | {"alora_invocation_tokens": invocation_tokens(base)}
    adapters = make_adapters(folder, tmp_path, *[called] * len(ADAPTERS))
    names = [*ADAPTERS, *ADAPTERS]
    with make(folder, adapters, router) as engine:
        assert engine.plan.name == "activated"
        mixed = engine.generate_batch(MIXED, adapter=names, max_new_tokens=NEW)
        for prompt, name, answer in zip(MIXED, names, mixed, strict=True):
            [alone] = engine.generate_batch([prompt], adapter=name, max_new_tokens=NEW)
            assert answer.text == alone.text
        assert mixed[0].text != said(base, MIXED[0], None)


def test_routes_are_those_of_the_features_that_the_router_was_trained_on(
    folder: Path,
    base: Base,
    adapters: Mapping[str, Mapping[str, str]],
    router: Path,
    tiny_data: Dataset,
) -> None:
    alone = Router.load(router)
    prompts = [load_prompt(sample) for sample in tiny_data.splits["test"]]
    with make(folder, adapters["in-pass"], router) as engine:
        for prompt, route in zip(prompts, engine.route_batch(prompts), strict=True):
            with torch.inference_mode():
                features = extract(base, base.encode([prompt]), alone.recipe)
            assert same_route(route, alone.routes(features)[0])


def test_features_of_two_precisions_are_never_mixed(
    folder: Path, base: Base, tiny_data: Dataset, tmp_path: Path
) -> None:
    plain, recipe = load_base(str(folder)), FeatureRecipe((2,))
    preprocess(tiny_data, plain, tmp_path / "features", recipe)
    with pytest.raises(MismatchError, match=r"another dtype \(float32, not fp8\)"):
        preprocess(tiny_data, base, tmp_path / "features", recipe)


def test_a_router_of_other_features_meets_the_probes(
    folder: Path, adapters: Mapping[str, Mapping[str, str]], router: Path
) -> None:
    """Random weights differ by more than the 5% that a router allows."""
    plain = load_base(str(folder))
    with pytest.raises(MismatchError, match=r"float32\) makes features that differ by"):
        Engine(plain, Router.load(router), adapters["two-pass"])


def test_joint_products_are_the_separate_ones() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 640, generator=generator)
    linears = []
    for rows in (256, 128, 384):
        values, scale = quantised(torch.randn(rows, 640, generator=generator) * rows)
        linears.append(Fp8Linear(values, scale, torch.randn(rows, generator=generator)))
    group = FusedProjections(linears, RowSelection(), torch.float32)
    for joint, linear in zip(group(x), linears, strict=True):
        torch.testing.assert_close(joint, linear(x), rtol=1e-5, atol=1e-2)
    group.stack(2, 4)
    assert group.table is not None
    assert (group.table.dtype, group.a.shape) == (torch.float32, (3, 12, 640))


def test_one_compiled_layer_serves_all_layers_and_batches(
    folder: Path, adapters: Mapping[str, Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced whole, with nothing left to Python, and no more cases than of other weights."""
    # Another library's last digit could round an activation to another FP8 number.
    monkeypatch.setattr("pointsman.models.cpu_kernels._PREFERS_ONEDNN", False)
    counter = CompileCounterWithBackend("eager")
    compiled = partial(torch.compile, backend=counter, fullgraph=True)
    mine, theirs = (states(folder, adapters["two-pass"], compiler) for compiler in (compiled, None))
    assert counter.frame_count <= 1 + 3 + 2
    for one, other in zip(mine, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-3)


def states(
    folder: Path, adapters: Mapping[str, str], compiler: Callable[..., Any] | None
) -> Sequence[Tensor]:
    """Logits of a prefill and of steps of fewer and fewer requests."""
    base = load_base(str(folder), dtype="fp8")
    loras = loras_of(base, adapters)
    forward = Forward(base, LoraStack(base, [*loras.values()]), 4, compiler)
    encoded = base.encode(MIXED[:3])
    rows = torch.tensor([0, 1, forward.stack.zero])
    found = [forward.prefill(encoded, base.image_features(encoded), [0, 1, 2], rows)]
    for step, count in enumerate((3, 3, 2, 1)):
        with torch.inference_mode():
            forward.begin(range(len(found[-1])), found[-1].argmax(-1))
        found.append(forward.step(count, encoded["input_ids"].shape[1] + step).logits)
    return found


def test_adapters_come_and_go(
    folder: Path, adapters: Mapping[str, Mapping[str, str]], router: Path
) -> None:
    """A row that was moved to the host and back is the same."""
    names = [*ADAPTERS, *ADAPTERS]
    answers = []
    for resident in (None, 1):
        with make(folder, adapters["two-pass"], router, resident=resident) as engine:
            answers.append(
                [engine.generate_batch([MIXED[0]], adapter=n, max_new_tokens=4) for n in names]
            )
            assert batch_of(engine).stack.widest.dtype == torch.float8_e4m3fn
    assert answers[0] == answers[1]


def test_what_peft_would_have_to_run_is_refused(
    folder: Path,
    base: Base,
    adapters: Mapping[str, Mapping[str, str]],
    router: Path,
    tiny_data: Dataset,
    tmp_path: Path,
) -> None:
    one_line = r"^[^\n]*: PEFT cannot run adapters on FP8 weights; give dtype bfloat16 [^\n]*$"
    with pytest.raises(ConfigError, match=one_line):
        make(folder, adapters["two-pass"], router, plan="peft")
    dora = make_adapter(folder, tmp_path / "dora", 1, use_dora=True)
    with pytest.raises(ConfigError, match=one_line):
        make(folder, {**adapters["two-pass"], "calendar": str(dora)}, router)
    with pytest.raises(ConfigError, match=one_line):
        load_base_with_loras(str(folder), adapters["two-pass"], dtype="fp8")
    with pytest.raises(ConfigError, match="FP8 weights are not trained on; give dtype bfloat16"):
        train_adapter("calendar", tiny_data.splits["train"], base, tmp_path / "out")
    assert not any(
        isinstance(module, nn.Module) and hasattr(module, "lora_A")
        for module in base.model.modules()
    )
    assert not (tmp_path / "out").exists()
