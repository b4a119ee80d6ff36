"""Findings: what any check reports, each fault with its fix."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Level = Literal["error", "warning"]
TRAIN_AGAIN = "use the base that the adapter was trained on, or retrain the adapter"
SAVE_AGAIN = "save the adapter again with PEFT's save_pretrained"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (error) or odd (warning)."""

    level: Level
    kind: str
    """For a dataset: ``dataset``, ``fingerprint``, ``sample``, ``label``, ``image``, ``bbox``,
    ``split-leak``, ``duplicate``, ``contradiction``, ``missing-class``, ``imbalance``,
    ``answer-leak``, ``adapter-name``, ``trivia``, ``unused-image``, ``features`` or
    ``label-noise``. For an adapter: a code from docs/adapters-check.md."""
    where: str
    """File, file and line, or split."""
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.where}: {self.message}"

    def to_json(self) -> dict[str, Any]:
        """The finding as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Report:
    """All findings, errors first, and the counts gathered by the check."""

    path: Path
    findings: list[Finding]
    counts: dict[str, Any]
    """For a dataset: ``samples``, ``images``, and ``splits`` (samples per class by split). For an
    adapter: ``tensors``, ``modules``, and ``largest_change`` (the largest change of a logit)."""

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
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True)
class AdapterFinding(Finding):
    """One thing that is wrong or odd with an adapter, and what to do about it.

    ``kind`` is a code from docs/adapters-check.md; these codes are stable.
    """

    hint: str

    def __str__(self) -> str:
        return f"{self.level}: {self.where}: [{self.kind}] {self.message}; {self.hint}"

    def to_json(self) -> dict[str, Any]:
        """The finding as a JSON object; the format's key for ``hint`` is ``mend``."""
        record = super().to_json()
        return record | {"mend": record.pop("hint")}


@dataclass
class Findings:
    """Collects the findings of one run."""

    path: str
    findings: list[Finding] = field(default_factory=list)

    def error(self, code: str, message: str, hint: str) -> None:
        self.findings.append(AdapterFinding("error", code, self.path, message, hint))

    def warning(self, code: str, message: str, hint: str) -> None:
        self.findings.append(AdapterFinding("warning", code, self.path, message, hint))

    def report(self, **counts: Any) -> Report:
        found = sorted(self.findings, key=lambda finding: finding.level != "error")
        return Report(Path(self.path), found, counts)
