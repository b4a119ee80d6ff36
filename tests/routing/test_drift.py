"""Drift: found where it is, and seldom where it is not."""

import random
from pathlib import Path

import torch

from pointsman.conversation import user_turn
from pointsman.routing.decision import Decision
from pointsman.routing.drift import (
    Reference,
    Share,
    against_validation,
    chance_of_spreads,
    moved,
    spread_of,
    spreads_against_validation,
    within_log,
)
from pointsman.routing.route import Route
from pointsman.routing.router import Router


def decision(confidence: float, score: float, router: str = "a" * 64) -> Decision:
    abstained = score < 0
    route = Route(
        label=-1 if abstained else 0,
        adapter=None if abstained else "one",
        probabilities={"one": confidence, "two": 1 - confidence},
        abstained=abstained,
        score=score,
    )
    return Decision("now", "id", None, "auto", (user_turn("x", 0),), (), route, router, "peft")


def drawn(rng: random.Random, n: int, shift: float = 0) -> list[Decision]:
    return [decision(rng.uniform(0.6, 1), rng.gauss(1.5 + shift, 1)) for _ in range(n)]


def test_a_shift_within_the_log_is_told() -> None:
    rng = random.Random(0)
    lines = within_log(drawn(rng, 200) + drawn(rng, 200, shift=-1.5))
    assert [line.split()[0] for line in lines] == ["warning:"] * 2
    assert "abstained on" in lines[0]
    assert "score has moved" in lines[1]


def test_without_a_shift_alarms_are_rare() -> None:
    rng = random.Random(1)
    alarms = sum("warning" in within_log(drawn(rng, 120))[0] for _ in range(200))
    assert alarms <= 12  # three tests at one in a hundred each


def test_only_the_newest_router_counts() -> None:
    rng = random.Random(2)
    old = [decision(0.6, -5, "b" * 64) for _ in range(100)]
    assert within_log(old + drawn(rng, 100)) == ["no drift within the log of 100 decisions"]
    assert "10 decisions of one router are too few" in within_log(old + drawn(rng, 10))[0]


def test_abstentions_are_compared_with_validation() -> None:
    training = {"validated": {"in_scope": 200, "kept": 190}}
    [more] = against_validation(Share(60, 300), training, "the candidate")
    assert more.startswith("warning: the candidate abstains on 20.0% of 300 logged requests, and ")
    assert more.endswith("of those of training") or "unlike those of training" in more
    [chance] = against_validation(Share(18, 300), training, "the candidate")
    assert chance.endswith("no more than chance")
    [less] = against_validation(
        Share(0, 900), {"validated": {"in_scope": 200, "kept": 150}}, "the candidate"
    )
    assert "easier" in less
    assert "too few" in against_validation(Share(9, 10), training, "x")[0]
    for record in ({}, training | {"extended": []}):
        assert "no sealed validation" in against_validation(Share(9, 100), record, "x")[0]


def test_shares_without_any_hit_have_not_moved() -> None:
    assert not moved(Share(0, 50), Share(0, 60))
    assert not moved(Share(50, 50), Share(60, 60))
    assert moved(Share(0, 500), Share(60, 60))


def test_training_seals_how_its_decisions_are_spread(tiny_router: Path) -> None:
    training = Router.load(tiny_router).training
    kept, spreads = training["validated"]["kept"], training["spreads"]
    assert set(spreads) == {"confidence", "score"}
    assert all(values == sorted(values) for values in spreads.values())
    assert all(0 < len(values) <= 200 for values in spreads.values())
    assert abs(len(spreads["score"]) - min(200, kept)) <= 2  # nested validation keeps as many
    reference = Reference.of(training)
    assert reference.spreads == spreads
    assert Reference.of(training | {"extended": []}) == (None, {})
    assert Reference.of({}) == (None, {})


def test_spreads_are_compared_with_validation() -> None:
    rng = random.Random(5)
    training = {
        "validated": {"in_scope": 400, "kept": 390},
        "spreads": {
            name: spread_of(torch.tensor([float(getattr(d.route, name)) for d in drawn(rng, 900)]))
            for name in ("confidence", "score")
        },
    }
    assert len(training["spreads"]["score"]) == 200

    def lines(number: int, shift: float = 0.0) -> list[str]:
        routes = [each.route for each in drawn(rng, number, shift=shift)]
        return spreads_against_validation(routes, training, "the router")

    assert sum("warning" in lines(100)[0] for _ in range(100)) <= 5
    assert "warning: the router has score" in "".join(lines(100, shift=1.5))
    assert "too few" in lines(20)[0]
    assert "does not hold" in spreads_against_validation([], {}, "the router")[0]


def test_digits_that_a_batch_changes_are_no_drift() -> None:
    sure = [1 - 1e-7 * n for n in range(200)]
    assert chance_of_spreads(sure, [1.0] * 200) == 1.0
    assert chance_of_spreads(sure, [0.99] * 200) < 1e-4
