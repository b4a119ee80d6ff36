"""Findings: what any check reports, each fault with its fix."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Level = Literal["error", "warning"]
TRAIN_AGAIN = "use the base that the adapter was trained on, or train the adapter again"
SAVE_AGAIN = "save the adapter again with PEFT's save_pretrained"


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


@dataclass(frozen=True)
class AdapterFinding(Finding):
    """One thing that is wrong or odd with an adapter, and what to do about it.

    ``kind`` is one of the codes of docs/adapters-check.md, which stay as they are.
    """

    mend: str

    def __str__(self) -> str:
        return f"{self.level}: {self.where}: [{self.kind}] {self.message}; {self.mend}"


@dataclass
class Findings:
    """One run: the findings so far and the means to add to them."""

    path: str
    findings: list[Finding] = field(default_factory=list)

    def error(self, code: str, message: str, mend: str) -> None:
        self.findings.append(AdapterFinding("error", code, self.path, message, mend))

    def warning(self, code: str, message: str, mend: str) -> None:
        self.findings.append(AdapterFinding("warning", code, self.path, message, mend))

    def report(self, **counts: Any) -> Report:
        found = sorted(self.findings, key=lambda finding: finding.level != "error")
        return Report(Path(self.path), found, counts)
