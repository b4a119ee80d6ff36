"""What a check found, of a dataset or of an adapter."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (error) or odd (warning)."""

    level: Level
    kind: str
    """Of a dataset: ``dataset``, ``fingerprint``, ``sample``, ``label``, ``image``, ``bbox``,
    ``split-leak``, ``duplicate``, ``contradiction``, ``missing-class``, ``imbalance``,
    ``answer-leak``, ``adapter-name``, ``trivia``, ``unused-image``, ``features`` or
    ``label-noise``. Of an adapter: one of docs/adapters-check.md."""
    where: str
    """File, file and line, or split."""
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.where}: {self.message}"


@dataclass(frozen=True)
class Report:
    """All findings, errors first, and what was counted on the way."""

    path: Path
    findings: list[Finding]
    counts: dict[str, Any]
    """Of a dataset ``samples``, ``images``, and ``splits``: samples per class by split. Of an
    adapter ``tensors``, ``modules``, and ``largest_change``: of a logit, by it."""

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "error"]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "warning"]

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            "path": str(self.path),
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "counts": self.counts,
            "findings": [asdict(finding) for finding in self.findings],
        }
