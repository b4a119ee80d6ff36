"""Route and answer one request on a Modal GPU.

    modal run modal/generate.py::run --text "Click December 3 in the calendar" --image screen.png

The image is a file on this machine; leave it out for a request of text alone. The project file is
/data/pointsman.toml, unless --config is given.
"""

from pathlib import Path
from typing import Any

from common import ON_GPU

import modal

app = modal.App("pointsman-generate")


@app.function(**ON_GPU)
def generate(image: bytes | None, text: str, config: str) -> dict[str, Any]:
    from dataclasses import asdict

    from pointsman.engine.engine import Engine

    with Engine.from_config(config) as engine:
        return asdict(engine.generate(image, text))


@app.local_entrypoint()
def run(text: str, image: str = "", config: str = "/data/pointsman.toml") -> None:
    answer = generate.remote(Path(image).read_bytes() if image else None, text, config)
    print(f"{answer['adapter'] or 'base'}: {answer['text']}")
