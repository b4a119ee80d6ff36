"""One record of a training set: its conversation, its images, and what else it holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pointsman.conversation import Turn
from pointsman.dialects.placeholders import GROUNDING, IN_TEXT, PLACEHOLDER, merged
from pointsman.dialects.turns import FLAGS, Shown, Turns, read_turns
from pointsman.dialects.values import (
    Image,
    decoded,
    images_of,
    is_empty,
    is_turn,
    looks_like_image,
    short,
)
from pointsman.errors import SampleError

CONVERSATIONS = ("conversations", "messages", "conversation", "texts")
PROMPTS = ("prompt", "query", "question", "instruction")
ANSWERS = ("completion", "response", "answer", "output")
_SYSTEM = ("system", "system_prompt")
_IMAGES = ("images", "image")
TURN_KEYS = "turn_keys"
"""The key under which the unknown keys of turns are kept, an object per turn."""
_PREFERENCE = (
    "is a preference, and adapters are trained on answers; make the chosen answer the assistant "
    "turn and drop the key"
)
_MEDIA = "cannot be read; Pointsman reads text and images"
_REFUSED = {
    **dict.fromkeys(("video", "videos", "audio", "audios"), _MEDIA),
    **dict.fromkeys(
        ("tools", "functions"),
        "belongs to the prompt, as the base's chat template renders it; write that text into the "
        "system turn and drop the key",
    ),
    **dict.fromkeys(
        ("chosen", "rejected", "rejected_response", "rejected_messages", "rejected_images"),
        _PREFERENCE,
    ),
}
"""Keys that change what a sample means, each with the reason why a value in it is refused."""
_WEIGHTS = {*FLAGS, "kto_tag"}


@dataclass(frozen=True)
class Conversation:
    """What a record says."""

    turns: tuple[Turn, ...]
    images: tuple[Image, ...]
    """One per image place of the turns, in order; paths as they are in the record."""
    extra: Mapping[str, Any]
    """Every key that was not read."""


def read_record(record: Any) -> Conversation:
    """Reads a record in the shapes of LLaMA-Factory, ms-swift, TRL, Qwen, OpenAI and others.

    Raises:
        SampleError: the record is of no known shape, or holds something that would change what it
            means and cannot be read.
    """
    if not isinstance(record, Mapping):
        raise SampleError(f"a sample is a JSON object, not {type(record).__name__}")
    rest = {key: value for key, value in record.items() if value is not None}
    _refuse(rest)
    found = read_turns(_with_system(_raw_turns(rest), rest))
    if not any(turn.role == "user" for turn in found.turns):
        raise SampleError("no human turn, so there is nothing to route on")
    _check_grounding(found, rest)
    images = _images(rest)
    turns, shown = _placed(found, images)
    _check_turn_keys(rest)
    if any(found.kept):
        rest[TURN_KEYS] = found.kept
    if not shown:
        _check_no_image(rest)
    return Conversation(tuple(turns), tuple(shown), rest)


def _refuse(rest: dict[str, Any]) -> None:
    """Takes out the keys that change a sample, and refuses those that say something."""
    for key in sorted(rest.keys() & _REFUSED.keys()):
        if not is_empty(decoded(value := rest.pop(key))):
            raise SampleError(f"{key!r} ({short(value)}) {_REFUSED[key]}")
    for key in sorted(rest.keys() & _WEIGHTS):
        if (value := rest.pop(key)) not in (1, True):
            raise SampleError(
                f"{key} is {short(value)}; every sample is trained on, with equal weight: drop the "
                "key or the sample"
            )


def _raw_turns(rest: dict[str, Any]) -> list[Any]:
    """The turns, taken out of the record."""
    key = _only(rest, CONVERSATIONS)
    given = {name: rest.pop(name, None) for name in CONVERSATIONS}
    if key is not None:
        turns = decoded(given[key])
        if isinstance(turns, list) and turns:
            return turns
        raise SampleError(f"{key!r} is {short(turns)}; give a list of turns")
    prompt = _only(rest, PROMPTS) or ("input" if rest.get("input") else None)
    if prompt is None:
        raise SampleError(
            "needs 'conversations' or 'messages', a list of turns, or a text in "
            f"{', '.join(map(repr, PROMPTS))}"
        )
    return _prompt_and_answer(rest, prompt)


def _prompt_and_answer(rest: dict[str, Any], prompt: str) -> list[Any]:
    answer = _only(rest, ANSWERS)
    asked = _as_turns(rest.pop(prompt), "user")
    if not is_empty(more := rest.pop("input", None)):
        if not isinstance(more, str) or not isinstance(asked[-1].get("content"), str):
            raise SampleError(f"'input' is {short(more)}; give a text")
        asked[-1]["content"] += f"\n{more}"
    said = [] if answer is None else _as_turns(rest.pop(answer), "assistant")
    history = decoded(rest.pop("history", None))
    if not is_empty(history) and not isinstance(history, list):
        raise SampleError(f"'history' is {short(history)}; give a list of turns")
    return [*(history or []), *asked, *said]


def _as_turns(value: Any, role: str) -> list[Any]:
    turns = decoded(value)
    if isinstance(turns, list) and turns and all(map(is_turn, turns)):
        return turns
    if isinstance(value, str):  # a text that is JSON of something else is text
        return [{"role": role, "content": value}]
    raise SampleError(f"the {role} text is {short(value)}; give one text or a list of turns")


def _only(rest: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """The one of ``keys`` that says something."""
    given = [key for key in keys if not is_empty(rest.get(key))]
    if len(given) > 1:
        raise SampleError(f"has both {given[0]!r} and {given[1]!r}; keep one of them")
    return given[0] if given else None


def _with_system(turns: list[Any], rest: dict[str, Any]) -> list[Any]:
    """The turns with the system column in front."""
    key = _only(rest, _SYSTEM)
    system = rest[key] if key else None
    for name in _SYSTEM:
        rest.pop(name, None)
    if system is None:
        return turns
    if not isinstance(system, str):
        raise SampleError(f"{key!r} is {short(system)}; give a text")
    first = turns[0] if isinstance(turns[0], Mapping) else {}
    if "system" not in (first.get("from"), first.get("role")):
        return [{"role": "system", "content": system}, *turns]
    if system != first.get("value", first.get("content")):
        raise SampleError(f"{key!r} and the system turn differ; keep one of them")
    return turns


def _images(rest: dict[str, Any]) -> list[Image]:
    first, second = (images_of(rest.pop(key, None)) for key in _IMAGES)
    if first and second and first != second:
        raise SampleError("has both 'images' and 'image'; keep one of them")
    return first or second


def _placed(found: Turns, images: list[Image]) -> tuple[list[Turn], list[Image]]:
    """The turns with a place for each image, and the image of each place."""
    turns = found.turns
    if found.shown or not images:
        return turns, _resolved(found.shown, images)
    _check_unmarked(turns)
    first = next(at for at, turn in enumerate(turns) if turn.role == "user")
    marked = replace(turns[first], parts=merged((*[None] * len(images), *turns[first].parts)))
    return [*turns[:first], marked, *turns[first + 1 :]], images


def _resolved(shown: Sequence[Shown], images: list[Image]) -> list[Image]:
    """The image of each place, from those of the record where it has none of its own."""
    if shown and set(shown) == set(range(len(images))):
        return [images[index] for index in shown if isinstance(index, int)]
    if shown == images:  # the record lists the images of its parts a second time
        return images
    if shown.count(None) != len(images) or any(isinstance(place, int) for place in shown):
        places = sum(place is None or isinstance(place, int) for place in shown)
        raise SampleError(f"{places} {PLACEHOLDER} placeholders for {len(images)} images{IN_TEXT}")
    following = iter(images)
    return [image if isinstance(image, str | bytes) else next(following) for image in shown]


def _check_unmarked(turns: Sequence[Turn]) -> None:
    """Refuses a literal ``<image>`` where no part shows the images that the record has."""
    if any(PLACEHOLDER in turn.text for turn in turns):
        raise SampleError(
            f"a content part has {PLACEHOLDER} in its text and no part shows an image; give the "
            'place of each image as {"type": "image"}'
        )


def _check_grounding(found: Turns, rest: Mapping[str, Any]) -> None:
    if is_empty(decoded(rest.get("objects"))):
        return
    if tag := GROUNDING.search("".join(found.texts)):
        raise SampleError(
            f"{tag.group()} stands for a value of 'objects', which the trainer fills in; write the "
            "names and the boxes (0 to 1000) that the model reads and answers"
        )


def _check_turn_keys(rest: Mapping[str, Any]) -> None:
    kept = rest.get(TURN_KEYS, [])
    if not isinstance(kept, list) or not all(isinstance(keys, Mapping) for keys in kept):
        raise SampleError(f"{TURN_KEYS!r} is {short(kept)}; Pointsman keeps keys of turns there")


def _check_no_image(rest: Mapping[str, Any]) -> None:
    for key, value in rest.items():
        if looks_like_image(value):
            raise SampleError(f"{key!r} ({short(value)}) looks like an image; name the key 'image'")
