"""Makes what ``bench_against_vllm.py --device cpu`` serves: the pocket, and drawn requests.

python benchmarks/prepare_against_cpu.py WORK
"""

import argparse
import json
import shutil
from pathlib import Path

from bench_engine import NAMES, draw
from common import machine

from pointsman.engine.engine import Engine
from pointsman.pocket import pocket_folder

PLAN = "in-pass"
REQUESTS = 48


def copy_pocket(work: Path) -> int:
    """Copies the pocket, in the places of ``prepare_vllm_gpu.py``; returns the adapters' rank."""
    with pocket_folder() as pocket:
        shutil.copytree(pocket / "base", work / "base")
        shutil.copytree(pocket / "router", work / "routers" / PLAN)
        shutil.copytree(pocket / "adapters", work / "adapters" / PLAN)
    lines = ['base = "base"', f'router = "routers/{PLAN}"', "[adapters]"]
    lines += [f'{name} = "adapters/{PLAN}/{name}"' for name in NAMES]
    (work / f"{PLAN}.toml").write_text("\n".join(lines) + "\n")
    configs = work.glob("adapters/*/*/adapter_config.json")
    return max(int(json.loads(path.read_text())["r"]) for path in configs)


def write_requests(work: Path) -> None:
    """Draws screens, and notes whom the router sends each one to: vLLM is told."""
    (work / "images").mkdir()
    rows = []
    with Engine.from_config(work / f"{PLAN}.toml") as engine:
        for number, prompt in enumerate(draw(REQUESTS)[0]):
            path = work / "images" / f"{number}.png"
            prompt.images[0].save(path, compress_level=1)
            row = {
                "image": str(path),
                "text": prompt.turns[0].text,
                "prompt": engine.base.render(prompt.turns),
                "adapter": engine.route_prompt(prompt).adapter,
            }
            rows.append(json.dumps(row) + "\n")
    (work / "requests.jsonl").write_text("".join(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="a new folder")
    work = parser.parse_args().work
    work.mkdir()
    made = {
        "shape": "pocket",
        "rank": copy_pocket(work),
        "adapters": list(NAMES),
        "dtype": "float32",
        "machine": machine(),
    }
    write_requests(work)
    (work / "made.json").write_text(json.dumps(made))  # last: now the folder is complete


if __name__ == "__main__":
    main()
