from pathlib import Path

import pytest
import torch
from peft import IA3Config, LoHaConfig, PeftConfig, get_peft_model

from pointsman.adapters.layout import PROJECTIONS
from pointsman.adapters.peft import load_base_with_loras
from pointsman.adapters.weights import Lora
from pointsman.engine.lora_stack import LoraStack
from pointsman.errors import ConfigError, LabelError, MismatchError
from pointsman.models.base import Base, load_base
from support.engines import MIXED, ask, batch_of, lora_of, make_adapters, make_engine, peft_text
from support.tiny import ADAPTERS, make_adapter

UNEQUAL = (
    {"r": 2, "lora_alpha": 3, "target_modules": ["q_proj", "v_proj"], "layers_to_transform": [3]},
    {
        "r": 8,
        "lora_alpha": 24,
        "use_rslora": True,
        "rank_pattern": {"q_proj": 3, r"layers\.1\.mlp\.down_proj": 1},
        "alpha_pattern": {"down_proj": 5, "k_proj": 40},
    },
    {"r": 5, "lora_alpha": 20, "target_modules": ["gate_proj", "o_proj", "k_proj"]},
)


@pytest.fixture(scope="module")
def unequal(tiny_base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_adapters(tiny_base_folder, tmp_path_factory.mktemp("unequal"), *UNEQUAL)


@pytest.fixture(scope="module")
def more(tiny_base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Adapters that come later."""
    folder = tmp_path_factory.mktemp("more")
    return {
        name: str(make_adapter(tiny_base_folder, folder / name, seed, r=6, lora_alpha=11))
        for seed, name in enumerate(("fourth", "fifth"), 31)
    }


@pytest.fixture(scope="module")
def reference(tiny_base_folder: Path, unequal: dict[str, str], more: dict[str, str]) -> Base:
    return load_base_with_loras(str(tiny_base_folder), unequal | more)


@pytest.mark.parametrize("resident", [None, 1, 2, 9])
def test_adapters_of_any_shape_answer_as_in_peft(
    tiny_base_folder: Path,
    unequal: dict[str, str],
    tiny_router: Path,
    reference: Base,
    resident: int | None,
) -> None:
    """Ranks, alphas, patterns, targets, layers differ; fewer rows than adapters change nothing."""
    names = [*ADAPTERS, None]
    adapters = [names[index % 4] for index in range(len(MIXED) * 2)]
    prompts = [*MIXED, *MIXED]
    with make_engine(tiny_base_folder, unequal, tiny_router, resident=resident) as engine:
        assert engine.plan.name == "two-pass"
        named = engine.generate_batch(
            prompts, adapter=[name or "base" for name in adapters], max_new_tokens=5
        )
        routed = engine.generate_batch(MIXED, max_new_tokens=5)
        assert len(batch_of(engine).stack.resident) <= (resident or 3)
    for prompt, adapter, answer in zip(prompts, adapters, named, strict=True):
        assert answer.text == peft_text(reference, prompt, adapter, 5)
    for prompt, answer in zip(MIXED, routed, strict=True):
        assert answer.route is not None
        assert answer.adapter == answer.route.adapter
        assert answer.text == peft_text(reference, prompt, answer.adapter, 5)


@pytest.mark.parametrize("resident", [None, 1])
def test_adapters_come_and_go_beside_requests_at_work(
    tiny_base_folder: Path,
    unequal: dict[str, str],
    more: dict[str, str],
    tiny_router: Path,
    reference: Base,
    resident: int | None,
) -> None:
    prompt = MIXED[0]
    with make_engine(
        tiny_base_folder, unequal, tiny_router, resident=resident, max_rank=8
    ) as engine:
        stream = engine.submit(prompt, adapter="claim-window", max_new_tokens=90)
        stream.route(5)  # it is at work
        for name, path in more.items():
            engine.add_adapter(name, path)
        assert engine.adapters == (*ADAPTERS, *more)
        late = engine.submit(prompt, adapter="fifth", max_new_tokens=6)
        engine.remove_adapter("fourth")
        assert late.result(20).text == peft_text(reference, prompt, "fifth", 6)
        assert stream.result(20).text == peft_text(reference, prompt, "claim-window", 90)
        with pytest.raises(LabelError, match="fourth"):
            engine.submit(prompt, adapter="fourth")
        engine.remove_adapter("fifth")
        # A name is free again once its adapter has gone, and nothing of that adapter is left.
        engine.add_adapter("fifth", more["fourth"])
        [answer] = engine.generate_batch([prompt], adapter=["fifth"], max_new_tokens=6)
        assert answer.text == peft_text(reference, prompt, "fourth", 6)


def test_adapters_that_cannot_come_or_go(
    tiny_base_folder: Path,
    unequal: dict[str, str],
    more: dict[str, str],
    tiny_router: Path,
    tmp_path: Path,
) -> None:
    large = make_adapter(tiny_base_folder, tmp_path / "large", 1, r=9)
    dora = make_adapter(tiny_base_folder, tmp_path / "dora", 1, use_dora=True)
    with make_engine(tiny_base_folder, unequal, tiny_router) as engine:
        with pytest.raises(ConfigError, match=r"'calendar' is already loaded"):
            engine.add_adapter("calendar", more["fourth"])
        with pytest.raises(ConfigError, match=r"rank 9 .* max_rank"):
            engine.add_adapter("large", str(large))
        with pytest.raises(ConfigError, match=r"'dora' does not suit plan two-pass .*DoRA"):
            engine.add_adapter("dora", str(dora))
        with pytest.raises(LabelError, match=r"__base__"):
            engine.add_adapter("__base__", more["fourth"])
        with pytest.raises(ConfigError, match="label map; it must stay"):
            engine.remove_adapter("calendar")
        with pytest.raises(LabelError, match="nobody"):
            engine.remove_adapter("nobody")
        assert engine.adapters == ADAPTERS
        engine.add_adapter("fourth", more["fourth"])
        stream = engine.submit(MIXED[0], adapter="fourth", max_new_tokens=200)
        stream.route(5)
        with pytest.raises(ConfigError, match="answering requests"):
            engine.remove_adapter("fourth")
        stream.cancel()
        stream.result(5)
        engine.remove_adapter("fourth")


def test_who_waits_for_an_adapter_that_goes_is_told(
    tiny_base_folder: Path, unequal: dict[str, str], more: dict[str, str], tiny_router: Path
) -> None:
    with make_engine(tiny_base_folder, unequal, tiny_router, slots=1) as engine:
        engine.add_adapter("fourth", more["fourth"])
        first = engine.submit(MIXED[0], adapter="calendar", max_new_tokens=100)
        first.route(5)
        waiting = engine.submit(MIXED[0], adapter="fourth", max_new_tokens=5)
        engine.remove_adapter("fourth")
        with pytest.raises(LabelError, match="fourth"):
            waiting.result(20)
        assert first.result(20).text


def test_who_waits_for_a_row_gets_it_in_turn(
    tiny_base_folder: Path, unequal: dict[str, str], tiny_router: Path
) -> None:
    """One row: later requests of the adapter that has it do not overtake for ever."""
    with make_engine(tiny_base_folder, unequal, tiny_router, resident=1, slots=3) as engine:
        done: list[str] = []
        streams = [engine.submit(MIXED[0], adapter="calendar", max_new_tokens=20)]
        streams.append(engine.submit(MIXED[0], adapter="claim-window", max_new_tokens=1))
        streams += [
            engine.submit(MIXED[0], adapter="calendar", max_new_tokens=n) for n in range(5, 30)
        ]
        streams[1].result(20)
        done = [str(n) for n, stream in enumerate(streams) if stream.is_done]
        for stream in streams:
            stream.result(20)
    assert len(done) < 6, f"{len(done)} of later requests were answered before the second"


def loras(base: Base) -> list[Lora]:
    found = [lora_of(base.model, name) for name in base.model.peft_config]
    assert all(isinstance(lora, Lora) for lora in found)
    return [lora for lora in found if isinstance(lora, Lora)]


def test_rows_in_use_stay_and_the_one_used_longest_ago_makes_room(
    tiny_base_folder: Path, unequal: dict[str, str]
) -> None:
    adapters = loras(load_base_with_loras(str(tiny_base_folder), unequal))
    stack = LoraStack(load_base(str(tiny_base_folder)), adapters, resident=2)
    assert stack.resident == ADAPTERS[:2]
    assert "provider-select" in stack
    labels = torch.tensor([0, 1, 2, -1])
    assert stack.rows_of(labels).tolist() == [0, 1, stack.zero, stack.zero]
    first, second = stack.acquire("calendar"), stack.acquire("claim-window")
    assert stack.acquire("provider-select") is None
    assert stack.acquire("calendar") == first
    assert first is not None
    assert second is not None
    stack.release(first)
    assert stack.acquire("provider-select") is None, "calendar answers one more request"
    stack.release(second)
    assert stack.acquire("provider-select") == second
    assert stack.resident == ("calendar", "provider-select")
    assert stack.rows_of(labels).tolist() == [first, stack.zero, second, stack.zero]
    # Back on the device it is what it was.
    stack.release(second)
    assert stack.acquire("claim-window") == second
    for (layer, projection), (a, b) in adapters[1].weights.items():
        group, member = stack._members[layer, projection]
        row_a, row_b = group.read(second, member)
        torch.testing.assert_close(row_b @ row_a, b @ a)


def test_weights_for_another_base_are_refused(tiny_base_folder: Path) -> None:
    stack = LoraStack(load_base(str(tiny_base_folder)), [])
    narrow = {(0, "q_proj"): (torch.ones(1, 8), torch.ones(32, 1))}
    deep = {(9, "q_proj"): (torch.ones(1, 32), torch.ones(32, 1))}
    for weights in (narrow, deep):
        with pytest.raises(MismatchError, match=r"'odd': its weights for q_proj of layer"):
            stack.add(Lora("odd", weights))


UNSTACKABLE = {
    "DoRA": {"use_dora": True},
    "biases": {"bias": "lora_only", "target_modules": ["q_proj", "visual.merger.linear_fc1"]},
    "a bias of its own": {"lora_bias": True},
    "whole modules": {"modules_to_save": ["norm"]},
    "embeddings of tokens": {"trainable_token_indices": [5, 6]},
    "no projection of the decoder": {"target_modules": [*PROJECTIONS, "qkv"]},
    "changes lm_head": {"target_modules": ["q_proj", "lm_head"]},
    "changes model.language_model.embed_tokens": {"target_modules": ["q_proj", "embed_tokens"]},
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT's about these settings
@pytest.mark.parametrize("reason", UNSTACKABLE)
def test_what_cannot_be_stacked_is_answered_by_peft(
    tiny_base_folder: Path,
    tiny_adapters: dict[str, str],
    tiny_router: Path,
    tmp_path: Path,
    reason: str,
) -> None:
    options = UNSTACKABLE[reason]
    odd = make_adapter(tiny_base_folder, tmp_path / "odd", 5, **options)
    adapters = tiny_adapters | {"provider-select": str(odd)}
    answers_are_pefts(tiny_base_folder, adapters, tiny_router, reason)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (
            "IA3",
            IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
        ),
        ("LOHA", LoHaConfig(target_modules=["q_proj", "v_proj"], r=4)),
    ],
)
def test_other_kinds_of_peft_are_answered_by_peft(
    tiny_base_folder: Path, tiny_router: Path, tmp_path: Path, kind: str, config: PeftConfig
) -> None:
    for seed, name in enumerate(ADAPTERS):
        model = get_peft_model(load_base(str(tiny_base_folder)).model, config)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape) * 0.5)
        model.save_pretrained(tmp_path / name)
    adapters = {name: str(tmp_path / name) for name in ADAPTERS}
    answers_are_pefts(tiny_base_folder, adapters, tiny_router, kind)


def answers_are_pefts(
    base_folder: Path, adapters: dict[str, str], router: Path, reason: str
) -> None:
    prompts = [MIXED[0], MIXED[1], MIXED[2], MIXED[0], MIXED[1], MIXED[3], MIXED[4]]
    named: list[str | None] = [*ADAPTERS, None, *ADAPTERS]
    reference = load_base_with_loras(str(base_folder), adapters)
    with make_engine(base_folder, adapters, router) as engine:
        assert engine.plan.name == "peft"
        assert reason in engine.plan.why
        for adapter, prompt, answer in zip(
            named,
            prompts,
            engine.generate_batch(
                prompts, adapter=[name or "base" for name in named], max_new_tokens=4
            ),
            strict=True,
        ):
            assert answer.text == peft_text(reference, prompt, adapter, 4)
        routed = engine.generate(MIXED[0].images[0], "Pick day 3", max_new_tokens=4)
        assert routed.text == peft_text(reference, ask("Pick day 3", 1), routed.adapter, 4)
        with pytest.raises(ConfigError, match="does not suit"):
            make_engine(base_folder, adapters, router, plan="two-pass")
