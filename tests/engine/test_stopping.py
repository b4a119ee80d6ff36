"""Stop strings, least lengths and answers that go on: pieces, tokens and slots."""

import random
from collections.abc import Callable, Iterator

import pytest

from pointsman.engine.engine import Engine
from pointsman.engine.sampling import Sampling
from pointsman.engine.stopping import Stopping
from support.engines import MIXED, batch_of

LONG = 24


def passed(stops: tuple[str, ...], pieces: list[str]) -> tuple[list[str], str | None]:
    """What is passed on of an answer of these pieces, and the stop string that ended it."""
    stopping, said = Stopping(stops), []
    for piece in pieces:
        said.append(stopping.add(piece))
        if stopping.found:
            break
    return [*said, stopping.flush()], stopping.found


@pytest.mark.parametrize(
    ("stops", "text", "expected", "found"),
    [
        (("b",), "abc", "a", "b"),
        (("bcd", "c"), "abcd", "ab", "c"),
        (("c", "bc"), "abcd", "a", "bc"),
        (("aab",), "aaaab", "aa", "aab"),
        (("abac",), "ababac", "ab", "abac"),
        (("abcx",), "abc", "abc", None),
        (("né",), "an né", "an ", "né"),
        (("日本",), "日日本", "日", "日本"),
        (("x", "a"), "a", "", "a"),
        ((), "abc", "abc", None),
    ],
)
def test_the_cut_does_not_depend_on_the_pieces(
    stops: tuple[str, ...], text: str, expected: str, found: str | None
) -> None:
    for pieces in ([text], list(text), [text[:2], text[2:]], ["", text[:-1], text[-1:]]):
        said, by = passed(stops, pieces)
        assert ("".join(said), by) == (expected, found), pieces


def test_random_texts_against_one_character_at_a_time() -> None:
    rng = random.Random(0)

    def word(least: int, most: int) -> str:
        return "".join(rng.choice("ab") for _ in range(rng.randint(least, most)))

    for _ in range(2000):
        stops, text = tuple(word(1, 4) for _ in range(rng.randint(1, 3))), word(0, 12)
        ends = [
            (end, -len(stop)) for end in range(len(text) + 1) for stop in stops
            if text[:end].endswith(stop)
        ]  # fmt: skip
        expected = text[: sum(min(ends))] if ends else text
        pieces, rest = [], text
        while rest:
            cut = rng.randint(1, len(rest))
            pieces.append(rest[:cut])
            rest = rest[cut:]
        said, found = passed(stops, pieces)
        assert "".join(said) == expected
        assert (found is None) == (not ends)


def test_text_that_can_be_no_stop_string_is_not_held_back() -> None:
    stopping = Stopping(("<end>",))
    assert [stopping.add(piece) for piece in ("a", "b<", "e", "x", "<")] == [
        "a",
        "b",
        "",
        "<ex",
        "",
    ]
    assert stopping.flush() == "<"


@pytest.fixture(scope="module")
def slotted(make: Callable[..., Engine]) -> Iterator[Engine]:
    with make(slots=2) as engine:
        yield engine


def whole(engine: Engine, index: int, sampling: Sampling | None = None) -> str:
    """The text of an answer of ``LONG`` tokens, as it is streamed."""
    stream = engine.submit(MIXED[index], adapter="calendar", max_new_tokens=LONG, sampling=sampling)
    return "".join(stream)


@pytest.mark.parametrize("index", range(len(MIXED)))
def test_answers_end_before_a_stop_string(slotted: Engine, index: int) -> None:
    """Tokens of the tiny base are bytes: each stop string spans several of them."""
    text = whole(slotted, index)
    for start, length in ((0, 1), (3, 2), (5, 4), (9, 3)):
        stop = text[start : start + length]
        stream = slotted.submit(
            MIXED[index],
            adapter="calendar",
            max_new_tokens=1500,
            sampling=Sampling(stop=("never said", stop)),
        )
        pieces = list(stream)
        answer = stream.result(20)
        expected = text[: text.find(stop)]
        assert "".join(pieces) == expected
        assert (answer.text, answer.stop) == (expected.strip(), stop)
        assert answer.finish_reason == "stop"
        assert answer.completion_tokens <= LONG
        assert batch_of(slotted).at_work == []


def test_a_stop_string_that_does_not_come_changes_nothing(slotted: Engine) -> None:
    for index in range(len(MIXED)):
        text = whole(slotted, index)
        for stop in (text[-3:] + "!", "never said"):  # the first is held back at the end
            assert whole(slotted, index, Sampling(stop=(stop,))) == text


def test_sampled_answers_are_cut_too(slotted: Engine) -> None:
    options = {"temperature": 3.0, "seed": 4}
    text = whole(slotted, 0, Sampling(**options))  # type: ignore[arg-type]
    stop = text[6:9]
    cut = whole(slotted, 0, Sampling(**options, stop=(stop,)))  # type: ignore[arg-type]
    assert cut == text[: text.find(stop)]


def test_others_in_the_batch_are_answered_as_before(slotted: Engine) -> None:
    alone = [whole(slotted, index) for index in range(len(MIXED))]
    stops = Sampling(stop=(alone[0][4:6],), logprobs=2)
    penalties = Sampling(frequency_penalty=1.5, min_tokens=3)
    streams = [
        slotted.submit(prompt, adapter="calendar", max_new_tokens=LONG, sampling=sampling)
        for prompt in MIXED
        for sampling in (stops, None, penalties)
    ]
    assert ["".join(stream) for stream in streams[1::3]] == alone
    for stream in streams:
        stream.result(20)


@pytest.fixture
def ended(slotted: Engine, monkeypatch: pytest.MonkeyPatch) -> int:
    """Makes the most likely first token of the first prompt end answers; returns it."""
    first = Sampling(logprobs=0)
    [answer] = slotted.generate_batch(
        [MIXED[0]], adapter="calendar", max_new_tokens=1, sampling=first
    )
    assert answer.logprobs is not None
    [entry] = answer.logprobs
    vocabulary = slotted.base.tokenizer.get_vocab().values()
    [token] = [t for t in vocabulary if batch_of(slotted)._logprobs._bytes_of(t) == entry.bytes]
    monkeypatch.setattr(batch_of(slotted), "_ends", frozenset([token]))
    return int(token)


def answered(engine: Engine, **options: object) -> tuple[str, int]:
    [answer] = engine.generate_batch(
        [MIXED[0]], adapter="calendar", max_new_tokens=LONG, sampling=Sampling(**options)  # type: ignore[arg-type]
    )  # fmt: skip
    return answer.finish_reason, answer.completion_tokens


def test_an_answer_has_its_least_tokens(slotted: Engine, ended: int) -> None:
    assert answered(slotted) == ("stop", 1)
    for least in (1, 4, LONG + 10):
        reason, tokens = answered(slotted, min_tokens=least)
        assert tokens > least if reason == "stop" else tokens == LONG


def test_an_answer_goes_on_after_its_end(slotted: Engine, ended: int) -> None:
    assert answered(slotted, ignore_eos=True) == ("length", LONG)
