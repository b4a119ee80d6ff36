"""What a router reads of a conversation: the same in training and under every plan."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pointsman.adapters.peft import load_base_with_loras
from pointsman.conversation import History, Prompt, Turn, user_turn
from pointsman.data.dataset import Dataset
from pointsman.engine.engine import Engine
from pointsman.engine.plan import choose_plan
from pointsman.errors import ConfigError, MismatchError
from pointsman.models.base import Base
from pointsman.models.features import FeatureRecipe, extract
from pointsman.models.text_encoder import TextEncoder, load_encoder
from pointsman.routing.feature_store import preprocess
from pointsman.routing.route import Route
from pointsman.routing.router import Router
from pointsman.routing.train import TrainSettings, train_router
from pointsman.sample import RoutingSample, load_prompt
from support.encoders import make_encoder
from support.engines import (
    ask,
    counted,
    go_on,
    lora_of,
    make_adapters_for,
    make_engine,
    peft_text,
    same_route,
)
from support.tiny import ADAPTERS

PLANS = ("in-pass", "two-pass", "activated", "peft")
READERS = ("conversation", "last-user", "encoder")
FIRST = ask("Pick day 3 of the month", 300, size=(96, 64))
TALKS = (
    FIRST,
    go_on(FIRST, "I am the calendar adapter", "Fill in field 7"),
    go_on(go_on(FIRST, "done", "Book with doctor 3"), "done too", "Pick"),
    ask("Hello"),
    go_on(ask("Hello"), "Hi", "Fill in the amount field"),
    Prompt(
        (*FIRST.turns, Turn("assistant", ("x",)), *ask("And here?", 301).turns),
        (*FIRST.images, *ask("", 301).images),
    ),
)
"""Conversations of one turn and of several, with images early, late and nowhere."""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return load_encoder(str(make_encoder(tmp_path_factory.mktemp("encoder"))))


@pytest.fixture(scope="module")
def routers(
    tiny_data: Dataset,
    tiny_base: Base,
    encoder: TextEncoder,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("routers")
    recipes = {
        "conversation": FeatureRecipe((2,)),
        "last-user": FeatureRecipe((2,), history="last-user"),
        "encoder": FeatureRecipe((3,), ("mean",), "last-user"),
    }
    for name, recipe in recipes.items():
        reader = encoder if name == "encoder" else tiny_base
        features = preprocess(tiny_data, reader, folder / f"{name}-features", recipe)
        train_router(features, folder / name, settings=TrainSettings(mlp_sizes=(0,)))
    return {name: folder / name for name in recipes}


@pytest.fixture(scope="module", params=PLANS)
def adapters(
    request: pytest.FixtureRequest,
    tiny_base_folder: Path,
    tiny_base: Base,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, dict[str, str]]:
    folder = tmp_path_factory.mktemp("adapters")
    return request.param, make_adapters_for(request.param, tiny_base, folder)


@pytest.fixture(scope="module", params=READERS)
def served(
    request: pytest.FixtureRequest,
    adapters: tuple[str, dict[str, str]],
    tiny_base_folder: Path,
    routers: dict[str, Path],
    encoder: TextEncoder,
) -> Iterator[tuple[str, Engine]]:
    name = request.param
    options = {"encoder": encoder} if name == "encoder" else {}
    with make_engine(tiny_base_folder, adapters[1], routers[name], **options) as engine:
        yield name, engine


def seen_by_hand(prompt: Prompt, reader: str) -> Prompt:
    """What the router is to see, written out."""
    asked = [turn for turn in prompt.turns if turn.role == "user"]
    if reader == "conversation":
        return Prompt(tuple(asked), prompt.images)
    return Prompt((user_turn(asked[-1].text, len(prompt.images[-1:])),), prompt.images[-1:])


def test_every_plan_routes_as_the_router_alone(
    served: tuple[str, Engine], adapters: tuple[str, dict[str, str]], tiny_base: Base
) -> None:
    name, engine = served
    reader = engine._reader() if name == "encoder" else tiny_base
    routes: list[Route | None] = []
    for prompt in TALKS:
        with torch.inference_mode():
            encoded = reader.encode([seen_by_hand(prompt, name)])
            features = extract(reader, encoded, engine.router.recipe)
        routes += engine.router.routes(features[:, 0])
    assert len({r.label for r in routes if r}) > 1, "too alike to tell"
    alone = engine.route_batch(TALKS)
    answers = engine.generate_batch(TALKS, max_new_tokens=4)
    reference = load_base_with_loras(tiny_base.id, adapters[1])
    for prompt, mine, decided, answer in zip(TALKS, routes, alone, answers, strict=True):
        assert same_route(decided, mine)
        assert same_route(answer.route, mine)
        assert mine is not None
        assert answer.adapter == mine.adapter
        # It is answered over the whole conversation all the same.
        assert answer.text == peft_text(reference, prompt, mine.adapter, 4)


def test_what_was_answered_before_does_not_sway_the_router(served: tuple[str, Engine]) -> None:
    """Feed assistant turns to the router and this fails."""
    _, engine = served
    said = ("I am the calendar adapter", "doctor doctor doctor", "")
    talks = [go_on(FIRST, text, "Go on, please") for text in said]
    routes = [a.route for a in engine.generate_batch(talks, max_new_tokens=1)]
    assert all(same_route(r, routes[0]) for r in routes)


def test_the_plan_is_the_adapters(
    served: tuple[str, Engine], adapters: tuple[str, dict[str, str]]
) -> None:
    name, engine = served
    if adapters[0] == "in-pass" and name == "encoder":
        assert engine.plan.name == "two-pass"
        assert engine.plan.why == "the router reads with a text encoder of its own"
    else:
        assert engine.plan.name == adapters[0]


def test_requests_of_one_turn_are_routed_within_their_forward(
    served: tuple[str, Engine],
) -> None:
    name, engine = served
    with counted(engine) as (layers, _):
        engine.submit(ask("Pick day 3", 310), max_new_tokens=1).result(20)
    length = layers[0][1]
    at_the_bottom = [tokens for layer, tokens in layers if layer == 0 and tokens == length]
    # Adapters that change the lower layers have them read once more.
    again = name != "encoder" and engine.plan.name in ("two-pass", "peft")
    assert len(at_the_bottom) == 1 + again


def test_the_encoder_leaves_the_base_alone(
    adapters: tuple[str, dict[str, str]],
    tiny_base_folder: Path,
    routers: dict[str, Path],
    encoder: TextEncoder,
) -> None:
    with (
        make_engine(tiny_base_folder, adapters[1], routers["encoder"], encoder=encoder) as engine,
        counted(engine) as (layers, tower),
    ):
        engine.route_batch(TALKS)
        assert (layers, tower) == ([], [])


def test_an_engine_needs_the_reader_of_its_router(
    tiny_base_folder: Path,
    tiny_adapters: dict[str, str],
    routers: dict[str, Path],
    encoder: TextEncoder,
) -> None:
    with pytest.raises(MismatchError, match=r"reads with the text encoder .*, not with"):
        make_engine(tiny_base_folder, tiny_adapters, routers["encoder"])
    with pytest.raises(MismatchError, match=r"reads with the base .*, not with"):
        make_engine(tiny_base_folder, tiny_adapters, routers["last-user"], encoder=encoder)


def test_plans_of_a_router_with_an_encoder(
    tiny_base_folder: Path, adapters: tuple[str, dict[str, str]]
) -> None:
    base = load_base_with_loras(str(tiny_base_folder), adapters[1])
    loras = [lora_of(base.model, name) for name in ADAPTERS]
    assert choose_plan(loras, None).name == adapters[0].replace("in-pass", "two-pass")
    with pytest.raises(ConfigError, match="'in-pass' does not suit"):
        choose_plan(loras, None, "in-pass")


@pytest.mark.parametrize("history", ["conversation", "last-user"])
def test_training_reads_what_serving_reads(
    tiny_base: Base, tiny_data: Dataset, history: History
) -> None:
    """A sample's last answer is its label, and earlier ones are seen by no router."""
    [one, two] = tiny_data.splits["train"][:2]
    turns = (one.turns[0], Turn("assistant", ("first answer",)), *two.turns)
    sample = RoutingSample(turns, (*one.images, *two.images), 0, ADAPTERS[0])
    read = load_prompt(sample, history)
    served = Prompt(turns[:-1], (load_prompt(one).images[0], load_prompt(two).images[0]))
    seen = served.routed_part(history)
    assert read.turns == seen.turns
    assert [i.tobytes() for i in read.images] == [i.tobytes() for i in seen.images]
    assert len(read.images) == (2 if history == "conversation" else 1)
    assert "answer" not in tiny_base.render(read.turns)


def test_the_history_is_sealed(routers: dict[str, Path], tiny_base: Base) -> None:
    router = Router.load(routers["last-user"])
    assert router.recipe.history == "last-user"
    talk = TALKS[1]
    [decided] = router.route(tiny_base, [talk])
    assert same_route(decided, router.route(tiny_base, [talk.routed_part("last-user")])[0])
    other = Router.load(routers["conversation"])
    assert not same_route(decided, other.route(tiny_base, [talk])[0])
    with pytest.raises(ConfigError, match="unknown history 'all'; known are conversation"):
        FeatureRecipe((1,), history="all")  # type: ignore[arg-type]
