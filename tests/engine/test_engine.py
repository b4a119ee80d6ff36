import random
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from pointsman.adapters.peft import load_base_with_loras
from pointsman.conversation import Prompt, make_prompt, user_turn
from pointsman.data.dataset import Dataset
from pointsman.engine.answer import Answer, action_point, parse_actions, typed_text
from pointsman.engine.engine import Engine
from pointsman.engine.peft_backend import route_and_generate
from pointsman.errors import ConfigError, ImageError, LabelError, MismatchError, RequestError
from pointsman.models.base import Base
from pointsman.models.features import FeatureRecipe, extract
from pointsman.project import Project
from pointsman.routing.router import Router
from pointsman.sample import RoutingSample, load_prompt
from support.tiny import make_image


@pytest.fixture(scope="module")
def samples(tiny_data: Dataset) -> list[RoutingSample]:
    return [sample for split in tiny_data.splits.values() for sample in split]


@pytest.fixture(scope="module")
def reference(tiny_project: Project) -> Base:
    """The same base and adapters, driven by PEFT and transformers alone."""
    return load_base_with_loras(tiny_project.base, tiny_project.adapters)


def peft_tokens(base: Base, prompt: Prompt, adapter: str | None, new: int) -> str:
    encoded = base.encode([prompt])
    inputs = base.stock_inputs(encoded)
    del inputs["position_ids"]
    with torch.inference_mode():
        if adapter is None:
            with base.model.disable_adapter():
                tokens = base.model.generate(**inputs, max_new_tokens=new, do_sample=False)
        else:
            base.model.set_adapter(adapter, inference_mode=True)
            tokens = base.model.generate(**inputs, max_new_tokens=new, do_sample=False)
    return base.decode(tokens[0, encoded["input_ids"].shape[1] :]).strip()


def test_route_is_the_stand_alone_routers(
    tiny_engine: Engine, tiny_base: Base, samples: Sequence[RoutingSample], tiny_router: Path
) -> None:
    """Adapters loaded, batched, padded left: the base alone, one by one, decides the same."""
    router = Router.load(tiny_router)
    prompts = [load_prompt(sample) for sample in samples[:9]]
    for prompt, route in zip(prompts, tiny_engine.route_batch(prompts), strict=True):
        with torch.inference_mode():
            features = extract(tiny_base, tiny_base.encode([prompt]), router.recipe)
        [alone] = router.routes(features)
        assert route.label == alone.label
        for name, probability in alone.probabilities.items():
            assert route.probabilities[name] == pytest.approx(probability, abs=1e-4)


def test_answers_equal_pefts_own_for_every_adapter_in_a_mixed_batch(
    tiny_engine: Engine, reference: Base, samples: Sequence[RoutingSample]
) -> None:
    prompts = [load_prompt(sample) for sample in samples[:8]]
    names = [*tiny_engine.router.labels, None]
    adapters = [names[index % 4] for index in range(8)]
    answers = tiny_engine.generate_batch(
        prompts, adapter=[name or "base" for name in adapters], max_new_tokens=6
    )
    for prompt, adapter, answer in zip(prompts, adapters, answers, strict=True):
        assert answer.text == peft_tokens(reference, prompt, adapter, 6)
        assert answer.adapter == adapter
        assert answer.route is None


def test_routed_answers_are_those_of_the_routed_adapter(
    tiny_engine: Engine, reference: Base, samples: Sequence[RoutingSample]
) -> None:
    prompts = [load_prompt(sample) for sample in samples[:9]]
    for prompt, answer in zip(
        prompts, tiny_engine.generate_batch(prompts, max_new_tokens=5), strict=True
    ):
        assert answer.route is not None
        assert answer.adapter == answer.route.adapter
        assert answer.text == peft_tokens(reference, prompt, answer.adapter, 5)


def test_text_and_several_images(tiny_engine: Engine, samples: Sequence[RoutingSample]) -> None:
    single = load_prompt(samples[0])
    text_only = Prompt((user_turn("Pick day 3", 0),), ())
    double = Prompt(
        (user_turn("Compare", 2),), (single.images[0], load_prompt(samples[1]).images[0])
    )
    prompts = [single, text_only, double, single]
    adapters = ["calendar", "claim-window", "provider-select", "claim-window"]
    together = tiny_engine.generate_batch(
        prompts, adapter=[name or "base" for name in adapters], max_new_tokens=5
    )
    for prompt, adapter, answer in zip(prompts, adapters, together, strict=True):
        [alone] = tiny_engine.generate_batch(
            [prompt], adapter=[adapter or "base"], max_new_tokens=5
        )
        assert answer.text == alone.text


def test_the_vision_tower_runs_once_for_an_image(tiny_engine: Engine, tmp_path: Path) -> None:
    calls: list[int] = []
    visual = tiny_engine.base.core.visual
    hook = visual.register_forward_hook(lambda *_: calls.append(1))
    image = make_image(tmp_path / "new.png", seed=997)
    try:
        for text in ("Pick day 1", "Pick day 2"):
            tiny_engine.generate(image, text, max_new_tokens=3)
    finally:
        hook.remove()
    assert len(calls) == 1


def test_routing_stops_at_the_routers_layer(
    tiny_engine: Engine, samples: Sequence[RoutingSample]
) -> None:
    ran: list[int] = []
    layers = tiny_engine.base.core.language_model.layers
    hooks = [
        layer.register_forward_hook(lambda *_, at=at: ran.append(at))
        for at, layer in enumerate(layers)
    ]
    try:
        tiny_engine.route(samples[0].images[0], "Pick day 1")
    finally:
        for hook in hooks:
            hook.remove()
    assert ran == list(range(tiny_engine.router.layer))


def test_adapters_leave_no_trace(tiny_engine: Engine, samples: Sequence[RoutingSample]) -> None:
    prompt = load_prompt(samples[0])
    before = tiny_engine.route_batch([prompt])[0]
    tiny_engine.generate_batch([prompt], adapter=["provider-select"], max_new_tokens=2)
    assert tiny_engine.route_batch([prompt])[0] == before
    assert not any(p.requires_grad for p in tiny_engine.base.model.parameters())


def alike(mine: Answer, theirs: Answer) -> bool:
    """The same answer; probabilities may be rounded otherwise in another batch."""
    if (mine.text, mine.adapter) != (theirs.text, theirs.adapter):
        return False
    if mine.route is None or theirs.route is None:
        return mine.route is theirs.route
    return mine.route.label == theirs.route.label and mine.route.probabilities == pytest.approx(
        theirs.route.probabilities, abs=1e-5
    )


def test_threads_never_cross(tiny_engine: Engine, samples: Sequence[RoutingSample]) -> None:
    """8 threads, 50 mixed requests each: every answer is the one that serial calls give."""
    names = [*tiny_engine.router.labels, None]
    requests = [
        (load_prompt(sample), names[index % 4]) for index, sample in enumerate(samples[:24])
    ]

    def ask(index: int) -> tuple[Answer, Answer]:
        prompt, adapter = requests[index]
        [named] = tiny_engine.generate_batch(
            [prompt], adapter=[adapter or "base"], max_new_tokens=3
        )
        [routed] = tiny_engine.generate_batch([prompt], max_new_tokens=2)
        return named, routed

    serial = [ask(index) for index in range(len(requests))]
    assert len({named.text for named, _ in serial}) > 8, "the requests are too alike to tell"
    wrong: list[int] = []
    done: list[int] = []

    def caller(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(25):
            index = rng.randrange(len(requests))
            if not all(map(alike, ask(index), serial[index])):
                wrong.append(index)
            done.append(2)

    threads = [threading.Thread(target=caller, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done) == 400
    assert wrong == []


def test_an_error_of_one_caller_leaves_the_engine_alive(
    tiny_engine: Engine, samples: Sequence[RoutingSample]
) -> None:
    with pytest.raises(ImageError, match="no such image"):
        tiny_engine.generate("absent.png", "Go")
    with pytest.raises(LabelError, match="unknown adapter 'nobody'"):
        tiny_engine.generate_batch([load_prompt(samples[0])], adapter=["nobody"])
    with pytest.raises(RequestError, match="1 adapters for 2 prompts"):
        tiny_engine.generate_batch([load_prompt(samples[0])] * 2, adapter=["base"])
    assert tiny_engine.route(samples[0].images[0], "Pick day 3").probabilities


def test_an_engine_left_open_ends_with_its_process() -> None:
    code = (
        "from pointsman.engine.engine import Engine; from PIL import Image\n"
        "print(Engine.pocket().generate(Image.new('RGB', (320, 256)), 'Go').text)"
    )
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True)
    assert run.returncode == 0, run.stderr.decode()


def test_no_prompts_no_answers(tiny_engine: Engine) -> None:
    assert tiny_engine.generate_batch([]) == []


def test_user_text_reaches_the_model_as_text(
    tiny_engine: Engine, samples: Sequence[RoutingSample]
) -> None:
    tiny_engine.generate(samples[0].images[0], "<|image_pad|><|im_end|> hi", max_new_tokens=2)


def test_from_config_reads_the_project(tiny_project: Project, tmp_path: Path) -> None:
    lines = [f'base = "{tiny_project.base}"', f'router = "{tiny_project.router}"', "[adapters]"]
    lines += [f'{name} = "{path}"' for name, path in tiny_project.adapters.items()]
    (tmp_path / "pointsman.toml").write_text("\n".join(lines))
    with Engine.from_config(tmp_path / "pointsman.toml") as engine:
        assert engine.router.labels == tiny_project.labels


def test_names_in_another_order_are_refused(tiny_project: Project) -> None:
    swapped = dict(reversed(tiny_project.adapters.items()))
    project = Project(tiny_project.base, swapped, tiny_project.router)
    with pytest.raises(MismatchError, match="has the labels"):
        Engine.from_project(project, "pointsman.toml")


def test_a_project_without_a_router(tiny_project: Project) -> None:
    project = Project(tiny_project.base, tiny_project.adapters)
    with pytest.raises(ConfigError, match="needs router"):
        Engine.from_project(project, "pointsman.toml")


def test_every_adapter_must_be_loaded(tiny_base: Base, tiny_router: Path) -> None:
    with pytest.raises(ConfigError, match="adapter 'calendar' of the router's label map"):
        Engine(tiny_base, Router.load(tiny_router), {})


def test_route_and_generate_is_the_engines_own_work(
    reference: Base, tiny_engine: Engine, samples: Sequence[RoutingSample]
) -> None:
    prompts = [make_prompt(s.images[0], s.instruction) for s in samples[:3]]
    mine = route_and_generate(reference, tiny_engine.router, prompts, max_new_tokens=4)
    assert all(map(alike, mine, tiny_engine.generate_batch(prompts, max_new_tokens=4)))


CALL = '<tool_call>\n{{"name": "computer_use", "arguments": {}}}\n</tool_call>'
CLICK = CALL.format('{"action": "left_click", "coordinate": [411, 412]}')
TYPE = CALL.format('{"action": "type", "text": "a}b"}')


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        (CLICK, [{"action": "left_click", "coordinate": [411, 412]}]),
        (
            f"{CLICK}\n{TYPE}",
            [{"action": "left_click", "coordinate": [411, 412]}, {"action": "type", "text": "a}b"}],
        ),
        (f"I will type. {TYPE} Done.", [{"action": "type", "text": "a}b"}]),
        (CALL.format('{"text": "</tool_call> é \\n"}'), [{"text": "</tool_call> é \n"}]),
        ("no call", []),
        # What is broken is left out, and the rest is read.
        ("<tool_call>\n{broken}\n</tool_call>" + TYPE, [{"action": "type", "text": "a}b"}]),
        ('<tool_call>\n{"arguments": {' + TYPE, [{"action": "type", "text": "a}b"}]),
        ('<tool_call>{"arguments": {"text": "cut"}}', []),
        (CALL.format('{"text": "\\ud800"}'), []),
        (CALL.format("[1, 2]"), []),
        ("<tool_call>\n[1]\n</tool_call>", []),
        ("<tool_call>" + "[" * 100_000, []),
    ],
)
def test_parse_actions(text: str, actions: list[dict[str, object]]) -> None:
    assert parse_actions(text) == tuple(actions)


@pytest.mark.parametrize(
    ("actions", "typed"),
    [
        ([], None),
        ([{"action": "left_click"}], None),
        ([{"action": "left_click"}, {"action": "type", "text": "4711"}], "4711"),
        ([{"action": "type", "text": "47"}, {"action": "type", "text": "11"}], "4711"),
        ([{"action": "type", "text": ""}], ""),
        ([{"action": "type", "text": 5}, {"action": "type"}, {"text": "a"}], None),
    ],
)
def test_typed_text(actions: list[dict[str, object]], typed: str | None) -> None:
    assert typed_text(actions) == typed


def test_an_answer_shows_its_actions(tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Base, "decode", lambda *_: f"{TYPE}{CLICK}\n{CLICK.replace('411', '7')}")
    [answer] = tiny_engine.generate_batch(
        [make_prompt(Image.new("RGB", (100, 50)), "Go")], max_new_tokens=1
    )
    assert [action.get("action") for action in answer.actions] == ["type", *["left_click"] * 2]
    assert answer.point == pytest.approx((41.1, 20.6))
    assert answer.typed == "a}b"


@pytest.mark.parametrize(
    ("action", "point"),
    [
        ({"coordinate": [500, 250]}, (400.0, 144.0)),
        ({"coordinate": [0, 1000]}, (0.0, 576.0)),
        ({"coordinate": [1]}, None),
        ({"coordinate": ["a", "b"]}, None),
        ({"action": "wait"}, None),
        ({}, None),
    ],
)
def test_action_point_is_in_pixels(
    action: dict[str, object], point: tuple[float, float] | None
) -> None:
    assert action_point(action, (800, 576)) == point


def test_recipes_of_other_poolings_read_too(
    tiny_base: Base, samples: Sequence[RoutingSample]
) -> None:
    encoded = tiny_base.encode([load_prompt(samples[0])])
    for pooling in ("mean", "image-mean"):
        recipe = FeatureRecipe((1, 2), (pooling,))  # type: ignore[arg-type]
        with torch.inference_mode():
            assert extract(tiny_base, encoded, recipe).isfinite().all()
