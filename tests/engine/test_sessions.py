from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pointsman.conversation import Prompt
from pointsman.engine.engine import Engine
from pointsman.errors import ConfigError, RequestError
from pointsman.models.base import Base
from pointsman.routing.calibration import Calibration
from pointsman.routing.route import Held, Route
from pointsman.routing.router import Router
from pointsman.routing.scores import Evidence
from pointsman.routing.sessions import Sessions, check_session
from support.engines import ask, go_on, make_adapters_for, make_engine
from support.tiny import ADAPTERS

PLANS = ("in-pass", "two-pass", "activated", "peft")


def decided(label: int) -> Route:
    return Route(label, None if label < 0 else ADAPTERS[label], {}, label < 0, 0.0)


def labels(held: Held | None) -> list[int] | None:
    return None if held is None else held.labels.tolist()


def test_what_a_session_holds() -> None:
    sessions, cpu = Sessions(0.2), torch.device("cpu")
    assert sessions.held(["a", None], cpu) is None
    sessions.decided("a", decided(2))
    sessions.decided("b", decided(-1))
    sessions.decided(None, decided(1))
    held = sessions.held(["b", "a", None], cpu)
    assert labels(held) == [-1, 2, -1]
    assert held is not None
    assert held.hysteresis == 0.2
    assert sessions.held(["b", None], cpu) is None, "nothing to hold: the decision is the router's"
    sessions.decided("a", decided(0))
    assert labels(sessions.held(["a"], cpu)) == [0]


def test_the_session_not_heard_of_for_longest_makes_room() -> None:
    sessions, cpu = Sessions(0.2, limit=2), torch.device("cpu")
    for name in ("a", "b", "a", "c"):
        sessions.decided(name, decided(1))
    assert labels(sessions.held(["a", "b", "c"], cpu)) == [1, -1, 1]


@pytest.mark.parametrize("hysteresis", [-0.1, 1.5, float("nan"), "0.2", True, None])
def test_a_hysteresis_that_cannot_be(hysteresis: object) -> None:
    with pytest.raises(ConfigError, match=r"hysteresis is .*; give a number from 0 to 1"):
        Sessions(hysteresis)  # type: ignore[arg-type]


@pytest.mark.parametrize("session", ["", 3, b"a"])
def test_a_session_that_cannot_be(session: object) -> None:
    with pytest.raises(RequestError, match="give a name, or None"):
        check_session(session)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def router(tiny_router: Path) -> Router:
    """Abstains under a probability of 0.5."""
    return replace(Router.load(tiny_router), calibration=Calibration(1.0, 0.5, 0.9))


def evidence(*probabilities: float) -> Evidence:
    logits = torch.tensor([probabilities])
    return Evidence(logits.log(), logits.amax(-1))


@pytest.mark.parametrize(
    ("probabilities", "held", "hysteresis", "label", "is_held"),
    [
        ((0.1, 0.3, 0.6), -1, 0.2, 2, False),  # nothing is held
        ((0.1, 0.3, 0.6), 1, 0.2, 2, False),  # by more than the hysteresis: it leaves
        ((0.1, 0.3, 0.6), 1, 0.4, 1, True),
        ((0.1, 0.3, 0.6), 2, 0.0, 2, False),  # the router says the same
        ((0.1, 0.3, 0.6), 1, 0.0, 2, False),
        ((0.4, 0.3, 0.3), 1, 0.0, 1, True),  # the router abstains: it stays
        ((0.4, 0.3, 0.3), -1, 0.0, -1, False),
        ((0.0, 0.0, 1.0), 0, 1.0, 0, True),  # a hysteresis of 1 never leaves
    ],
)
def test_hysteresis(
    router: Router,
    probabilities: tuple[float, ...],
    held: int,
    hysteresis: float,
    label: int,
    is_held: bool,
) -> None:
    holding = Held(torch.tensor([held]), hysteresis)
    assert router.labels_of(evidence(*probabilities), holding).tolist() == [label]
    [route] = router.as_routes(router.decided(evidence(*probabilities), holding).tolist())
    assert (route.label, route.held, route.abstained) == (label, is_held, label < 0)
    assert route.adapter == (None if label < 0 else ADAPTERS[label])
    [alone] = router.as_routes(router.decided(evidence(*probabilities)).tolist())
    assert route.probabilities == alone.probabilities, "what the router thought stays visible"
    assert not alone.held


@pytest.fixture(scope="module")
def prompts(tiny_base: Base, router_folder: Path) -> Mapping[str | None, list[Prompt]]:
    """Prompts of one turn by the adapter that the router alone chooses; None: it abstains."""

    found: dict[str | None, list[Prompt]] = {name: [] for name in (*ADAPTERS, None)}
    asked = [ask(f"{v} {n}", n) for n in range(40) for v in ("Pick day", "Fill in", "Book", "Hm")]
    router = Router.load(router_folder)
    for prompt, decision in zip(asked, router.route(tiny_base, asked), strict=True):
        found[decision.adapter].append(prompt)
    assert sum(len(some) >= 3 for some in found.values()) >= 3, "too alike to tell"
    return found


@pytest.fixture(scope="module", params=PLANS)
def engine(
    request: pytest.FixtureRequest,
    tiny_base_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    router_folder: Path,
    tiny_base: Base,
) -> Iterator[Engine]:
    """One that never leaves what a session holds."""
    folder = tmp_path_factory.mktemp("sessions")
    adapters = make_adapters_for(request.param, tiny_base, folder)
    with make_engine(tiny_base_folder, adapters, router_folder, hysteresis=1.0) as engine:
        assert engine.plan.name == request.param
        yield engine


def two(prompts: Mapping[str | None, list[Prompt]]) -> tuple[str, str]:
    """Two adapters of which there are prompts."""
    names = [name for name in ADAPTERS if len(prompts[name]) >= 3]
    return names[0], names[1]


def test_a_session_keeps_its_adapter(
    engine: Engine, prompts: Mapping[str | None, list[Prompt]]
) -> None:
    mine, other = two(prompts)
    options = {"session": "keeps", "max_new_tokens": 4}
    first = engine.submit(prompts[mine][0], **options).result(20)  # type: ignore[arg-type]
    assert (first.adapter, first.route and first.route.held) == (mine, False)
    for prompt, alone in ((prompts[other][0], other), (prompts[mine][1], mine)):
        answer = engine.submit(prompt, **options).result(20)  # type: ignore[arg-type]
        named = engine.submit(prompt, adapter=mine, max_new_tokens=4).result(20)
        assert answer.text == named.text
        assert answer.route is not None
        assert answer.adapter == answer.route.adapter == mine
        assert answer.route.held is (alone != mine)
        probabilities = answer.route.probabilities
        assert max(probabilities, key=probabilities.__getitem__) == alone
    elsewhere = engine.submit(prompts[other][0], session="another", max_new_tokens=1).result(20)
    assert elsewhere.adapter == other
    assert engine.submit(prompts[other][0], max_new_tokens=1).result(20).adapter == other


def test_it_stays_where_the_router_abstains(
    engine: Engine, prompts: Mapping[str | None, list[Prompt]]
) -> None:
    mine, _ = two(prompts)
    if not prompts[None]:
        pytest.skip("the router abstains on none of the prompts")
    unsure = prompts[None][0]
    before = engine.submit(unsure, session="unsure", max_new_tokens=2).result(20)
    assert before.adapter is None, "nothing is held yet"
    engine.submit(prompts[mine][0], session="unsure", max_new_tokens=1).result(20)
    after = engine.submit(unsure, session="unsure", max_new_tokens=2).result(20)
    assert after.adapter == mine
    assert after.route is not None
    assert after.route.held
    assert not after.route.abstained


def test_requests_of_a_session_that_come_together_are_decided_one_by_one(
    engine: Engine, prompts: Mapping[str | None, list[Prompt]]
) -> None:
    mine, other = two(prompts)
    alternating = [p for pair in zip(prompts[other], prompts[mine], strict=False) for p in pair][:6]
    streams = [
        engine.submit(prompt, session=session, max_new_tokens=3)
        for prompt in alternating
        for session in ("together-1", "together-2")
    ]
    assert [stream.result(20).adapter for stream in streams] == [other] * len(streams)


def test_named_requests_leave_a_session_as_it_is(
    engine: Engine, prompts: Mapping[str | None, list[Prompt]]
) -> None:
    mine, other = two(prompts)
    named = engine.submit(prompts[mine][0], adapter=other, session="named", max_new_tokens=1)
    assert named.result(20).route is None
    routed = engine.submit(prompts[mine][0], session="named", max_new_tokens=1)
    assert routed.result(20).adapter == mine


def test_route_and_generate_know_sessions_too(
    engine: Engine, prompts: Mapping[str | None, list[Prompt]]
) -> None:
    mine, other = two(prompts)

    def of(prompt: Prompt) -> tuple[object, str]:
        return prompt.images[0], prompt.turns[0].text

    assert engine.route(*of(prompts[mine][0]), session="route").adapter == mine  # type: ignore[arg-type]
    kept = engine.route(*of(prompts[other][0]), session="route")  # type: ignore[arg-type]
    assert (kept.adapter, kept.held) == (mine, True)
    answer = engine.generate(*of(prompts[other][0]), session="route", max_new_tokens=1)  # type: ignore[arg-type]
    assert answer.adapter == mine
    with pytest.raises(RequestError, match="give a name, or None"):
        engine.submit(prompts[mine][0], session="")
    with pytest.raises(RequestError, match="give a name, or None"):
        engine.route(None, "x", session=3)  # type: ignore[arg-type]


def test_later_turns_of_a_conversation_are_held(
    engine: Engine, prompts: Mapping[str | None, list[Prompt]]
) -> None:
    mine, _ = two(prompts)
    prompt = prompts[mine][2]
    for text in ("Fill in field 7", "Book with doctor 3", "Pick"):
        answer = engine.submit(prompt, session="turns", max_new_tokens=4).result(20)
        assert answer.adapter == mine
        named = engine.submit(prompt, adapter=mine, max_new_tokens=4).result(20)
        assert answer.text == named.text
        prompt = go_on(prompt, answer.text, text)


def test_an_engine_with_little_hysteresis_leaves(tiny_engine: Engine, tiny_router: Path) -> None:
    """Its default is 0.2; the real probabilities say when."""
    asked = [ask(f"{verb} {n}", n) for n in range(12) for verb in ("Pick day", "Fill in field")]
    router, held, left = Router.load(tiny_router), -1, 0
    for prompt in asked:
        [alone] = tiny_engine.route_batch([prompt])
        found = tiny_engine.submit(prompt, session="little", max_new_tokens=1).result(20).route
        assert found is not None
        probabilities = list(alone.probabilities.values())
        stays = held >= 0 and (alone.abstained or max(probabilities) <= probabilities[held] + 0.2)
        expected = held if stays else alone.label
        assert found.label == expected
        assert found.held is (expected != alone.label)
        left += held >= 0 and expected not in (held, -1)
        held = expected if expected >= 0 else held
    assert len(router.labels) == 3
    assert left > 0, "it never left, so nothing was tried"
