"""What every benchmark shares: where results go, and what they ran on."""

import json
import os
import platform
import random
import sys
from collections.abc import Iterator
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image

from pointsman.evaluation.demo import demo_samples

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


def new_screens(count: int) -> Iterator[tuple[bytes, str]]:
    """Screens of the demo as PNG, each with pixels of its own, and what is asked about them."""
    generator = random.Random(0)
    with demo_samples() as samples:
        for _, sample in zip(range(count), cycle(samples), strict=False):
            image, png = Image.open(sample.images[0]).convert("RGB"), BytesIO()
            for at in range(8):
                image.putpixel((at, 0), tuple(generator.randrange(256) for _ in range(3)))
            image.save(png, "PNG")
            yield png.getvalue(), sample.instruction
