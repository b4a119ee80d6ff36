"""Project files, samples and pictures for commands to be given."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from pointsman.project import Project


def write_config(path: Path, project: Project, **changes: Any) -> Path:
    values = vars(project) | changes
    lines = [f'base = "{values["base"]}"']
    lines += [f'router = "{values["router"]}"'] if values["router"] else []
    lines += ["[adapters]", *(f'"{k}" = "{v}"' for k, v in values["adapters"].items())]
    path.write_text("\n".join(lines))
    return path


def write_samples(path: Path, **changes: Any) -> Path:
    turns = [{"from": "human", "value": "Pick day 3"}, {"from": "gpt", "value": "ok"}]
    sample = {"conversations": turns, "label": 0, "adapter": "calendar"} | changes
    path.write_text(json.dumps({k: v for k, v in sample.items() if v is not ...}) + "\n")
    return path


def shot(folder: Path) -> Path:
    Image.effect_noise((64, 64), 50).save(folder / "shot.png")
    return folder / "shot.png"
