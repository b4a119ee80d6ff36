"""RoutingSample: one sample of a dataset, its form on disk, and what the router may see of it."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, cast

from PIL import Image as Pictures

from pointsman.conversation import History, Prompt, Role, Turn, routed_part
from pointsman.dialects.json_files import read_values
from pointsman.dialects.placeholders import join
from pointsman.dialects.record import read_record
from pointsman.dialects.values import Image, short
from pointsman.errors import SampleError
from pointsman.images import load_image
from pointsman.labels import OUT_OF_SCOPE, LabelMap

Box = tuple[float, float, float, float]
_ROLE_ON_DISK: dict[Role, str] = {
    "user": "human",
    "assistant": "gpt",
    "system": "system",
    "tool": "tool",
}
_OURS = ("label", "adapter", "bbox")


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
                {"from": _ROLE_ON_DISK[turn.role], "value": _value(turn)} for turn in self.turns
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


def parse_sample(
    record: Any, labels: LabelMap | None, where: str, store: Callable[[Image], str] | None = None
) -> RoutingSample:
    """Reads one record of a dataset or of a training set, in any shape of ``read_record``.

    Args:
        record: the decoded JSON object, or the error that ``read_values`` has in its place.
        labels: the label map that ``label`` and ``adapter`` must agree with; None if the data
            carries no labels yet, in which case both keys are ignored.
        where: file and line, for errors.
        store: gives an image, a path or the content of a file, the path that the sample carries;
            by default paths stay as they are and embedded images are refused.

    Raises:
        SampleError: a value is missing, has the wrong type, contradicts the label map or cannot be
            read.
    """
    if isinstance(record, SampleError):
        raise record
    try:
        found = read_record(record)
        sample = RoutingSample(
            turns=found.turns,
            images=tuple(map(store or _path, found.images)),
            bbox=_bbox(record),
            extra={key: value for key, value in found.extra.items() if key not in _OURS},
        )
        return sample if labels is None else _with_label(sample, record, labels)
    except SampleError as error:
        raise SampleError(f"{where}: {error}") from None


def read_samples(path: str | Path, labels: LabelMap | None) -> list[RoutingSample]:
    """Reads a JSONL file of samples; image paths come back joined to its folder.

    Raises:
        SampleError: the file is missing or empty, or holds an invalid sample.
    """
    path = Path(path)
    samples = [parse_sample(record, labels, where) for where, record in read_values(path)]
    if not samples:
        raise SampleError(f"{path}: holds no samples")
    return [
        replace(sample, images=tuple(str(path.parent / image) for image in sample.images))
        for sample in samples
    ]


def to_jsonl(records: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _path(image: Image) -> str:
    if isinstance(image, bytes):
        raise SampleError(
            "an image is embedded; `pointsman data generate` makes a dataset with image files"
        )
    return image


def _value(turn: Turn) -> str | list[dict[str, str]]:
    """A turn's text with placeholders or, where that would be read differently, its parts."""
    text = join(turn.parts)
    if text is not None:
        return text
    return [{"type": "image"} if p is None else {"type": "text", "text": p} for p in turn.parts]


def _bbox(record: Mapping[str, Any]) -> Box | None:
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
        raise SampleError(f"bbox {short(box)} is not [x0, y0, x1, y1] with x0 < x1, y0 < y1")
    return cast(Box, tuple(float(v) for v in box))


def _with_label(
    sample: RoutingSample, record: Mapping[str, Any], labels: LabelMap
) -> RoutingSample:
    missing = [key for key in ("label", "adapter") if key not in record]
    if missing:
        raise SampleError(f"has no {' and no '.join(map(repr, missing))}")
    label, adapter = record["label"], record["adapter"]
    if not isinstance(label, int) or isinstance(label, bool):
        raise SampleError(f"label {label!r} is not an integer")
    if label == OUT_OF_SCOPE:
        expected = None
    elif 0 <= label < len(labels):
        expected = labels.names[label]
    else:
        raise SampleError(f"label {label} is out of range; the label map is {labels}")
    if adapter != expected:
        raise SampleError(
            f"label {label} means {expected!r} but adapter says {adapter!r}; "
            f"the label map is {labels}"
        )
    return replace(sample, label=label, adapter=adapter)


def load_prompt(
    sample: RoutingSample,
    history: History = "conversation",
    load: Callable[[str], Pictures.Image] | None = load_image,
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
