import json
from pathlib import Path
from typing import get_args

import pytest

from pointsman.conversation import History, Turn, routed_part, user_turn
from pointsman.dialects.json_files import read_values
from pointsman.errors import SampleError
from pointsman.labels import LabelMap
from pointsman.sample import parse_sample, read_samples, to_jsonl

LABELS = LabelMap(("calendar", "claim-window"))


def record(**changes: object) -> dict[str, object]:
    return {
        "conversations": [
            {"from": "human", "value": "<image>\nClick December 3"},
            {"from": "gpt", "value": "secret answer"},
        ],
        "image": "images/a.png",
        "label": 0,
        "adapter": "calendar",
        "bbox": [1, 2, 3.5, 4],
    } | changes


def test_a_sample_is_read_whole_and_keeps_unknown_keys() -> None:
    sample = parse_sample(record(stratum="plain"), LABELS, "a:1")
    assert sample.turns == (user_turn("Click December 3"), Turn("assistant", ("secret answer",)))
    assert sample.images == ("images/a.png",)
    assert (sample.label, sample.adapter) == (0, "calendar")
    assert sample.bbox == (1.0, 2.0, 3.5, 4.0)
    assert sample.extra == {"stratum": "plain"}
    assert sample.instruction == "Click December 3"
    assert sample.answer == "secret answer"


def test_writing_and_reading_a_sample_changes_nothing() -> None:
    sample = parse_sample(record(stratum="plain", image=["a.png", "b.png"], conversations=[
        {"from": "system", "value": "Be brief"},
        {"from": "human", "value": "Left <image>\nright\n<image>\nWhich?"},
        {"from": "gpt", "value": "Ä \u2028 \"quoted\"\nline"},
        {"from": "human", "value": ""},
    ]), LABELS, "a:1")  # fmt: skip
    (line,) = to_jsonl([sample.record()]).split("\n")[:-1]
    assert parse_sample(json.loads(line), LABELS, "a:1") == sample


def test_the_prompt_holds_no_assistant_turn() -> None:
    turns = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "leak"},
        {"role": "tool", "content": "T"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "leak"},
    ]
    sample = parse_sample({"messages": turns}, None, "a:1")
    assert [turn.text for turn in sample.prompt] == ["S", "one", "T", "two"]
    assert sample.instruction == "two"


def test_messages_and_images_are_the_same_sample_as_conversations_and_image() -> None:
    other = {
        "messages": [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Go"}]},
            {"role": "assistant", "content": "ok"},
        ],
        "images": ["a.png"],
    }
    same = {
        "conversations": [
            {"from": "human", "value": "<image>\nGo"},
            {"from": "gpt", "value": "ok"},
        ],
        "image": "a.png",
    }
    assert parse_sample(other, None, "a:1") == parse_sample(same, None, "a:1")


def test_images_without_a_placeholder_stand_before_the_first_user_text() -> None:
    turns = [{"from": "system", "value": "S"}, {"from": "human", "value": "Go"}]
    sample = parse_sample({"conversations": turns, "images": ["a", "b"]}, None, "a:1")
    assert sample.turns[1].parts == (None, None, "Go")


def test_an_unlabelled_source_may_hold_any_label() -> None:
    sample = parse_sample(record(label=7, adapter="other"), None, "a:1")
    assert (sample.label, sample.adapter, sample.in_scope) == (None, None, False)
    assert sample.labelled(LABELS, "claim-window").label == 1
    assert sample.labelled(LABELS, None).label == -1


def test_out_of_scope_is_label_minus_one_and_no_adapter() -> None:
    sample = parse_sample(record(label=-1, adapter=None), LABELS, "a:1")
    assert not sample.in_scope
    assert sample.record()["adapter"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conversations": None}, "needs 'conversations' or 'messages'"),
        ({"conversations": []}, "needs 'conversations' or 'messages'"),
        ({"conversations": ["hi"]}, "a turn is a JSON object"),
        ({"conversations": [{"from": "gpt", "value": "x"}]}, "no human turn"),
        ({"conversations": [{"from": "narrator", "value": "x"}]}, "from 'narrator'"),
        ({"conversations": [{"from": "human", "value": 3}]}, "has no text"),
        ({"image": None}, "1 <image> placeholders for 0 images"),
        ({"image": 3}, "give its path"),
        ({"image": ""}, "1 <image> placeholders for 0 images"),
        ({"bbox": [3, 0, 1, 1]}, "x0 < x1"),
        ({"bbox": [0, 0, 1]}, "x0 < x1"),
        ({"bbox": [0, 0, 10**400, 1]}, "x0 < x1"),
        ({"bbox": [0, 0, float("nan"), 1]}, "x0 < x1"),
        ({"label": 2}, "label 2 is out of range"),
        ({"label": True}, "not an integer"),
        ({"label": "0"}, "not an integer"),
        ({"label": 1}, "label 1 means 'claim-window' but adapter says 'calendar'"),
        ({"label": -1}, "label -1 means None but adapter says 'calendar'"),
    ],
)
def test_a_faulty_sample_is_refused_by_name(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SampleError, match=r"^data\.jsonl:7: ") as raised:
        parse_sample(record(**changes), LABELS, "data.jsonl:7")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("key", ["label", "adapter"])
def test_a_sample_without_its_label_is_refused(key: str) -> None:
    labelled = record()
    del labelled[key]
    with pytest.raises(SampleError, match=f"has no '{key}'"):
        parse_sample(labelled, LABELS, "a:1")


def test_image_paths_come_back_joined_to_the_folder_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(to_jsonl([record(), record(image="/abs/b.png")]))
    first, second = read_samples(file, LABELS)
    assert first.images == (str(tmp_path / "images/a.png"),)
    assert second.images == ("/abs/b.png",)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "holds no samples"), (b"\xff\xfe\x00", "cannot be read")],
)
def test_a_file_without_samples_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "a.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SampleError, match=message):
        read_samples(file, LABELS)


def test_every_real_screen_survives_a_round_trip(screens: Path) -> None:
    labels = LabelMap(("calendar", "claim-window", "provider-select"))
    for where, value in read_values(screens / "samples.jsonl"):
        sample = parse_sample(value, labels, where)
        assert parse_sample(sample.record(), labels, where) == sample
        assert sample.answer not in [turn.text for turn in sample.prompt]


CONVERSATION = (
    Turn("system", ("Be brief.",)),
    Turn("user", (None, "Pick day 3")),
    Turn("assistant", ("I am the calendar adapter",)),
    Turn("tool", (None, "done")),
    Turn("user", ("And in the other month?",)),
    Turn("assistant", ("I still am",)),
)


def test_no_answer_is_ever_seen_by_the_router() -> None:
    turns, images = routed_part(CONVERSATION, ("before", "after"), "conversation")
    assert [turn.role for turn in turns] == ["system", "user", "tool", "user"]
    assert images == ("before", "after")
    shown = (Turn("user", (None, "Look")), Turn("assistant", (None, "mine")), user_turn("Go", 1))
    assert routed_part(shown, (1, 2, 3), "conversation") == ((shown[0], shown[2]), (1, 3))
    assert routed_part(shown, (1, 2, 3), "last-user") == ((shown[2],), (3,))


def test_the_last_user_turn_is_seen_with_the_screen_that_it_speaks_of() -> None:
    seen = routed_part(CONVERSATION, ("before", "after"), "last-user")
    assert seen == ((user_turn("And in the other month?", 1),), ("after",))
    both = (*CONVERSATION[:-1], user_turn("Compare", 2))
    assert routed_part(both, (1, 2, 3, 4), "last-user") == ((user_turn("Compare", 2),), (3, 4))
    text = (user_turn("Hello", 0), Turn("assistant", ("Hi",)), user_turn("Go on", 0))
    assert routed_part(text, (), "last-user") == ((user_turn("Go on", 0),), ())
    # The image that an answer shows is the answer's.
    drawn = (user_turn("Draw", 0), Turn("assistant", (None,)), user_turn("Again", 0))
    assert routed_part(drawn, ("picture",), "last-user") == ((user_turn("Again", 0),), ())


def test_a_single_turn_is_all_that_there_is() -> None:
    turns = (user_turn("Pick day 3"),)
    for history in get_args(History):
        assert routed_part(turns, ("a",), history) == (turns, ("a",))


def test_conversations_of_which_nothing_can_be_seen() -> None:
    with pytest.raises(SampleError, match="2 images for 1 places"):
        routed_part((user_turn("x"),), (1, 2), "last-user")
    with pytest.raises(SampleError, match="nothing to route on"):
        routed_part((Turn("assistant", ("x",)),), (), "conversation")
