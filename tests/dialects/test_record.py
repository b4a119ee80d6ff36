"""What each shape of a training set becomes, or the reason why it is refused."""

import base64
import random
from typing import Any

import pytest

from pointsman.conversation import Turn
from pointsman.dialects.record import TURN_KEYS, Conversation, read_record
from pointsman.errors import SampleError
from pointsman.sample import parse_sample

CLICK = (
    '<tool_call>\n{"name": "computer_use", "arguments": '
    '{"action": "left_click", "coordinate": [500, 250]}}\n</tool_call>'
)
ARGUMENTS = '{"action": "left_click", "coordinate": [500, 250]}'
CALL = {"name": "computer_use", "arguments": ARGUMENTS}
OPENAI_CALL = {"id": "1", "type": "function", "function": CALL}
PNG = b"\x89PNG content"
DATA_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()


def user(*parts: str | None) -> Turn:
    return Turn("user", parts)


def said(text: str) -> Turn:
    return Turn("assistant", (text,))


def messages(content: Any, answer: Any = "ok", **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    return {"messages": turns, **more}


def sharegpt(question: str, answer: str = "ok", **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"conversations": turns, **more}


LOOK, OK = user(None, "Look"), said("ok")
ONE_IMAGE = ("a.png",)
TEXT_PART = {"type": "text", "text": "Look"}
READ: dict[str, tuple[dict[str, Any], tuple[Turn, ...], tuple[Any, ...]]] = {
    "LLaVA, Qwen": (sharegpt("<image>\nLook", image="a.png"), (LOOK, OK), ONE_IMAGE),
    "Qwen, the image last": (
        sharegpt("Look\n<image>", image="a.png"),
        (user("Look", None), OK),
        ONE_IMAGE,
    ),
    "Qwen, several images": (
        sharegpt("<image>\n<image>\nLook", image=["a.png", "b.png"]),
        (user(None, None, "Look"), OK),
        ("a.png", "b.png"),
    ),
    "text alone": (sharegpt("Hi"), (user("Hi"), OK), ()),
    "LLaMA-Factory": (messages("<image>Look", images=["a.png"]), (LOOK, OK), ONE_IMAGE),
    "ms-swift, one path": (messages("<image>Look", images="a.png"), (LOOK, OK), ONE_IMAGE),
    "TRL parts": (
        messages(
            [{"type": "image"}, TEXT_PART], [{"type": "text", "text": "ok"}], images=["a.png"]
        ),
        (LOOK, OK),
        ONE_IMAGE,
    ),
    "inline image": (
        messages([{"type": "image", "image": "a.png"}, TEXT_PART]),
        (LOOK, OK),
        ONE_IMAGE,
    ),
    "inline images, listed once more": (
        messages([{"type": "image", "image": "a.png"}, TEXT_PART], images=["a.png"]),
        (LOOK, OK),
        ONE_IMAGE,
    ),
    "inline path, another part's from the column": (
        messages([{"type": "image", "path": "b.png"}, {"type": "image"}, TEXT_PART], image="a.png"),
        (user(None, None, "Look"), OK),
        ("b.png", "a.png"),
    ),
    "OpenAI image_url": (
        messages([{"type": "image_url", "image_url": {"url": "a.png"}}, TEXT_PART]),
        (LOOK, OK),
        ONE_IMAGE,
    ),
    "OpenAI data URL": (
        messages([{"type": "input_image", "image_url": DATA_URL}, {"text": "Look"}]),
        (LOOK, OK),
        (PNG,),
    ),
    "parts with Base64": (
        messages([{"type": "image", "base64": DATA_URL.partition(",")[2]}, TEXT_PART]),
        (LOOK, OK),
        (PNG,),
    ),
    "parts of a table": (
        messages(
            [{"index": 1, "type": "image", "text": None}, {"index": 0, "type": "image"}, TEXT_PART],
            images=["a.png", "b.png"],
        ),
        (user(None, None, "Look"), OK),
        ("b.png", "a.png"),
    ),
    "Hugging Face images": (
        messages(
            "<image><image><image>Look",
            images=[{"bytes": PNG, "path": "x.png"}, {"bytes": None, "path": "a.png"}, PNG],
        ),
        (user(None, None, None, "Look"), OK),
        (PNG, "a.png", PNG),
    ),
    "JSON text of a table": (
        {"messages": '[{"role": "user", "content": "<image>Look"}]', "images": '["a.png"]'},
        (LOOK,),
        ONE_IMAGE,
    ),
    "file URL": (sharegpt("<image>\nLook", image="file:///x/a.png"), (LOOK, OK), ("/x/a.png",)),
    "an image and no text": (
        {"messages": [{"role": "user", "content": ""}], "image": "a.png"},
        (user(None),),
        ONE_IMAGE,
    ),
    "no image: empty text": (sharegpt("Hi", image=""), (user("Hi"), OK), ()),
    "no image: null in a list": (sharegpt("Hi", images=[None]), (user("Hi"), OK), ()),
    "no image: empty object": (
        sharegpt("Hi", images=[{"bytes": None, "path": None}]),
        (user("Hi"), OK),
        (),
    ),
    "image beside empty images": (
        sharegpt("<image>\nLook", image="a.png", images=[]),
        (LOOK, OK),
        ONE_IMAGE,
    ),
    "prompt and completion": (
        {"prompt": "Look", "completion": "ok", "image": "a.png"},
        (LOOK, OK),
        ONE_IMAGE,
    ),
    "prompt and completion as turns": (
        {
            "prompt": [{"role": "user", "content": "Look"}],
            "completion": [{"role": "assistant", "content": "ok"}],
            "image": "a.png",
        },
        (LOOK, OK),
        ONE_IMAGE,
    ),
    "texts that are JSON of something else": (
        {"prompt": "[1, 2]", "completion": '[{"bbox_2d": [1, 2, 3, 4]}]'},
        (user("[1, 2]"), said('[{"bbox_2d": [1, 2, 3, 4]}]')),
        (),
    ),
    "alpaca": (
        {"instruction": "Look", "input": "here", "output": "ok", "images": ["a.png"]},
        (user(None, "Look\nhere"), OK),
        ONE_IMAGE,
    ),
    "query and response": (
        {"system": "S", "query": "Go", "response": "ok", "history": [["Hi", "Hello"]]},
        (Turn("system", ("S",)), user("Hi"), said("Hello"), user("Go"), OK),
        (),
    ),
    "ms-swift exchanges": (
        {
            "system": "S",
            "conversation": [{"assistant": "ok", "human": "<image>Look"}],
            "images": ["a.png"],
        },
        (Turn("system", ("S",)), LOOK, OK),
        ONE_IMAGE,
    ),
    "the Cauldron": (
        {"texts": [{"user": "Look", "assistant": "ok", "source": None}], "images": [PNG]},
        (LOOK, OK),
        (PNG,),
    ),
    "system column": (
        sharegpt("Hi", system="S", tools="[]"),
        (Turn("system", ("S",)), user("Hi"), OK),
        (),
    ),
    "system column, said twice": (
        {
            "system": "S",
            "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}],
        },
        (Turn("system", ("S",)), user("Hi")),
        (),
    ),
    "OpenAI calls without content": (
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": None, "tool_calls": [OPENAI_CALL]},
            ]
        },
        (user("Hi"), said(CLICK)),
        (),
    ),
    "OpenAI calls after empty content": (
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "", "tool_calls": [OPENAI_CALL] * 2},
            ]
        },
        (user("Hi"), said(f"{CLICK}\n{CLICK}")),
        (),
    ),
    "calls after text, with arguments as an object": (
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {
                    "role": "assistant",
                    "content": "I click",
                    "tool_calls": [{"function": {"name": "f", "arguments": {"ä": 1}}}],
                },
                {"role": "tool", "content": "done"},
                {"role": "assistant", "content": "ok"},
            ]
        },
        (
            user("Hi"),
            said('I click\n<tool_call>\n{"name": "f", "arguments": {"ä": 1}}\n</tool_call>'),
            Turn("tool", ("done",)),
            OK,
        ),
        (),
    ),
    "OpenAI's old function_call": (
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": None, "function_call": CALL},
                {"role": "function", "content": "done"},
            ]
        },
        (user("Hi"), said(CLICK), Turn("tool", ("done",))),
        (),
    ),
    "ShareGPT calls": (
        {
            "conversations": [
                {"from": "human", "value": "Hi"},
                {
                    "from": "function_call",
                    "value": '{"name": "computer_use", "arguments": ' + ARGUMENTS + "}",
                },
                {"from": "observation", "value": "done"},
                {"from": "gpt", "value": "ok"},
            ]
        },
        (user("Hi"), said(CLICK), Turn("tool", ("done",)), OK),
        (),
    ),
    "ms-swift calls, after a thought and in parallel": (
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "I click"},
                {"role": "tool_call", "content": CALL},
                {"role": "tool_call", "content": [CALL]},
                {"role": "tool_response", "content": "done"},
            ]
        },
        (user("Hi"), said(f"I click\n{CLICK}\n{CLICK}"), Turn("tool", ("done",))),
        (),
    ),
    "calls that are text already": (sharegpt("Hi", CLICK), (user("Hi"), said(CLICK)), ()),
    "flags that change nothing": (
        {
            "weight": 1.0,
            "train": True,
            "kto_tag": True,
            "messages": [
                {"role": "user", "content": "Hi", "loss": False, "weight": 0},
                {"role": "assistant", "content": "ok", "loss": True, "weight": 1, "train": None},
            ],
        },
        (user("Hi"), OK),
        (),
    ),
    "columns that say nothing": (
        messages(
            "Hi",
            tools=[],
            videos=[],
            video="",
            audios=[None],
            objects={"ref": [], "bbox": []},
            chosen=None,
            rejected_response="",
        ),
        (user("Hi"), OK),
        (),
    ),
    "<image> as text": (
        messages(
            [TEXT_PART, {"type": "text", "text": " at the <image> tag\n"}],
            [{"type": "text", "text": "<image> is a tag, <img>x</img> too"}],
        ),
        (user("Look at the <image> tag\n"), said("<image> is a tag, <img>x</img> too")),
        (),
    ),
    "<image> as text, and an image": (
        messages([{"type": "text", "text": "<image>"}, {"type": "image"}], images=["a.png"]),
        (user("<image>", None), OK),
        ONE_IMAGE,
    ),
    "tags of pages": (
        sharegpt("Press <video>, <bbox> or <img src=x>"),
        (user("Press <video>, <bbox> or <img src=x>"), OK),
        (),
    ),
    "developer, model": (
        {
            "messages": [
                {"role": "developer", "content": "S"},
                {"role": "user", "content": "Hi"},
                {"role": "model", "content": "ok"},
            ]
        },
        (Turn("system", ("S",)), user("Hi"), OK),
        (),
    ),
}


@pytest.mark.parametrize("shape", READ)
def test_a_shape_is_read_rightly_and_survives_a_round_trip(shape: str) -> None:
    record, turns, images = READ[shape]
    found = read_record(record)
    assert found.turns == turns
    assert found.images == images
    stored = parse_sample(record, None, "a:1", lambda image: f"images/{len(image)}.png")
    again = parse_sample(stored.record(), None, "a:1")
    assert again == stored
    assert again.turns == turns


GROUNDING = {"ref": ["box"], "bbox": [[4, 4, 20, 16]]}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "video": (sharegpt("<video>\nHi", video="v.mp4"), "'video' ('v.mp4') cannot be read"),
    "videos beside images": (
        messages("<video><image>Hi", videos=["v.mp4"], images=["a.png"]),
        "'videos' (['v.mp4']) cannot be read",
    ),
    "audio": (messages("<audio>Hi", audios=["a.wav"]), "'audios' (['a.wav']) cannot be read"),
    "audio of a turn": (
        {"messages": [{"role": "user", "content": "x", "audio": {"id": 1}}]},
        "a turn has audio",
    ),
    "a video part": (messages([{"type": "video", "video": "v.mp4"}]), "a content part is {'type'"),
    "tools": (messages("Hi", tools='[{"name": "f"}]'), "belongs to the prompt"),
    "grounding": (
        messages("<image>Find <ref-object>", "<bbox>", images=["a.png"], objects=GROUNDING),
        "<ref-object> stands for a value of 'objects'",
    ),
    "preference, LLaMA-Factory": (
        {
            "conversations": [{"from": "human", "value": "x"}],
            "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"},
        },
        "is a preference",
    ),
    "preference, TRL": ({"prompt": "x", "chosen": "a", "rejected": "b"}, "is a preference"),
    "preference, ms-swift": (messages("x", rejected_response="b"), "is a preference"),
    "a bad example": (messages("x", kto_tag=False), "kto_tag is False"),
    "loss": (
        {
            "messages": [
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": "y", "loss": False},
            ]
        },
        "the assistant turn has loss False",
    ),
    "weight": (
        {
            "messages": [
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": "y", "weight": 0.5},
            ]
        },
        "the assistant turn has weight 0.5",
    ),
    "training on questions": (
        {"messages": [{"role": "user", "content": "x", "train": True}]},
        "the user turn has train True",
    ),
    "weight of a sample": (messages("x", weight=0), "weight is 0"),
    "reasoning": (
        {
            "messages": [
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": "y", "reasoning_content": "z"},
            ]
        },
        "a turn has reasoning_content",
    ),
    "another system turn": (
        {"system": "S", "messages": [{"role": "system", "content": "T"}]},
        "'system' and the system turn differ",
    ),
    "image tags of another model": (
        messages("Picture 1: <img>a.png</img>\nLook"),
        "the user turn has '<img>a.png</img>'; write <image>",
    ),
    "image tokens": (
        messages("<|image_pad|>Look", image="a.png"),
        "the user turn has '<|image_pad|>'",
    ),
    "placeholder in the answer": (
        messages("Look", "at <image>", image="a.png"),
        "the assistant turn has an <image> placeholder",
    ),
    "placeholder in the system turn": (
        messages("Look", system="Fill in <image>", image="a.png"),
        "the system turn has an <image> placeholder",
    ),
    "image part in the answer": (
        messages("Look", [{"type": "image"}], image="a.png"),
        "the assistant turn shows an image",
    ),
    "literal placeholder, no place for the image": (
        messages([{"type": "text", "text": "<image>\nLook"}], image="a.png"),
        "no part shows an image",
    ),
    "fewer placeholders": (
        messages("<image>Look", images=["a.png", "b.png"]),
        "1 <image> placeholders for 2 images",
    ),
    "placeholder without an image": (
        sharegpt("<image>Look"),
        "1 <image> placeholders for 0 images",
    ),
    "a part without an image": (
        messages([{"type": "image"}]),
        "1 <image> placeholders for 0 images",
    ),
    "two image columns": (
        sharegpt("<image>\nLook", image="a.png", images=["b.png"]),
        "has both 'images' and 'image'",
    ),
    "an image under another name": (
        messages("Look", screenshot="shots/a.PNG"),
        "'screenshot' ('shots/a.PNG') looks like an image",
    ),
    "an embedded image under another name": (
        messages("Look", picture={"bytes": PNG, "path": None}),
        "'picture'",
    ),
    "an image part with sizes": (
        messages([{"type": "image", "image": "a.png", "max_pixels": 99}]),
        "an image part has 'max_pixels'",
    ),
    "remote image": (
        sharegpt("<image>\nLook", image="https://example.com/a.png"),
        "image 'https://example.com/a.png' is a URL; download it first",
    ),
    "bucket": (sharegpt("<image>\nLook", image="s3://bucket/a.png"), "is a URL; download it first"),
    "Windows drive": (sharegpt("<image>\nLook", image=r"C:\a.png"), "is a Windows path"),
    "Windows path": (sharegpt("<image>\nLook", image="shots\\a.png"), "is a Windows path"),
    "bare Base64": (
        sharegpt("<image>\nLook", image="iVBORw0KGgo" * 500),
        "too long for a path; give Base64 as data:image/png;base64,",
    ),
    "broken Base64": (sharegpt("<image>\nLook", image="data:image/png;base64,*"), "not Base64"),
    "a number as image": (sharegpt("<image>\nLook", image=3), "an image is given as 3"),
    "two prompts": ({"prompt": "x", "question": "y"}, "has both 'prompt' and 'question'"),
    "two conversations": (
        messages("x", conversations=[{"from": "human", "value": "y"}]),
        "has both",
    ),
    "several answers": ({"question": "x", "answer": ["y", "z"]}, "give one text"),
    "text alone": ({"text": "x"}, "needs 'conversations' or 'messages'"),
    "tokens": ({"input_ids": [1, 2]}, "needs 'conversations' or 'messages'"),
    "no turns": ({"system": "S", "messages": "[]"}, "'messages' is []; give a list of turns"),
    "no question": ({"messages": [{"role": "assistant", "content": "x"}]}, "no human turn"),
    "a turn without text": ({"messages": [{"role": "user"}]}, "the user turn has no text"),
    "calls of the user": (
        {"messages": [{"role": "user", "content": "x", "tool_calls": [OPENAI_CALL]}]},
        "calls belong to assistant turns",
    ),
    "a call without a name": (
        {
            "conversations": [
                {"from": "human", "value": "x"},
                {"from": "function_call", "value": "{}"},
            ]
        },
        "a call has no name",
    ),
    "arguments that are no JSON": (
        {
            "messages": [
                {"role": "user", "content": "x"},
                {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{x"}]},
            ]
        },
        "the arguments of f are no object",
    ),
    "a key that Pointsman writes": (sharegpt("x", turn_keys=3), "'turn_keys' is 3"),
    "a call of another kind": (
        {
            "messages": [
                {"role": "user", "content": "x"},
                {"role": "assistant", "tool_calls": [{"type": "custom", "custom": {}}]},
            ]
        },
        "only calls of functions",
    ),
}


@pytest.mark.parametrize("shape", REFUSED)
def test_what_cannot_be_read_is_refused_by_reason(shape: str) -> None:
    record, reason = REFUSED[shape]
    with pytest.raises(SampleError) as raised:
        read_record(record)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


def test_unknown_keys_are_kept_those_of_turns_too() -> None:
    record = {
        "id": 7,
        "prompt_id": None,
        "messages": [
            {"role": "user", "content": "x", "time": 3},
            {"role": "assistant", "content": "y"},
        ],
    }
    found = read_record(record)
    assert found == Conversation(
        (user("x"), said("y")), (), {"id": 7, TURN_KEYS: [{"time": 3}, {}]}
    )
    assert record["id"] == 7


def test_an_embedded_image_has_no_path() -> None:
    with pytest.raises(SampleError, match=r"a:1: an image is embedded; `pointsman data generate`"):
        parse_sample({"prompt": "x", "image": PNG}, None, "a:1")


ODD: list[Any] = [
    None, 0, -1.5, True, "", "x", "[", "[]", '[{"a": 1}]', [], {}, [None], [[]], {"a": 1}, b"x",
    "<image>", "<tool_call>", "https://a/b.png", ["a", "b"], [["q", "a"]], 10**400,
    {"role": "user"}, {"type": "image"}, {"bytes": "zz"}, {"bytes": 3, "path": 4}, "\ud800",
]  # fmt: skip
SHAPES = [record for record, *_ in (*READ.values(), *REFUSED.values())]
KEYS = ["label", "bbox", "from", "content", *sorted({key for one in SHAPES for key in one})]


def mutated(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        key = chance.choice([*value, *KEYS])
        return value | {key: mutated(value.get(key), chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return [*value[:place], mutated(value[place], chance), *value[place + 1 :]]
    return chance.choice(ODD)


def test_a_mutated_record_is_read_for_good_or_refused_in_one_line() -> None:
    chance, read = random.Random(0), 0
    refusals: set[str] = set()
    for _ in range(10_000):
        record = mutated(mutated(chance.choice(SHAPES), chance), chance)
        try:
            sample = parse_sample(record, None, "a:1", lambda image: f"images/{len(image)}.png")
        except SampleError as error:
            refusals.add(str(error))
        else:
            read += 1
            assert parse_sample(sample.record(), None, "a:1") == sample
    assert not [line for line in refusals if "\n" in line or len(line) >= 400]
    assert read > 1000
