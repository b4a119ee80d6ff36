from collections.abc import Iterator
from pathlib import Path

import pytest

from pointsman.conversation import Prompt
from pointsman.engine.engine import Engine
from pointsman.engine.prefix_cache import PrefixCache
from pointsman.engine.request import Request
from pointsman.engine.sampling import Sampling
from pointsman.models.base import Base
from support.engines import (
    ask,
    batch_of,
    counted,
    go_on,
    make_adapters_for,
    make_engine,
    same_route,
)
from support.tiny import ADAPTERS

PLANS = ("in-pass", "two-pass", "activated")


def request(ids: list[int], adapter: str | None = "a", image: int = 1) -> Request:
    found = Request(ask("", 1), adapter, False, 9, Sampling())
    found.ids, found.digests, found.shown = ids, [[image, image]], 10
    return found


def test_what_is_found_again() -> None:
    shelf, ids = PrefixCache([7, 8]), list(range(40))
    place = shelf.put(ids, [[1, 1]], "a")
    assert shelf.find(request([*ids, 99, 98]), False) == (place, 40, "a")
    assert shelf.find(request([*ids[:30], 99, 98]), False) == (place, 30, "a")
    assert shelf.find(request(ids), False) == (place, 39, "a"), "one token is left to be read"
    assert shelf.find(request([*ids, 99], "b"), False) is None
    assert shelf.find(request([*ids, 99], None), False) is None
    assert shelf.find(request([*ids, 99], "b"), True) == (place, 40, "a")
    assert shelf.find(request([*ids, 99], image=2), False) is None
    assert shelf.find(request([0, 1, 2, 99]), False) is None, "an image is not whole"
    shelf.forget("a")
    assert shelf.find(request([*ids, 99]), False) is None


def test_a_conversation_has_one_place_and_the_oldest_makes_room() -> None:
    shelf, ids = PrefixCache([7, 8]), list(range(40))
    first = shelf.put(ids, [[1, 1]], "a")
    assert shelf.put([*ids, 50], [[1, 1]], "a") == first, "the same conversation, one turn on"
    second = shelf.put(ids, [[2, 2]], "a")
    assert {first, second} == {7, 8}
    assert shelf.put(ids, [[3, 3]], "a") == first
    assert shelf.find(request([*ids, 99], image=1), False) is None
    assert shelf.find(request([*ids, 99], image=2), False) is not None
    assert PrefixCache([]).put(ids, [], None) is None


@pytest.fixture(scope="module", params=PLANS)
def engines(
    request: pytest.FixtureRequest,
    tiny_base_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    router_folder: Path,
    tiny_base: Base,
) -> Iterator[tuple[Engine, Engine]]:
    """One that keeps two conversations, and one that keeps none."""
    folder = tmp_path_factory.mktemp("kept")
    adapters = make_adapters_for(request.param, tiny_base, folder)
    with (
        make_engine(tiny_base_folder, adapters, router_folder, kept=2) as keeping,
        make_engine(tiny_base_folder, adapters, router_folder, kept=0) as fresh,
    ):
        assert keeping.plan.name == request.param
        yield keeping, fresh


def length(engine: Engine, prompt: Prompt) -> int:
    return int(engine.base.encode([prompt])["input_ids"].shape[1])


def tail_of(engine: Engine) -> int:
    return len(batch_of(engine).stack.invocation)


@pytest.mark.parametrize("adapter", ["claim-window", None])
def test_the_next_turn_reads_only_what_is_new(
    engines: tuple[Engine, Engine], adapter: str | None
) -> None:
    keeping, fresh = engines
    prompt = ask("Pick day 3 of the month", 200, size=(96, 64))
    for text in ("And the day after?", "Now the last one, please", "Done?"):
        options = {"adapter": adapter or "base", "max_new_tokens": 8}
        said = keeping.submit(prompt, **options).result(20).text  # type: ignore[arg-type]
        assert said == fresh.submit(prompt, **options).result(20).text  # type: ignore[arg-type]
        old, prompt = length(keeping, prompt), go_on(prompt, said, text)
        with counted(keeping) as (layers, tower):
            answer = keeping.submit(prompt, **options | {"max_new_tokens": 1}).result(20)  # type: ignore[arg-type]
        assert tower == []
        expected = fresh.submit(prompt, **options | {"max_new_tokens": 1}).result(20)  # type: ignore[arg-type]
        assert answer.text == expected.text
        # Activated adapters read the end once more.
        read, again = layers[0][1], tail_of(keeping) if adapter else 0
        assert 0 < read <= length(keeping, prompt) - old + again
        assert sum(tokens for at, tokens in layers if at == 0) <= read + again


def test_routed_turns_are_answered_as_by_an_engine_that_keeps_nothing(
    engines: tuple[Engine, Engine],
) -> None:
    keeping, fresh = engines
    for seed in range(210, 216):
        prompt = ask(f"Pick day {seed}", seed)
        for text in ("Fill in field 7", "Book with doctor 3", "Pick"):
            answer = keeping.submit(prompt, max_new_tokens=8).result(20)
            expected = fresh.submit(prompt, max_new_tokens=8).result(20)
            assert answer.text == expected.text
            assert answer.adapter == expected.adapter
            assert same_route(answer.route, expected.route)
            prompt = go_on(prompt, answer.text, text)


def test_routed_turns_read_what_the_router_sees_and_what_is_new(
    engines: tuple[Engine, Engine],
) -> None:
    """The router sees no answer, so it reads the user's turns by themselves, up to its layer."""
    keeping, _ = engines
    prompt = ask("Pick day 3 of the month", 220, size=(96, 64))
    [decision] = keeping.route_batch([go_on(prompt, "", "And then?")])
    name = decision.adapter
    first = keeping.submit(prompt, adapter=name or "base", max_new_tokens=8).result(20)
    second = go_on(prompt, first.text, "And then?")
    with counted(keeping) as (layers, tower):
        again = keeping.submit(second, max_new_tokens=1).result(20)
    assert tower == []
    seen = length(keeping, second.routed_part("conversation"))
    assert layers[:2] == [(0, seen), (1, seen)]
    new = length(keeping, second) - length(keeping, prompt) + tail_of(keeping)
    assert again.adapter == name
    assert sum(tokens for at, tokens in layers[2:] if at == 0) <= new + tail_of(keeping)


def test_another_image_or_adapter_is_read_whole(engines: tuple[Engine, Engine]) -> None:
    keeping, fresh = engines
    shared = keeping.plan.name == "activated"
    cases = (
        (230, "calendar", True),
        (231, "calendar", False),
        (230, "claim-window", shared),
        (230, None, shared),
    )
    for seed, name, is_reused in cases:
        keeping.submit(ask("Pick day 3", 230), adapter="calendar", max_new_tokens=3).result(20)
        prompt = ask("Pick day 4, or rather 5", seed)
        options = {"adapter": name or "base", "max_new_tokens": 5}
        with counted(keeping) as (layers, _):
            answer = keeping.submit(prompt, **options).result(20)  # type: ignore[arg-type]
        assert answer.text == fresh.submit(prompt, **options).result(20).text  # type: ignore[arg-type]
        assert (layers[0][1] < length(keeping, prompt)) is is_reused, (seed, name)


def test_a_next_turn_with_a_new_image_sees_it(engines: tuple[Engine, Engine]) -> None:
    keeping, _ = engines
    prompt = ask("Pick day 3", 240)
    said = keeping.submit(prompt, adapter="calendar", max_new_tokens=4).result(20).text
    more = go_on(prompt, said, "x")
    two = Prompt(
        (*more.turns[:-1], ask("And here?", 241).turns[0]), (*prompt.images, *ask("", 241).images)
    )
    answers = [
        each.submit(two, adapter="calendar", max_new_tokens=5).result(20).text for each in engines
    ]
    assert answers[0] == answers[1]


def test_turns_beside_others_at_work(engines: tuple[Engine, Engine]) -> None:
    """Continued in a batch with others, and earlier turns asked again in another way."""
    keeping, fresh = engines
    first = ask("Pick day 3", 250)
    said = keeping.submit(first, adapter="calendar", max_new_tokens=6).result(20).text
    asked = [
        (go_on(first, said, "And?"), "calendar"),
        (first, "calendar"),
        (go_on(first, "something else", "And?"), "calendar"),
        (first, "provider-select"),
        (ask("Hello there, who are you and what do you do?"), None),
        (ask("Hello there, who are you and what do you say?"), None),
    ] * 2
    prompts, names = [p for p, _ in asked], [name for _, name in asked]
    mine = keeping.generate_batch(
        prompts, adapter=[name or "base" for name in names], max_new_tokens=7
    )
    theirs = fresh.generate_batch(
        prompts, adapter=[name or "base" for name in names], max_new_tokens=7
    )
    assert [answer.text for answer in mine] == [answer.text for answer in theirs]


def test_the_shelf_is_bounded(engines: tuple[Engine, Engine]) -> None:
    keeping, _ = engines
    size = batch_of(keeping).forward.slots.bytes
    prompts = [ask("Pick day 3", seed) for seed in range(260, 266)]
    keeping.generate_batch(prompts, adapter=["calendar"] * 6, max_new_tokens=2)
    assert batch_of(keeping).forward.slots.bytes == size
    reused = []
    for prompt in prompts:
        with counted(keeping) as (layers, _):
            keeping.submit(prompt, adapter="calendar", max_new_tokens=1).result(20)
        reused.append(layers[0][1] < length(keeping, prompt))
    assert sum(reused) <= 2


def test_what_an_adapter_that_went_has_read_is_forgotten(
    engines: tuple[Engine, Engine], tmp_path: Path
) -> None:
    keeping, fresh = engines
    others = make_adapters_for(keeping.plan.name, keeping.base, tmp_path)
    prompt = ask("Pick day 3", 270)
    for path in (others["calendar"], others["claim-window"]):
        texts = []
        for each in (keeping, fresh):
            each.add_adapter("guest", path)
            texts.append(each.submit(prompt, adapter="guest", max_new_tokens=6).result(20).text)
            each.remove_adapter("guest")
        assert texts[0] == texts[1]
    assert keeping.adapters == ADAPTERS
