"""Reading the training sets of several adapters: every sample, or every fault in them."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pointsman.data.dataset import IMAGES
from pointsman.data.image_digest import Picture, decode
from pointsman.data.readers import image_content, read_source
from pointsman.dialects.record import TURN_KEYS, read_record
from pointsman.dialects.values import Image, short
from pointsman.errors import SampleError
from pointsman.files import digest_bytes, digest_json, write_bytes
from pointsman.labels import OUT_OF_SCOPE, LabelMap
from pointsman.progress import Progress
from pointsman.sample import RoutingSample, parse_sample

_SHOWN = 20
_VALUES = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\[.*?\]|\S*/\S*|[\w.-]*\d[\w.-]*")
"""What differs between two errors of one reason: quoted values, lists, paths, numbers."""
_KNOWN = (TURN_KEYS, "stratum", "size", "widget", "task")
"""Keys that Pointsman writes itself: those of turns, and of demo screens."""


@dataclass(frozen=True)
class Source:
    """One training set of one adapter (None: out of every adapter's scope)."""

    adapter: str | None
    path: str


@dataclass(frozen=True)
class Entry:
    """One sample to be written to a dataset."""

    where: str
    sample: RoutingSample
    """The labelled sample; its image paths are those in the dataset folder."""
    pictures: tuple[Picture, ...]

    @cached_property
    def question(self) -> str:
        """Digest of everything that a router may see: prompt and pixels."""
        prompt = [[turn.role, list(turn.parts)] for turn in self.sample.prompt]
        return digest_json([prompt, [picture.pixels for picture in self.pictures]])

    @cached_property
    def content(self) -> str:
        """Digest of the sample itself."""
        return digest_json(self.sample.record())


@dataclass
class Faults:
    """What is wrong with the sources, one line each."""

    samples: list[str] = field(default_factory=list)
    """Each drops one sample, and may be skipped."""
    sources: list[str] = field(default_factory=list)
    """Each drops a whole source."""

    def reasons(self) -> list[str]:
        """One line per reason that drops samples, the commonest first: an example, and a count."""
        alike: dict[str, list[str]] = {}
        for line in self.samples:
            alike.setdefault(_VALUES.sub("…", line), []).append(line)
        return [
            first + (f" (and {len(more)} more like this)" if more else "")
            for first, *more in sorted(alike.values(), key=len, reverse=True)
        ]

    def raise_if_any(self, skip_bad: bool) -> None:
        """Raises ``SampleError`` with a line per reason; those of single samples may be skipped."""
        lines = self.sources + ([] if skip_bad else self.reasons())
        if len(lines) > _SHOWN:
            more = f"and {len(lines) - _SHOWN} more; skip_bad drops the samples that have a fault"
            lines = [*lines[:_SHOWN], more]
        if lines:
            raise SampleError("\n".join(lines))


def kept_keys(samples: Iterable[RoutingSample]) -> list[str]:
    """A line that counts the keys that no reader knows, if there are any."""
    counts: Counter[str] = Counter()
    for sample in samples:
        of_turns = sample.extra.get(TURN_KEYS)
        counts.update(repr(key) for key in sample.extra if key not in _KNOWN)
        counts.update({f"{key!r} of turns" for turn in of_turns or () for key in turn})
    shown = ", ".join(f"{key} in {n}" for key, n in counts.most_common())
    return [f"keys that are not read, kept as they are: {shown} samples"] if shown else []


def scan(
    sources: Sequence[Source], labels: LabelMap, faults: Faults, progress: Progress
) -> list[Entry]:
    """Reads all sources, decoding every image once.

    Raises:
        MissingDependency: a source needs an optional package.
    """
    entries: list[Entry] = []
    decoded: dict[str, Picture] = {}
    for source in sources:
        before, broken = len(entries), len(faults.samples)
        try:
            for where, record, folder in read_source(source.path):
                try:
                    entries.append(_entry(where, record, folder, source.adapter, labels, decoded))
                except SampleError as error:
                    faults.samples.append(str(error))
                progress(len(entries) - before, step=source.path)
            if len(entries) == before and len(faults.samples) == broken:
                raise SampleError(f"{source.path}: holds no samples")
        except SampleError as error:
            faults.sources.append(str(error))
    return entries


def store_images(
    sources: Sequence[Source], kept: Sequence[Entry], folder: Path, progress: Progress
) -> None:
    """Copies the images of ``kept`` into a dataset folder; existing ones stay.

    The sources are read a second time: keeping the bytes of the first pass could fill the memory.

    Raises:
        SampleError: an image is not the one that was scanned.
        ArtefactError: an image cannot be written.
    """
    wanted = {entry.where: entry.pictures for entry in kept}
    total = len({picture.name for pictures in wanted.values() for picture in pictures})
    done: set[str] = set()
    for source in sources:
        for where, record, start in read_source(source.path):
            pictures = wanted.get(where, ())
            images = read_record(record).images if pictures else ()
            for image, picture in zip(images, pictures, strict=False):
                if picture.name not in done:
                    _store(image, start, picture, folder / IMAGES / picture.name, where)
                    done.add(picture.name)
                    progress(len(done), total, IMAGES)


def _store(image: Image, start: Path, picture: Picture, target: Path, where: str) -> None:
    if target.is_file() and digest_bytes(target.read_bytes()) == picture.digest:
        return
    name, content = image_content(image, start)
    if digest_bytes(content) != picture.digest:
        raise SampleError(f"{where}: {name} changed while it was being read; run it again")
    write_bytes(target, content)


def _entry(
    where: str,
    record: Any,
    folder: Path,
    adapter: str | None,
    labels: LabelMap,
    decoded: dict[str, Picture],
) -> Entry:
    pictures: list[Picture] = []

    def store(image: Image) -> str:
        pictures.append(_picture(image, folder, decoded))
        return f"{IMAGES}/{pictures[-1].name}"

    sample = parse_sample(record, None, where, store)
    check_owner(where, record, adapter)
    # Written and parsed again: the entry is exactly what a reader of the dataset will see.
    sample = parse_sample(_checked_record(sample, where), None, where)
    return Entry(where, sample.labelled(labels, adapter), tuple(pictures))


def check_owner(where: str, record: Mapping[str, Any], adapter: str | None) -> None:
    """Raises ``SampleError`` on a sample whose own keys name another adapter, or no adapter."""
    mine = "out of scope" if adapter is None else repr(adapter)
    if record.get("label") == OUT_OF_SCOPE:
        theirs = "out of scope"
    elif isinstance(record.get("adapter"), str):
        theirs = repr(record["adapter"])
    elif record.get("label") is None or record["label"] is True:  # true: a good answer
        return
    else:
        raise SampleError(
            f"{where}: label {short(record['label'])} names no adapter; a class, a score or a bad "
            "answer cannot be trained on: drop the key or the sample"
        )
    if mine != theirs:
        raise SampleError(
            f"{where}: the source is given for {mine}, the sample says {theirs}; give it as a "
            "source of that one, or take the keys label and adapter out"
        )


def _picture(image: Image, folder: Path, decoded: dict[str, Picture]) -> Picture:
    name, content = image_content(image, folder)
    digest = digest_bytes(content)
    if digest not in decoded:
        decoded[digest] = decode(content, name)
    return decoded[digest]


def _checked_record(sample: RoutingSample, where: str) -> Mapping[str, Any]:
    record = sample.record()
    for key, value in record.items():
        try:
            json.dumps({key: value}, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError:
            raise SampleError(
                f"{where}: {key!r} holds half a character (a lone surrogate)"
            ) from None
        except ValueError:
            raise SampleError(f"{where}: {key!r} holds NaN or Infinity; write null") from None
        except TypeError as error:
            raise SampleError(f"{where}: {key!r} is no JSON ({error}); drop the key") from None
    return record
