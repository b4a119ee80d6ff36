"""What a check of an adapter found, each fault with its mend."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointsman.data.report import Finding, Report

TRAIN_AGAIN = "use the base that the adapter was trained on, or train the adapter again"
SAVE_AGAIN = "save the adapter again with PEFT's save_pretrained"


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
