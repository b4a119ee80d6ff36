"""Reading the training sets of several adapters: every sample, or every fault in them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pointsman.data.dataset import IMAGES
from pointsman.data.image_digest import Picture, decode
from pointsman.data.readers import Record, image_bytes, image_values, read_source
from pointsman.errors import SampleError
from pointsman.files import digest_bytes, digest_json, write_bytes
from pointsman.labels import OUT_OF_SCOPE, LabelMap
from pointsman.progress import Progress
from pointsman.sample import RoutingSample, parse_sample, to_jsonl

_SHOWN = 20


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

    def raise_if_any(self, skip_bad: bool) -> None:
        """Raises ``SampleError`` with all faults; those of single samples may be skipped."""
        lines = self.sources + ([] if skip_bad else self.samples)
        if len(lines) > _SHOWN:
            more = f"and {len(lines) - _SHOWN} more; skip_bad drops the samples that have a fault"
            lines = [*lines[:_SHOWN], more]
        if lines:
            raise SampleError("\n".join(lines))


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
            for where, record in read_source(source.path, _into(faults)):
                try:
                    entries.append(_entry(where, record, source.adapter, labels, decoded))
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
        for where, record in read_source(source.path, lambda _: None):
            for value, picture in zip(image_values(record), wanted.get(where, ()), strict=False):
                if picture.name not in done:
                    _store(value, picture, folder / IMAGES / picture.name, where)
                    done.add(picture.name)
                    progress(len(done), total, IMAGES)


def _store(value: Any, picture: Picture, target: Path, where: str) -> None:
    if target.is_file() and digest_bytes(target.read_bytes()) == picture.digest:
        return
    name, content = image_bytes(value)
    if digest_bytes(content) != picture.digest:
        raise SampleError(f"{where}: {name} changed while it was being read; run it again")
    write_bytes(target, content)


def _into(faults: Faults) -> Callable[[SampleError], None]:
    return lambda error: faults.samples.append(str(error))


def _entry(
    where: str,
    record: Record,
    adapter: str | None,
    labels: LabelMap,
    decoded: dict[str, Picture],
) -> Entry:
    _check_owner(where, record, adapter)
    try:
        pictures = tuple(_picture(value, decoded) for value in image_values(record))
    except SampleError as error:
        raise SampleError(f"{where}: {error}") from None
    files = [f"{IMAGES}/{picture.name}" for picture in pictures]
    own = {key: value for key, value in record.items() if key != "image"} | {"images": files}
    # Parsed, written and parsed again: the entry is exactly what a reader of the dataset will see.
    sample = parse_sample(own, None, where)
    sample = parse_sample(_checked_record(sample, where), None, where)
    return Entry(where, sample.labelled(labels, adapter), pictures)


def _check_owner(where: str, record: Mapping[str, Any], adapter: str | None) -> None:
    """Refuses a sample whose own keys name another adapter."""
    mine = "out of scope" if adapter is None else repr(adapter)
    if record.get("label") == OUT_OF_SCOPE:
        theirs = "out of scope"
    elif isinstance(record.get("adapter"), str):
        theirs = repr(record["adapter"])
    else:
        return
    if mine != theirs:
        raise SampleError(
            f"{where}: the source is given for {mine}, the sample says {theirs}; give it as a "
            "source of that one, or take the keys label and adapter out"
        )


def _picture(value: Any, decoded: dict[str, Picture]) -> Picture:
    name, content = image_bytes(value)
    digest = digest_bytes(content)
    if digest not in decoded:
        decoded[digest] = decode(content, name)
    return decoded[digest]


def _checked_record(sample: RoutingSample, where: str) -> Mapping[str, Any]:
    record = sample.record()
    try:
        to_jsonl([record]).encode()
    except UnicodeEncodeError:
        raise SampleError(f"{where}: its text holds half a character (a lone surrogate)") from None
    except (TypeError, ValueError) as error:
        raise SampleError(f"{where}: cannot be written as JSON ({error}); drop the key") from None
    return record
