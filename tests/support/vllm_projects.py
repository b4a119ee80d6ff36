"""Projects for a vLLM in which the router chooses: the pocket, and variants of it."""

import shutil
from pathlib import Path

from pointsman.adapters.seal import seal_adapters
from pointsman.project import load_project
from support.tiny import ADAPTERS, REPOSITORY, make_adapter

POCKET = REPOSITORY / "src/pointsman/pocket/model"
CONFIG = "pointsman.toml"


def copied_pocket(folder: Path, settings: str = "") -> Path:
    """The pocket's project file in a folder of its own; ``settings`` are put at its top."""
    shutil.copytree(POCKET, folder)
    path = folder / CONFIG
    path.write_text(settings + path.read_text())
    return path


def plain_project(folder: Path, settings: str = "") -> Path:
    """The same with random LoRAs on all layers, for which the plan is two-pass."""
    path = copied_pocket(folder, settings)
    for seed, name in enumerate(ADAPTERS, 100):
        shutil.rmtree(folder / "adapters" / name)
        make_adapter(folder / "base", folder / "adapters" / name, seed)
    seal_adapters(folder / "router", load_project(path), again=ADAPTERS)
    return path
