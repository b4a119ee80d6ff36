from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from pointsman.adapters.layout import Layout
from pointsman.adapters.load import open_adapter
from pointsman.adapters.peft import load_base_with_loras
from pointsman.adapters.weights import Lora
from pointsman.conversation import Prompt
from pointsman.engine.engine import Engine
from pointsman.engine.forward import Forward, Routing
from pointsman.engine.loading import fitted
from pointsman.engine.lora_stack import LoraStack
from pointsman.engine.options import EngineOptions
from pointsman.engine.plan import choose_plan, free_depth
from pointsman.errors import AbstainedError, ConfigError, LabelError, SampleError
from pointsman.models.base import Base, load_base
from pointsman.models.encoding import Encoded
from pointsman.models.features import FeatureRecipe, extract, pool
from pointsman.routing.router import Router
from support.engines import (
    MIXED,
    UPPER,
    admitted_together,
    ask,
    batch_of,
    counted,
    lora_of,
    make_adapters,
    make_adapters_for,
    make_engine,
    make_router,
    peft_text,
    same_route,
)
from support.tiny import ADAPTERS

LAYER = 2
PLANS = ("in-pass", "two-pass", "activated", "peft", "mixed kinds")


def lora(name: str, layer: int, *invocation: int) -> Lora:
    return Lora(name, {(layer, "q_proj"): (torch.ones(1, 2), torch.ones(2, 1))}, invocation)


HIGH, LOW = lora("high", 2), lora("low", 1)
CALLED, CALLED_OTHERWISE = lora("called", 0, 7, 8), lora("otherwise", 0, 9)


@pytest.mark.parametrize(
    ("loras", "plan", "why"),
    [
        ([HIGH, HIGH], "in-pass", "no adapter changes the 2 layers below"),
        ([HIGH, LOW], "two-pass", "an adapter changes layer 1, below the router's layer 2"),
        ([CALLED, CALLED], "activated", "every adapter is an activated LoRA"),
        ([CALLED, HIGH], "peft", "'called' is an activated LoRA and others are not"),
        ([CALLED, CALLED_OTHERWISE], "peft", "invoked by different tokens"),
        ([HIGH, "it has DoRA (use_dora)"], "peft", "cannot be stacked: it has DoRA"),
    ],
)
def test_the_best_plan_that_is_exact(loras: list[Lora | str], plan: str, why: str) -> None:
    chosen = choose_plan(loras, LAYER)
    assert chosen.name == plan
    assert why in chosen.why
    assert choose_plan(loras, LAYER, "peft").name == "peft"


@pytest.mark.parametrize("name", PLANS[:4])
def test_a_depth_is_free_where_the_plan_shares_its_layers(
    name: str, tiny_base: Base, tmp_path: Path
) -> None:
    adapters = make_adapters_for(name, tiny_base, tmp_path)
    files = {name: open_adapter(name, path) for name, path in adapters.items()}
    free = free_depth(files.values(), tiny_base.depth)
    assert free == {"in-pass": UPPER[0], "activated": tiny_base.depth}.get(name, 0)
    loras = [fit.lora for fit in fitted(files, tiny_base, Layout.of(tiny_base.model))]
    for layer in range(1, tiny_base.depth + 1):
        is_shared = choose_plan(loras, layer).name in ("in-pass", "activated")
        assert is_shared == (layer <= free)


def test_adapters_that_share_nothing(tiny_base: Base, tmp_path: Path) -> None:
    mixed = make_adapters(
        tiny_base.folder,
        tmp_path,
        {"layers_to_transform": [3]},
        {"layers_to_transform": [3], "alora_invocation_tokens": [1, 2]},
        {"target_modules": ["o_proj", "visual.merger.linear_fc1"]},
    )
    high, activated, tower = (open_adapter(*each) for each in mixed.items())
    assert free_depth([high], tiny_base.depth) == 3
    assert free_depth([high, activated], tiny_base.depth) == 0
    assert free_depth([high, tower], tiny_base.depth) == 0


def test_another_plan_if_it_is_exact_too() -> None:
    plan = choose_plan([HIGH], LAYER, "two-pass")
    assert plan.name == "two-pass"
    assert plan.why == "asked for; by itself it would be in-pass"
    refused = {
        "in-pass": ([LOW], r"'in-pass' does not suit .*changes layer 1.*; use two-pass"),
        "activated": ([HIGH], r"'activated' does not suit .*; use in-pass"),
        "two-pass": ([CALLED], r"'two-pass' does not suit .*; use activated"),
    }
    for wanted, (loras, message) in refused.items():
        with pytest.raises(ConfigError, match=message) as caught:
            choose_plan(loras, LAYER, wanted)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"'fastest' is none of in-pass, activated"):
        choose_plan([HIGH], LAYER, "fastest")


@pytest.fixture(scope="module")
def invocation(tiny_base: Base) -> list[int]:
    return list(tiny_base.tokenizer("<|im_start|>assistant\n")["input_ids"])


class Served(NamedTuple):
    engine: Engine
    reference: Base
    """The same adapters in PEFT's own hands"""
    adapters: dict[str, str]


AHEAD = " ahead"
"""After a plan: steps are asked for before the last one's tokens are read, as on CUDA"""


@pytest.fixture(scope="module", params=[*PLANS, f"in-pass{AHEAD}", f"activated{AHEAD}"])
def served(
    request: pytest.FixtureRequest,
    tiny_base_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    router_folder: Path,
    invocation: list[int],
) -> Iterator[Served]:
    """An engine of each plan."""
    plan = request.param.removesuffix(AHEAD)
    called = {"alora_invocation_tokens": invocation, "r": 3}
    upper = {"layers_to_transform": UPPER}
    options = {
        "in-pass": [upper, upper | {"r": 2, "use_rslora": True}, {"layers_to_transform": [3]}],
        "two-pass": [{}, upper, {"r": 7}],
        "activated": [called, called | {"target_modules": ["q_proj", "up_proj"]}, called],
        "peft": [{}, upper, {"use_dora": True}],
        "mixed kinds": [called, upper, {}],
    }[plan]
    folder = tmp_path_factory.mktemp("plan")
    adapters = make_adapters(tiny_base_folder, folder, *options)
    reference = load_base_with_loras(str(tiny_base_folder), adapters)
    with make_engine(tiny_base_folder, adapters, router_folder, slots=33) as engine:
        assert engine.plan.name == ("peft" if plan == "mixed kinds" else plan)
        if request.param.endswith(AHEAD):
            batch_of(engine).asks_ahead = True
        yield Served(engine, reference, adapters)


def test_any_mix_answers_as_peft_does(served: Served) -> None:
    """Every adapter and the base; one image, two, none; lengths that differ; routed as well."""
    engine, reference, _ = served
    pairs = [(p, name) for p in MIXED for name in (*ADAPTERS, None)]
    prompts, names = [p for p, _ in pairs], [name for _, name in pairs]
    named = engine.generate_batch(
        prompts, adapter=[name or "base" for name in names], max_new_tokens=5
    )
    expected = [peft_text(reference, prompt, name, 5) for prompt, name in pairs]
    assert [answer.text for answer in named] == expected
    assert len(set(expected)) > len(pairs) // 2, "they are too alike to tell"
    table = dict(zip([(id(p), name) for p, name in pairs], expected, strict=True))
    for prompt, answer in zip(MIXED, engine.generate_batch(MIXED, max_new_tokens=5), strict=True):
        assert answer.route is not None
        assert answer.adapter == answer.route.adapter
        assert answer.text == table[id(prompt), answer.adapter]


def test_the_route_is_the_stand_alone_routers(served: Served, tiny_base: Base) -> None:
    engine = served.engine
    routes = [answer.route for answer in engine.generate_batch(MIXED, max_new_tokens=1)]
    for prompt, found in zip(MIXED, routes, strict=True):
        with torch.inference_mode():
            features = extract(tiny_base, tiny_base.encode([prompt]), engine.router.recipe)
        [alone] = engine.router.routes(features[:, 0])
        assert same_route(found, alone)
    for found, alone in zip(engine.route_batch(MIXED), routes, strict=True):
        assert same_route(found, alone)


def test_rows_join_late_and_leave_early(served: Served) -> None:
    """33 requests of 1 to 33 tokens, half of them routed, most while others are at work."""
    engine, reference, _ = served
    names = (*ADAPTERS, None)
    first = engine.submit(MIXED[0], adapter="calendar", max_new_tokens=60)
    first.route(20)
    asked = [(MIXED[n % 5], names[n % 4], n % 2 == 0, 1 + (n * 7) % 33) for n in range(32)]
    streams = [
        engine.submit(prompt, adapter="auto" if routed else name or "base", max_new_tokens=new)
        for prompt, name, routed, new in asked
    ]
    longest: dict[tuple[int, str | None], str] = {}
    for (prompt, name, routed, new), stream in zip(asked, streams, strict=True):
        answer = stream.result(60)
        adapter = answer.adapter if routed else name
        assert answer.adapter == adapter
        key = id(prompt), adapter
        if key not in longest:
            longest[key] = peft_text(reference, prompt, adapter, 33)
        if new == 33:
            assert answer.text == longest[key]
        assert len(answer.text) <= len(longest[key]) + 1
        if "\ufffd" not in answer.text:
            assert longest[key].startswith(answer.text)
    assert first.result(60).text == peft_text(reference, MIXED[0], "calendar", 60)


@pytest.mark.parametrize("count", [1, 2, 33])
def test_any_number_of_rows(served: Served, count: int) -> None:
    engine, reference, _ = served
    names = (*ADAPTERS, None)
    asked = [(ask(f"Row {n}"[: 4 + n % 3], n % 3), names[n % 4]) for n in range(count)]
    answers = engine.generate_batch(
        [p for p, _ in asked], adapter=[name or "base" for _, name in asked], max_new_tokens=3
    )
    for (prompt, name), answer in list(zip(asked, answers, strict=True))[::4]:
        assert answer.text == peft_text(reference, prompt, name, 3)


def test_answers_outgrow_the_first_room(served: Served) -> None:
    """Past 256 tokens the slots are made anew, beside others at work."""
    engine, reference, _ = served
    if engine.plan.name == "peft":
        pytest.skip("it has no slots")
    short = engine.submit(MIXED[1], adapter="claim-window", max_new_tokens=300)
    long = engine.submit(MIXED[3], adapter="calendar", max_new_tokens=230)
    assert long.result(60).text == peft_text(reference, MIXED[3], "calendar", 230)
    assert short.result(60).text == peft_text(reference, MIXED[1], "claim-window", 300)


def test_an_end_token_ends_one_answer_only(
    tiny_base_folder: Path, router_folder: Path, tiny_adapters: dict[str, str]
) -> None:
    base = load_base(str(tiny_base_folder))
    reference = load_base_with_loras(str(tiny_base_folder), tiny_adapters)
    said = peft_text(reference, MIXED[0], "calendar", 12)
    end = reference.tokenizer(said[4])["input_ids"][0]
    for model in (base.model, reference.model.get_base_model()):
        model.generation_config.eos_token_id = [end, base.tokenizer.eos_token_id]
    names = [*ADAPTERS, None] * 2
    prompts = [*MIXED, *MIXED[:2]]
    with Engine(base, Router.load(router_folder), tiny_adapters) as engine:
        assert end in engine.base.ends
        answers = engine.generate_batch(
            prompts, adapter=[name or "base" for name in names], max_new_tokens=12
        )
    expected = [peft_text(reference, p, n, 12) for p, n in zip(prompts, names, strict=True)]
    assert [answer.text for answer in answers] == expected
    assert len(answers[0].text) < len(said)


def test_who_abstains_lets_the_base_answer(served: Served, router_folder: Path) -> None:
    router = Router.load(router_folder)
    careful = replace(router, calibration=replace(router.calibration, threshold=1e4))
    base = load_base(str(served.engine.base.folder))
    with Engine(base, careful, served.adapters) as engine:
        answers = engine.generate_batch(MIXED, max_new_tokens=4)
    for prompt, answer in zip(MIXED, answers, strict=True):
        assert answer.route is not None
        assert answer.route.abstained
        assert answer.adapter is None
        assert answer.text == peft_text(served.reference, prompt, None, 4)


def median_router(router: Router, base: Base) -> Router:
    """A router that abstains on half of ``MIXED``."""
    scores = sorted(decision.score for decision in router.route(base, MIXED))
    middle = (scores[len(MIXED) // 2 - 1] + scores[len(MIXED) // 2]) / 2
    return replace(router, calibration=replace(router.calibration, threshold=middle))


def test_who_abstains_falls_back_to_an_adapter(
    served: Served, router_folder: Path, tiny_base: Base
) -> None:
    careful = median_router(Router.load(router_folder), tiny_base)
    base = load_base(str(served.engine.base.folder))
    with Engine(
        base, careful, served.adapters, options=EngineOptions(fallback="provider-select")
    ) as engine:
        answers = engine.generate_batch(MIXED, max_new_tokens=4)
    routes = [answer.route for answer in answers if answer.route is not None]
    assert sum(decision.abstained for decision in routes) == len(MIXED) // 2
    for prompt, answer, decision in zip(MIXED, answers, routes, strict=True):
        if decision.abstained:
            assert (decision.label, decision.adapter) == (-1, "provider-select")
        assert answer.adapter == decision.adapter
        assert answer.text == peft_text(served.reference, prompt, answer.adapter, 4)


def test_who_abstains_fails_if_nobody_is_to_answer(
    served: Served, router_folder: Path, tiny_base: Base
) -> None:
    """Those beside it are answered."""
    careful = median_router(Router.load(router_folder), tiny_base)
    base = load_base(str(served.engine.base.folder))
    with Engine(base, careful, served.adapters, options=EngineOptions(fallback="error")) as engine:
        streams = [engine.submit(prompt, max_new_tokens=4) for prompt in MIXED]
        failed = 0
        for prompt, stream in zip(MIXED, streams, strict=True):
            [alone] = engine.route_batch([prompt])
            assert alone.refused is alone.abstained
            if alone.refused:
                failed += 1
                with pytest.raises(AbstainedError, match="for none of the adapters"):
                    stream.result(60)
                with pytest.raises(AbstainedError):
                    stream.route(60)
            else:
                text = peft_text(served.reference, prompt, alone.adapter, 4)
                assert stream.result(60).text == text
        assert failed == len(MIXED) // 2
        named = engine.submit(MIXED[0], adapter="calendar", max_new_tokens=4).result(60)
        assert named.text == peft_text(served.reference, MIXED[0], "calendar", 4)


def test_a_fallback_that_is_none(served: Served, router_folder: Path) -> None:
    base = load_base(str(served.engine.base.folder))
    with pytest.raises(LabelError, match="'inbox'"):
        Engine(
            base,
            Router.load(router_folder),
            served.adapters,
            options=EngineOptions(fallback="inbox"),
        )


def test_several_layers_and_poolings_are_read_on_the_way(
    upper: Engine,
    tiny_adapters: dict[str, str],
    tiny_base: Base,
    tiny_base_folder: Path,
    tmp_path: Path,
) -> None:
    """In one forward or in two: what is decided is what the stand-alone router decides."""
    recipe = FeatureRecipe((1, 2), ("mean", "last"))
    router = make_router(tiny_base, upper.router, recipe)
    expected = router.route(tiny_base, MIXED)
    assert len({decision.label for decision in expected}) > 1
    adapters = make_adapters_for("in-pass", tiny_base, tmp_path)
    for paths, plan in ((adapters, "in-pass"), (tiny_adapters, "two-pass")):
        with Engine(load_base(str(tiny_base_folder)), router, paths) as engine:
            assert engine.plan.name == plan
            answers = engine.generate_batch(MIXED, max_new_tokens=1)
        for answer, alone in zip(answers, expected, strict=True):
            assert same_route(answer.route, alone)
            assert answer.route is not None
            assert answer.route.score == pytest.approx(alone.score, rel=1e-5, abs=1e-3)


def test_routing_beside_answers_changes_neither(served: Served) -> None:
    """``route_batch`` reads with the base alone, whatever the requests at work have."""
    engine, reference, _ = served
    quiet = engine.route_batch(MIXED)
    stream = engine.submit(MIXED[0], adapter="provider-select", max_new_tokens=60)
    stream.route(20)
    for _ in range(3):
        for found, alone in zip(engine.route_batch(MIXED), quiet, strict=True):
            assert same_route(found, alone)
    assert stream.result(60).text == peft_text(reference, MIXED[0], "provider-select", 60)


@pytest.fixture
def upper(tiny_base_folder: Path, tmp_path: Path, router_folder: Path) -> Iterator[Engine]:
    options = {"layers_to_transform": UPPER}
    adapters = make_adapters(tiny_base_folder, tmp_path, options, options, options)
    with make_engine(tiny_base_folder, adapters, router_folder) as engine:
        yield engine


def test_in_pass_is_one_forward(upper: Engine) -> None:
    """Routing, choosing and answering run every layer once, and the vision tower once."""
    assert upper.plan.name == "in-pass"
    prompts = [ask(f"Pick day {n}", n) for n in range(100, 103)]
    with counted(upper) as (layers, tower):
        admitted_together(upper, prompts, max_new_tokens=1)
    lengths = [int(upper.base.encode([p])["attention_mask"].sum()) for p in prompts]
    padded = len(prompts) * max(lengths)
    assert layers == [(layer, padded) for layer in range(4)]
    assert len(tower) == len(prompts)


def test_two_passes_read_the_lower_layers_twice(
    tiny_base_folder: Path, tiny_adapters: dict[str, str], router_folder: Path
) -> None:
    with make_engine(tiny_base_folder, tiny_adapters, router_folder) as engine:
        with counted(engine) as (layers, tower):
            engine.generate_batch([ask("Pick day 3", 100)], max_new_tokens=1)
        assert [layer for layer, _ in layers] == [0, 1, 0, 1, 2, 3]
        assert len(tower) == 1
        with counted(engine) as (layers, tower):
            engine.generate_batch([ask("Pick 4", 100)], adapter=["calendar"], max_new_tokens=1)
        assert [layer for layer, _ in layers] == [0, 1, 2, 3], "it is known who answers"
        assert tower == []


def test_activated_reads_the_last_tokens_once_more(
    tiny_base_folder: Path, router_folder: Path, tmp_path: Path, invocation: list[int]
) -> None:
    called = {"alora_invocation_tokens": invocation}
    adapters = make_adapters(tiny_base_folder, tmp_path, called, called, called)
    with make_engine(tiny_base_folder, adapters, router_folder) as engine:
        prompt = ask("Pick day 3", 100)
        length = engine.base.encode([prompt])["input_ids"].shape[1]
        with counted(engine) as (layers, tower):
            engine.generate_batch([prompt], max_new_tokens=1)
        whole = [(layer, length) for layer in range(4)]
        assert layers == whole + [(layer, len(invocation)) for layer in range(4)]
        assert len(tower) == 1


def test_activated_from_before_an_image(
    tiny_base_folder: Path, router_folder: Path, tmp_path: Path, tiny_base: Base
) -> None:
    """The tokens that adapters act on may hold images."""
    called = {"alora_invocation_tokens": list(tiny_base.tokenizer("<|im_start|>user")["input_ids"])}
    adapters = make_adapters(tiny_base_folder, tmp_path, called, called, called)
    reference = load_base_with_loras(str(tiny_base_folder), adapters)
    prompts, names = MIXED[:4], [*ADAPTERS, None]
    with make_engine(tiny_base_folder, adapters, router_folder) as engine:
        assert engine.plan.name == "activated"
        for _ in range(2):  # the second time with what was kept of the first
            answers = engine.generate_batch(
                prompts, adapter=[name or "base" for name in names], max_new_tokens=4
            )
            for prompt, name, answer in zip(prompts, names, answers, strict=True):
                assert answer.text == peft_text(reference, prompt, name, 4)


def test_a_prompt_that_invokes_nothing_is_refused(
    tiny_base_folder: Path, router_folder: Path, tmp_path: Path
) -> None:
    """PEFT would let the base answer in silence."""
    called = {"alora_invocation_tokens": [65, 66, 67, 68]}
    adapters = make_adapters(tiny_base_folder, tmp_path, called, called, called)
    with make_engine(tiny_base_folder, adapters, router_folder) as engine:
        for options in ({"adapter": "calendar"}, {}):
            with pytest.raises(SampleError, match=r"lacks the tokens .*\[65, 66, 67, 68\]"):
                engine.submit(MIXED[0], **options).result(20)
        [answer] = engine.generate_batch([MIXED[0]], adapter=["base"], max_new_tokens=4)
        reference = load_base_with_loras(str(tiny_base_folder), adapters)
        assert answer.text == peft_text(reference, MIXED[0], None, 4)


@pytest.mark.parametrize("again", [False, True])
def test_padding_changes_nothing(
    tiny_base_folder: Path, tiny_adapters: dict[str, str], again: bool
) -> None:
    base = load_base_with_loras(str(tiny_base_folder), tiny_adapters)
    loras = [lora_of(base.model, name) for name in ADAPTERS]
    base = replace(base, model=base.model.unload())
    stack = LoraStack(base, [lora for lora in loras if isinstance(lora, Lora)])
    forward = Forward(base, stack, slots=8)
    rows = torch.tensor([0, 1, 2, stack.zero, 1, 0])
    read: list[torch.Tensor] = []

    def logits(prompts: Sequence[Prompt], rows: torch.Tensor) -> torch.Tensor:
        def decide(states: Sequence[torch.Tensor], batch: Encoded) -> torch.Tensor:
            read.append(pool(states[0], batch, "last"))
            return rows

        encoded = base.encode(prompts)
        slots = list(range(len(prompts)))[::-1]
        routing = Routing((LAYER,), decide, again)
        with torch.inference_mode():
            features = base.image_features(encoded)
            return forward.prefill(encoded, features, slots, None, routing)

    together = logits(MIXED, rows)
    assert forward.lengths[:6].tolist()[::-1] == [
        base.encode([prompt])["input_ids"].shape[1] for prompt in MIXED
    ]
    alone = [logits([prompt], row[None]) for prompt, row in zip(MIXED, rows, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone))
    torch.testing.assert_close(read[0], torch.cat(read[1:]))
