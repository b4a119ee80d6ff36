import random
import string

import pytest
from peft.tuners._buffer_dict import BufferDict
from torch import nn

from pointsman.errors import LabelError, MismatchError
from pointsman.labels import OUT_OF_SCOPE, RESERVED, LabelMap, check_name

LABELS = LabelMap(("calendar", "claim-window", "provider-select"))


def random_names(rng: random.Random, count: int) -> tuple[str, ...]:
    letters = string.ascii_lowercase + string.digits
    names = {"".join(rng.choices(letters, k=8)) for _ in range(count)}
    return tuple(rng.sample(sorted(names), len(names)))


def test_a_name_is_its_index_and_back() -> None:
    rng = random.Random(0)
    for _ in range(50):
        names = random_names(rng, rng.randrange(1, 20))
        labels = LabelMap(names)
        assert tuple(labels) == names
        assert len(labels) == len(names)
        for label, name in enumerate(names):
            assert labels.name(label) == name
            assert labels.label(name) == label


def test_names_are_never_sorted() -> None:
    assert LabelMap(("b", "a", "c")).names == ("b", "a", "c")
    assert str(LabelMap(("b", "a"))) == "[0=b, 1=a]"


def test_the_digest_is_of_names_and_order() -> None:
    rng = random.Random(1)
    for _ in range(50):
        names = random_names(rng, 5)
        shuffled = tuple(rng.sample(names, len(names)))
        same = LabelMap(names).digest == LabelMap(shuffled).digest
        assert same is (names == shuffled)
    assert LabelMap(("ab", "c")).digest != LabelMap(("a", "bc")).digest
    assert LABELS.digest != LabelMap(LABELS.names[:2]).digest


def test_growth_appends_and_old_labels_keep_their_meaning() -> None:
    grown = LABELS.extended(["invoice", "bank"])
    assert grown.names == (*LABELS.names, "invoice", "bank")
    for name in LABELS:
        assert grown.label(name) == LABELS.label(name)
    assert LABELS.extended([]) == LABELS
    with pytest.raises(LabelError, match="'calendar' and 'Calendar' are the same name"):
        LABELS.extended(["Calendar"])


@pytest.mark.parametrize("twin", ["calendar", "Calendar", "CALENDAR"])
def test_names_are_unique_whatever_their_case(twin: str) -> None:
    with pytest.raises(LabelError, match=f"'calendar' and '{twin}' are the same name; rename"):
        LabelMap(("calendar", "other", twin))


@pytest.mark.parametrize("name", ["a", "7", "A-b_9", "x" * 64, "Base-2"])
def test_legal_names(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "a.b", "a/b", "-a", "_a", "ä", "a\n", "x" * 65, "a b", "../a"]
)
def test_illegal_names(name: str) -> None:
    with pytest.raises(LabelError, match="is not legal; use 1 to 64 letters, digits") as error:
        check_name(name)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_names(name: str) -> None:
    with pytest.raises(LabelError, match=f"'{name}' is reserved; choose another"):
        LabelMap(("calendar", name))


def test_no_names_at_all() -> None:
    with pytest.raises(LabelError, match="at least one adapter name"):
        LabelMap(())


@pytest.mark.parametrize("label", [3, 100, OUT_OF_SCOPE, -3])
def test_a_label_out_of_range_has_no_name(label: int) -> None:
    with pytest.raises(LabelError, match=rf"label {label} is out of range: .*0=calendar.*0 to 2"):
        LABELS.name(label)


@pytest.mark.parametrize("name", ["Calendar", "calenda", "nobody", ""])
def test_an_unknown_name_is_not_guessed(name: str) -> None:
    with pytest.raises(LabelError, match=rf"unknown adapter '{name}': the label map is \[0=cal"):
        LABELS.label(name)


def test_a_mismatch_names_both_sides_and_the_hint() -> None:
    LABELS.check_same(LabelMap(LABELS.names), "a", "b", "fix it")
    other = LabelMap(("claim-window", "calendar", "provider-select"))
    with pytest.raises(MismatchError) as error:
        LABELS.check_same(other, "data.json", "the router", "fix it")
    assert str(error.value) == (
        "data.json has the labels [0=calendar, 1=claim-window, 2=provider-select], "
        "the router has [0=claim-window, 1=calendar, 2=provider-select]; fix it"
    )


@pytest.mark.parametrize("names", [None, "calendar", {"calendar": 0}, ["a", 1], [["a"]], 3])
def test_what_is_no_list_of_names_is_refused_naming_the_file(names: object) -> None:
    with pytest.raises(LabelError, match=r"^config\.json: the adapter names are .*not a list"):
        LabelMap.from_json(names, "config.json")


def test_names_from_a_file_are_refused_naming_the_file() -> None:
    assert LabelMap.from_json(["b", "a"], "config.json").names == ("b", "a")
    with pytest.raises(LabelError, match=r"^config\.json: adapter name 'a\.b' is not legal"):
        LabelMap.from_json(["a.b"], "config.json")


def test_random_text_is_a_legal_map_or_one_clear_line() -> None:
    rng = random.Random(2)
    legal = 0
    for _ in range(2000):
        name = "".join(rng.choices("aZ09-_. /\n\u00e4\U0001f600", k=rng.randrange(5)))
        try:
            assert LabelMap((name,)).label(name) == 0
            legal += 1
        except LabelError as error:
            message = str(error)
        else:
            continue
        assert "\n" not in message
    assert 100 < legal < 1900


def test_names_that_peft_cannot_hold() -> None:
    holders = (nn.ModuleDict(), nn.ParameterDict(), BufferDict({}))
    names = sorted({name for holder in holders for name in dir(holder) if name[0].isalnum()})
    assert {"train", "keys", "update"} < set(names)
    for name in names:
        with pytest.raises(LabelError, match="choose another name"):
            check_name(name)
