"""One run of the dataset check: its samples, and the findings so far."""

from dataclasses import dataclass, field
from pathlib import Path

from pointsman.data.image_digest import Picture
from pointsman.files import digest_json
from pointsman.findings import Finding
from pointsman.progress import Progress
from pointsman.sample import RoutingSample


@dataclass(frozen=True)
class Item:
    split: str
    where: str
    sample: RoutingSample
    images: tuple[str, ...]
    """What each image shows: the digest of its pixels, or its path where it was not decoded."""
    size: tuple[int, int] | None

    @property
    def question(self) -> str:
        """Prompt and images; case, spacing and a closing full stop make no difference."""
        prompt = [
            (turn.role, " ".join(turn.text.casefold().split()).rstrip(" .!?"))
            for turn in self.sample.prompt
        ]
        return digest_json([prompt, self.images])


@dataclass
class Run:
    """One run: the findings so far and the means to add to them."""

    path: Path
    progress: Progress
    findings: list[Finding] = field(default_factory=list)
    pictures: dict[str, Picture | None] = field(default_factory=dict)

    def error(self, kind: str, where: str, message: str) -> None:
        self.findings.append(Finding("error", kind, where, message))

    def warning(self, kind: str, where: str, message: str) -> None:
        self.findings.append(Finding("warning", kind, where, message))


def class_of(sample: RoutingSample) -> str:
    if sample.label is None:
        return "unlabelled"
    return sample.adapter or "out_of_scope"
