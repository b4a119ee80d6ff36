import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pointsman.engine.engine import Engine
from pointsman.engine.sampling import Sampler, Sampling
from pointsman.errors import RequestError
from pointsman.models.base import Base
from support.engines import MIXED, make_engine, peft_text

HOT = {"temperature": 3.0, "top_p": 0.95, "top_k": 40}


@pytest.fixture(scope="module")
def engine(
    tiny_base_folder: Path, tiny_adapters: dict[str, str], tiny_router: Path
) -> Iterator[Engine]:
    with make_engine(tiny_base_folder, tiny_adapters, tiny_router, resident=2) as engine:
        yield engine


@pytest.mark.parametrize("penalty", [1.3, 0.7, 5.0])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_greedy_with_a_penalty_is_transformers_own(
    engine: Engine, reference: Base, index: int, penalty: float
) -> None:
    prompt, sampling = MIXED[index], Sampling(repetition_penalty=penalty)
    plain = engine.submit(MIXED[0], adapter="calendar", max_new_tokens=14)
    stream = engine.submit(prompt, adapter="claim-window", max_new_tokens=14, sampling=sampling)
    expected = peft_text(reference, prompt, "claim-window", 14, repetition_penalty=penalty)
    assert stream.result(20).text == expected
    assert plain.result(20).text == peft_text(reference, MIXED[0], "calendar", 14)


@pytest.mark.parametrize("routed", [False, True])
def test_a_seed_draws_the_same_whatever_else_is_in_the_batch(engine: Engine, routed: bool) -> None:
    """Routed too, where the decided adapter may not be on the device at first."""
    sampling = Sampling(**HOT, repetition_penalty=1.2, seed=7)

    def draw(index: int) -> str:
        name = None if routed else "provider-select"
        stream = engine.submit(MIXED[index], adapter=name, max_new_tokens=16, sampling=sampling)
        return stream.result(30).text

    alone = [draw(index) for index in range(4)]
    others = [
        engine.submit(
            MIXED[n % 5],
            adapter="calendar" if n % 2 else "claim-window",
            max_new_tokens=40,
            sampling=Sampling(temperature=2.0) if n % 3 else None,
        )
        for n in range(6)
    ]
    assert [draw(index) for index in range(4)] == alone
    for other in others:
        other.result(30)


def test_other_seeds_draw_others_and_none_draws_anew(engine: Engine) -> None:
    def draw(seed: int | None) -> str:
        sampling = Sampling(**HOT, seed=seed, ignore_eos=True)  # or some would be empty, and equal
        [answer] = engine.generate_batch(
            [MIXED[0]], adapter=["calendar"], max_new_tokens=16, sampling=sampling
        )
        return answer.text

    assert len({draw(seed) for seed in range(5)}) == 5
    assert len({draw(None) for _ in range(5)}) == 5


@pytest.mark.parametrize("only", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-45}])
def test_only_the_likeliest_is_greedy(
    engine: Engine, reference: Base, only: dict[str, float]
) -> None:
    sampling = Sampling(**{"temperature": 4.0} | only)  # type: ignore[arg-type]
    [answer] = engine.generate_batch(
        [MIXED[0]], adapter=["calendar"], max_new_tokens=10, sampling=sampling
    )
    assert answer.text == peft_text(reference, MIXED[0], "calendar", 10)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("inf")),
        ("temperature", float("nan")),
        ("temperature", 1e30),
        ("temperature", "hot"),
        ("temperature", None),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", float("nan")),
        ("top_p", "0.5"),
        ("top_k", -1),
        ("top_k", 2.5),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", float("nan")),
        ("repetition_penalty", 1e-300),
        ("repetition_penalty", 1e300),
        ("repetition_penalty", True),
        ("seed", 2**64),
        ("seed", 1.5),
        ("min_p", -0.1),
        ("min_p", 1.5),
        ("min_p", float("nan")),
        ("frequency_penalty", 2.1),
        ("frequency_penalty", "1"),
        ("presence_penalty", -2.1),
        ("presence_penalty", float("nan")),
        ("stop", "a string"),
        ("stop", ["a list"]),
        ("stop", ("",)),
        ("stop", (7,)),
        ("stop", tuple("abcdefghijklmnopq")),
        ("min_tokens", -1),
        ("min_tokens", 1.5),
        ("min_tokens", True),
        ("ignore_eos", 1),
        ("logprobs", -1),
        ("logprobs", 21),
        ("logprobs", True),
    ],
)
def test_what_is_out_of_range_is_named(name: str, value: object) -> None:
    with pytest.raises(RequestError, match=f"^{name} is {re.escape(repr(value))}, out of range"):
        Sampling(**{name: value})  # type: ignore[arg-type]


EXTREMES = [
    Sampling(**options, top_p=top_p, top_k=top_k, seed=1)
    for options in (
        {"temperature": 1e-30},
        {"temperature": 1e-5},
        {"temperature": 100.0},
        {"temperature": 1.0, "repetition_penalty": 0.01},
        {"temperature": 1e-5, "repetition_penalty": 100.0},
    )
    for top_p, top_k in ((1.0, 0), (1e-300, 0), (0.5, 10**9))
]


def test_what_is_in_range_makes_finite_probabilities() -> None:
    torch.manual_seed(0)
    for sampling in EXTREMES:
        for scale in (1e-4, 1.0, 60.0):
            token = Sampler(sampling, [1, 2, 3]).draw(torch.randn(300) * scale)
            assert 0 <= token < 300


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_probabilities_are_checked_before_the_draw(bad: float) -> None:
    """On CUDA, the draw would end the work of the whole process."""
    logits = torch.zeros(20)
    logits[3] = bad
    with pytest.raises(RequestError, match=r"temperature=1.*that are not finite"):
        Sampler(Sampling(temperature=1), [1]).draw(logits)


def test_the_default_is_greedy() -> None:
    assert Sampling().is_plain
    assert not Sampling(temperature=1).is_plain
    assert not Sampling(repetition_penalty=1.1).is_plain


@pytest.mark.parametrize(
    ("option", "is_plain", "is_beyond"),
    [
        ({"top_p": 0.5, "top_k": 3, "min_p": 0.2, "seed": 1}, True, False),
        ({"stop": ("a",)}, True, True),
        ({"logprobs": 0}, True, True),
        ({"ignore_eos": True}, True, True),
        ({"min_tokens": 1}, False, True),
        ({"frequency_penalty": 0.1}, False, True),
        ({"presence_penalty": -0.1}, False, True),
        ({"temperature": 1.0}, False, True),
    ],
)
def test_what_greedy_answers_without_options_cannot_do(
    option: dict[str, object], is_plain: bool, is_beyond: bool
) -> None:
    sampling = Sampling(**option)  # type: ignore[arg-type]
    assert sampling.is_plain == is_plain
    assert sampling.beyond_greedy == (tuple(option) if is_beyond else ())


@pytest.mark.parametrize(("frequency", "presence"), [(0.7, 0.0), (0.0, 1.5), (-1.0, 0.4), (2, -2)])
def test_penalties_count_the_answer_alone(frequency: float, presence: float) -> None:
    torch.manual_seed(1)
    sampling = Sampling(frequency_penalty=frequency, presence_penalty=presence)
    sampler, said = Sampler(sampling, [0, 1, 1, 2, 3]), list[int]()
    for _ in range(40):
        logits = torch.randn(12)
        expected = logits.clone()
        for token in set(said):
            expected[token] -= frequency * said.count(token) + presence
        said.append(sampler.draw(logits))
        assert said[-1] == int(expected.argmax())


def test_min_p_keeps_what_is_likely_enough() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    for least, kept in ((0.0, 4), (0.2, 3), (0.5, 2), (0.9, 1), (1.0, 1)):
        sampler = Sampler(Sampling(temperature=1, min_p=least, seed=0), [])
        assert {sampler.draw(logits) for _ in range(300)} == set(range(kept))


def test_no_token_ends_an_answer_before_its_least_length() -> None:
    logits = torch.tensor([5.0, 4.0, 1.0, 0.0])
    sampler = Sampler(Sampling(min_tokens=2), [0, 1, 2], ends={0, 1})
    assert [sampler.draw(logits) for _ in range(4)] == [2, 2, 0, 0]


def test_penalties_in_the_engine(engine: Engine) -> None:
    """An answer with the highest penalty repeats fewer tokens than a plain one."""

    def repeated(sampling: Sampling | None) -> int:
        [answer] = engine.generate_batch(
            [MIXED[0]], adapter=["calendar"], max_new_tokens=40, sampling=sampling
        )
        return len(answer.text) - len(set(answer.text))

    strongest = Sampling(frequency_penalty=2, presence_penalty=2)
    assert repeated(strongest) <= repeated(None)
