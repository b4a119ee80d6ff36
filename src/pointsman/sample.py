"""RoutingSample: one sample of a dataset, its form on disk, and what the router may see of it."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, cast

from PIL import Image

from pointsman.conversation import History, Prompt, Role, Turn, routed_part
from pointsman.errors import SampleError
from pointsman.images import load_image
from pointsman.labels import OUT_OF_SCOPE, LabelMap

Box = tuple[float, float, float, float]
PLACEHOLDER = "<image>"
_ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
}
_ROLE_ON_DISK: dict[Role, str] = {
    "user": "human",
    "assistant": "gpt",
    "system": "system",
    "tool": "tool",
}
_OURS = frozenset({"conversations", "messages", "image", "images", "label", "adapter", "bbox"})


@dataclass(frozen=True)
class RoutingSample:
    """One sample: a conversation with its images, and the adapter that should answer it.

    For a sample out of every adapter's scope, ``label`` is -1 and ``adapter`` is None. Both are
    None if the data carries no labels yet (one adapter's own training set).
    """

    turns: tuple[Turn, ...]
    images: tuple[str, ...]
    """Paths, relative to the folder of the file that holds the sample, or absolute."""
    label: int | None = None
    adapter: str | None = None
    bbox: Box | None = None
    """x0, y0, x1, y1 in pixels of the first image, upright: where a right click lands."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Every other key of the record, kept as it was."""

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """The turns that the router may see."""
        return routed_part(self.turns, self.images, "conversation")[0]

    @property
    def instruction(self) -> str:
        """The text of the last user turn."""
        return next((t.text for t in reversed(self.turns) if t.role == "user"), "")

    @property
    def answer(self) -> str | None:
        """The text of the last assistant turn."""
        return next((t.text for t in reversed(self.turns) if t.role == "assistant"), None)

    @property
    def in_scope(self) -> bool:
        return self.label is not None and self.label != OUT_OF_SCOPE

    @property
    def picture(self) -> object:
        """Identifies the picture: samples of the same picture share this value."""
        return self.images or id(self)

    def labelled(self, labels: LabelMap, adapter: str | None) -> Self:
        """The sample labelled with ``adapter`` (None: out of scope)."""
        label = OUT_OF_SCOPE if adapter is None else labels.label(adapter)
        return replace(self, label=label, adapter=adapter)

    def record(self) -> dict[str, Any]:
        """The sample as one JSON object of the form that ``parse_sample`` reads."""
        record: dict[str, Any] = {
            "conversations": [
                {"from": _ROLE_ON_DISK[turn.role], "value": _join(turn.parts)}
                for turn in self.turns
            ]
        }
        if len(self.images) == 1:
            record["image"] = self.images[0]
        elif self.images:
            record["images"] = list(self.images)
        if self.label is not None:
            record |= {"label": self.label, "adapter": self.adapter}
        if self.bbox is not None:
            record["bbox"] = list(self.bbox)
        return record | dict(self.extra)


def is_inside(point: tuple[float, float] | None, box: Box) -> bool:
    """Whether a point in pixels lies in a box, edges included."""
    return point is not None and box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def parse_sample(record: Any, labels: LabelMap | None, where: str) -> RoutingSample:
    """Reads one record of a dataset.

    Args:
        record: the decoded JSON object: ``conversations`` or ``messages``, ``image`` or ``images``.
        labels: the label map that ``label`` and ``adapter`` must agree with; None if the data
            carries no labels yet, in which case both keys are ignored.
        where: file and line, for errors.

    Raises:
        SampleError: a value is missing, has the wrong type or contradicts the label map.
    """
    if not isinstance(record, dict):
        raise SampleError(f"{where}: a sample is a JSON object, not {type(record).__name__}")
    images = _images(record, where)
    turns = _place_images(_turns(record, where), len(images), where)
    if not any(turn.role == "user" for turn in turns):
        raise SampleError(f"{where}: no human turn, so there is nothing to route on")
    sample = RoutingSample(
        turns=turns,
        images=images,
        bbox=_bbox(record, where),
        extra={key: value for key, value in record.items() if key not in _OURS},
    )
    return sample if labels is None else _with_label(sample, record, labels, where)


def read_jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields (``file:line``, decoded value). Raises ``SampleError`` on a missing or broken file."""
    try:
        with path.open(encoding="utf-8-sig") as lines:  # some editors write a byte order mark
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                try:
                    yield where, json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise SampleError(f"{where}: not a line of JSON ({error})") from None
    except FileNotFoundError:
        raise SampleError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SampleError(f"{path}: cannot be read ({error})") from None


def read_samples(path: str | Path, labels: LabelMap | None) -> list[RoutingSample]:
    """Reads a JSONL file of samples; image paths come back joined to its folder.

    Raises:
        SampleError: the file is missing or empty, or holds an invalid sample.
    """
    path = Path(path)
    samples = [parse_sample(record, labels, where) for where, record in read_jsonl(path)]
    if not samples:
        raise SampleError(f"{path}: holds no samples")
    return [
        replace(sample, images=tuple(str(path.parent / image) for image in sample.images))
        for sample in samples
    ]


def to_jsonl(records: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _images(record: Mapping[str, Any], where: str) -> tuple[str, ...]:
    found = record.get("images", record.get("image"))
    found = [] if found is None else found if isinstance(found, list) else [found]
    if not all(isinstance(image, str) and image for image in found):
        raise SampleError(f"{where}: an image is given as {found!r}; give its path")
    return tuple(found)


def _turns(record: Mapping[str, Any], where: str) -> list[Turn]:
    turns = record.get("conversations", record.get("messages"))
    if not isinstance(turns, list) or not turns:
        raise SampleError(f"{where}: needs 'conversations' or 'messages', a list of turns")
    return [_turn(turn, where) for turn in turns]


def _turn(turn: Any, where: str) -> Turn:
    if not isinstance(turn, dict):
        raise SampleError(f"{where}: a turn is a JSON object, not {turn!r}")
    role = _ROLES.get(str(turn.get("from", turn.get("role"))))
    if role is None:
        known = ", ".join(_ROLES)
        raise SampleError(
            f"{where}: a turn is from {turn.get('from', turn.get('role'))!r}; known are {known}"
        )
    content = turn.get("value", turn.get("content"))
    if isinstance(content, str):
        return Turn(role, _split(content))
    if isinstance(content, list):
        return Turn(role, tuple(p for part in content for p in _content_part(part, where)))
    raise SampleError(f"{where}: a {role} turn has no text ({content!r})")


def _content_part(part: Any, where: str) -> tuple[str | None, ...]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "image":
        return (None,)
    if kind == "text" and isinstance(part.get("text"), str):
        return (part["text"],)
    raise SampleError(f"{where}: a content part is {part!r}; known are text and image parts")


def _split(text: str) -> tuple[str | None, ...]:
    """Splits text at ``<image>``; the line break next to an image is not part of the text."""
    if PLACEHOLDER not in text:
        return (text,)
    first, *others = text.split(PLACEHOLDER)
    pieces: list[str | None] = [first.rstrip()]
    for piece in others[:-1]:
        pieces += [None, piece.strip()]
    pieces += [None, others[-1].lstrip()]
    return tuple(piece for piece in pieces if piece != "")


def _join(parts: Sequence[str | None]) -> str:
    return "".join(f"{PLACEHOLDER}\n" if part is None else part for part in parts)


def _place_images(turns: list[Turn], images: int, where: str) -> tuple[Turn, ...]:
    placed = sum(turn.places for turn in turns)
    if placed == images:
        return tuple(turns)
    if placed == 0:  # no placeholders: the images go before the first user turn's text
        first = next((i for i, turn in enumerate(turns) if turn.role == "user"), 0)
        turn = turns[first]
        turns[first] = replace(turn, parts=(*[None] * images, *turn.parts))
        return tuple(turns)
    raise SampleError(f"{where}: {placed} {PLACEHOLDER} placeholders for {images} images")


def _bbox(record: Mapping[str, Any], where: str) -> Box | None:
    box = record.get("bbox")
    if box is None:
        return None
    if not (
        isinstance(box, list)
        and len(box) == 4
        and all(type(v) in (int, float) and abs(v) < 1e9 for v in box)
        and box[0] < box[2]
        and box[1] < box[3]
    ):
        raise SampleError(f"{where}: bbox {box!r} is not [x0, y0, x1, y1] with x0 < x1, y0 < y1")
    return cast(Box, tuple(float(v) for v in box))


def _with_label(
    sample: RoutingSample, record: Mapping[str, Any], labels: LabelMap, where: str
) -> RoutingSample:
    missing = [key for key in ("label", "adapter") if key not in record]
    if missing:
        raise SampleError(f"{where}: has no {' and no '.join(map(repr, missing))}")
    label, adapter = record["label"], record["adapter"]
    if not isinstance(label, int) or isinstance(label, bool):
        raise SampleError(f"{where}: label {label!r} is not an integer")
    if label == OUT_OF_SCOPE:
        expected = None
    elif 0 <= label < len(labels):
        expected = labels.names[label]
    else:
        raise SampleError(f"{where}: label {label} is out of range; the label map is {labels}")
    if adapter != expected:
        raise SampleError(
            f"{where}: label {label} means {expected!r} but adapter says {adapter!r}; "
            f"the label map is {labels}"
        )
    return replace(sample, label=label, adapter=adapter)


def load_prompt(
    sample: RoutingSample,
    history: History = "conversation",
    load: Callable[[str], Image.Image] | None = load_image,
) -> Prompt:
    """What the router reads of a sample, see ``conversation.routed_part``.

    Args:
        load: reads an image file; None reads none, for a reader of text alone, and the turns show
            none.
    """
    turns, paths = routed_part(sample.turns, sample.images, history)
    if load is not None:
        return Prompt(turns, tuple(map(load, paths)))
    return Prompt(tuple(replace(turn, parts=(turn.text,)) for turn in turns), ())
