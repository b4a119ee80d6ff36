"""Projects for a vLLM in which the router chooses: the pocket, and variants of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from pointsman.adapters.files import NOTE
from pointsman.adapters.seal import seal_adapters
from pointsman.models.qwen3_vl import fingerprint_of
from pointsman.project import load_project
from pointsman.routing.router import Router
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


def long_project(folder: Path, tokens: int) -> Path:
    """The pocket with a base that says that it reads so many tokens; its states are the same."""
    path = copied_pocket(folder)
    config = json.loads((folder / "base/config.json").read_text())
    config["text_config"]["max_position_embeddings"] = tokens
    (folder / "base/config.json").write_text(json.dumps(config))
    router = Router.load(folder / "router")
    origin = replace(router.origin, fingerprint=fingerprint_of(str(folder / "base")))
    replace(router, origin=origin).save(folder / "router")
    for name in ADAPTERS:
        (folder / "adapters" / name / NOTE).unlink()  # it names the base's old config
    seal_adapters(folder / "router", load_project(path), again=ADAPTERS)
    return path
