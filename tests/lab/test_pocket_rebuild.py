"""The one command that rebuilds the pocket from nothing, at toy scale."""

import os
import subprocess
import sys
from pathlib import Path

from pointsman.engine.engine import Engine
from pointsman.files import read_object
from pointsman.project import load_project

ROOT = Path(__file__).parents[2]


def test_the_whole_pocket_is_rebuilt_from_nothing(tmp_path: Path) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "PYTHONWARNINGS": "ignore",
    }
    run = subprocess.run(
        [str(ROOT / "runs" / "pocket.sh"), str(tmp_path), "toy"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    model = tmp_path / "model"
    for part in ("base", "adapters/calendar", "router"):
        assert str(tmp_path) not in "".join(
            file.read_text("utf-8") for file in (model / part).glob("*.json")
        )
    assert read_object(model / "router" / "config.json")["base_model_id"] == "base"
    with Engine.from_config(model / "pointsman.toml") as engine:
        picture = next((tmp_path / "screens" / "images").glob("*.png"))
        answer = engine.generate(picture, "Take the second option", max_new_tokens=4)
    assert answer.route is not None
    names = load_project(model / "pointsman.toml").labels.names
    assert tuple(answer.route.probabilities) == names
