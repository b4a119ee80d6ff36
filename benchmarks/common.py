"""What every benchmark shares: where results go, and what they ran on."""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT), str(ROOT / "tests")]  # lab/ draws the screens, tests/support/ makes models
RESULTS = Path(__file__).parent / "results"
SCREENS = ROOT.parent / "shared" / "screens" / "samples.jsonl"
"""Real screenshots, which are no part of the repository"""
WITHOUT_SCREENS = f"the real screenshots are no part of the repository: {SCREENS} is missing"


def machine() -> dict[str, Any]:
    """What a figure depends on besides the code."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else platform.machine() + " CPU",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def report(name: str, result: dict[str, Any]) -> None:
    """Prints a result and writes it to ``benchmarks/results/NAME.json``."""
    RESULTS.mkdir(exist_ok=True)
    content = {"benchmark": name, "machine": machine()} | result
    text = json.dumps(content, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)
