"""Findings: what any check reports, each fault with its fix."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Level = Literal["error", "warning"]
RETRAIN = "use the base that the adapter was trained on, or retrain the adapter"
SAVE_AGAIN = "save the adapter again with PEFT's save_pretrained"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (error) or odd (warning)."""

    level: Level
    kind: str
    """Of a dataset: ``dataset``, ``fingerprint``, ``sample``, ``label``, ``image``, ``bbox``,
    ``split-leak``, ``near-duplicate``, ``duplicate``, ``contradiction``, ``missing-class``,
    ``imbalance``, ``answer-leak``, ``adapter-name``, ``empty-answer``, ``coordinates``, ``trivia``,
    ``unused-image``, ``features`` or ``label-noise``. Of an adapter: one of
    docs/reference/adapter-codes.md."""
    where: str
    """File, file and line, or split."""
    message: str
    hint: str = field(default="", kw_only=True)
    """What to do about it; every finding of an adapter has one."""

    def __str__(self) -> str:
        message = f"[{self.kind}] {self.message}; {self.hint}" if self.hint else self.message
        return f"{self.level}: {self.where}: {message}"

    def to_json(self) -> dict[str, Any]:
        """The finding as a JSON object, without a hint that it does not have."""
        return {name: value for name, value in asdict(self).items() if name != "hint" or value}


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
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass
class Findings:
    """One check of an adapter: the findings so far and the means to add to them."""

    path: str
    findings: list[Finding] = field(default_factory=list)

    def error(self, kind: str, message: str, hint: str) -> None:
        self.findings.append(Finding("error", kind, self.path, message, hint=hint))

    def warning(self, kind: str, message: str, hint: str) -> None:
        self.findings.append(Finding("warning", kind, self.path, message, hint=hint))

    def report(self, **counts: Any) -> Report:
        found = sorted(self.findings, key=lambda finding: finding.level != "error")
        return Report(Path(self.path), found, counts)
