"""Corrections: which adapter a logged request was really for, and training sets made of them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointsman.data.generate import OUT_OF_SCOPE_SOURCE
from pointsman.dialects.json_files import read_values
from pointsman.errors import ArtefactError, LabelError, SampleError
from pointsman.files import write_bytes, write_text
from pointsman.labels import check_name
from pointsman.routing.decision import Decision
from pointsman.sample import RoutingSample, to_jsonl
from pointsman.server.decision_log import Decisions, picture_of

FILE = "corrections.jsonl"
IMAGES = "images"


@dataclass(frozen=True)
class Corrected:
    """The training sets that were written."""

    files: dict[str, int]
    """Number of samples by file name"""
    without_picture: int
    """Corrected decisions that were left out, because the log did not keep all their pictures"""
    unknown: int
    """Corrections of decisions that are not, or no longer, in the log"""
    ambiguous: int
    """Corrections whose id several decisions have, so that they say nothing"""

    def lines(self) -> list[str]:
        """What was left out, in words."""
        reasons = (
            (self.without_picture, "are left out: the log did not keep their pictures"),
            (self.unknown, "name a decision that is not in the log"),
            (self.ambiguous, "name an id that several decisions have, and are left out"),
        )
        return [f"{number} corrections {reason}" for number, reason in reasons if number]


@dataclass
class Matched:
    """Decisions with their corrections."""

    pairs: list[tuple[Decision, str | None]] = field(default_factory=list)
    unknown: int = 0
    ambiguous: int = 0


def read_corrections(log: Path) -> dict[str, str | None]:
    """The right adapter by the id of a decision, None for none of them; the last line counts.

    Raises:
        SampleError: a line is not a correction.
    """
    path = log / FILE
    if not path.is_file():
        return {}
    return dict(_correction(value, where) for where, value in read_values(path))


def _correction(value: Any, where: str) -> tuple[str, str | None]:
    if isinstance(value, SampleError):
        raise value
    if not isinstance(value, Mapping) or not {"id", "adapter"} <= value.keys():
        raise SampleError(f'{where}: not a correction; write {{"id": …, "adapter": NAME or null}}')
    name, adapter = value["id"], value["adapter"]
    if not isinstance(name, str) or not (adapter is None or isinstance(adapter, str)):
        raise SampleError(
            f"{where}: id {name!r} and adapter {adapter!r}: give a string, and a name or null"
        )
    try:
        if adapter is not None:
            check_name(adapter)
    except LabelError as error:
        raise SampleError(f"{where}: {error}; null is for none of the adapters") from None
    return name, adapter


def match(decisions: Iterable[Decision], corrections: Mapping[str, str | None]) -> Matched:
    """The decisions that are corrected, in the order of the log."""
    found: dict[str, list[Decision]] = {}
    for decision in decisions:
        if decision.id in corrections:
            found.setdefault(decision.id, []).append(decision)
    matched = Matched(unknown=len(corrections.keys() - found.keys()))
    for name, same in found.items():
        if len(same) == 1:
            matched.pairs.append((same[0], corrections[name]))
        else:
            matched.ambiguous += 1
    return matched


def write_corrected(decisions: Decisions, out: Path) -> Corrected:
    """Writes corrected decisions as training sets that ``data generate`` reads.

    One file per adapter, ``out_of_scope.jsonl`` for those of none, and pictures in ``images/``.

    Raises:
        ArtefactError: ``out`` is there and not empty, or cannot be written.
        SampleError: a line is not a correction, or there are none.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ArtefactError(f"{out}: is there already; choose another --out or delete it")
    corrections = read_corrections(decisions.folder)
    if not corrections:
        raise SampleError(
            f"{decisions.folder / FILE}: holds no corrections; write a line "
            '{"id": …, "adapter": NAME or null} for each decision'
        )
    matched = match(decisions, corrections)
    samples: dict[str, list[RoutingSample]] = {}
    missing = 0
    for decision, adapter in matched.pairs:
        sample = _sample(decision, decisions.folder, out)
        if sample is None:
            missing += 1
            continue
        samples.setdefault(f"{adapter or OUT_OF_SCOPE_SOURCE}.jsonl", []).append(sample)
    for name, own in samples.items():
        write_text(out / name, to_jsonl(sample.record() for sample in own))
    counts = Counter({name: len(own) for name, own in samples.items()})
    return Corrected(dict(counts), missing, matched.unknown, matched.ambiguous)


def _sample(decision: Decision, log: Path, out: Path) -> RoutingSample | None:
    """A decision as a sample with its pictures copied; None if a picture was not kept."""
    paths = [picture_of(log, digest) for digest in decision.images]
    kept = [path for path in paths if path is not None]
    if len(kept) < len(paths):
        return None
    for path in kept:
        write_bytes(out / IMAGES / path.name, path.read_bytes())
    return RoutingSample(decision.turns, tuple(f"{IMAGES}/{path.name}" for path in kept))
