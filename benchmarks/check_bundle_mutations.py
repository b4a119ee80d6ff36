"""Single mutations of a router bundle, its adapters and its project file: is any of them accepted?

A tiny real Qwen3-VL with three adapters and a router that seals them. Each mutation changes one
thing of one file; then an engine is started from the project file, exactly as a user starts it. If
it starts, it routes and answers a fixed set of requests, and everything it says is compared.

Counted are mutations accepted that change an answer, anything raised that is not one of our
one-line errors (a traceback), and code executed (pickles that make a file when they are loaded).
What is accepted and changes nothing is listed by file and kind. The same is then done to the
adapters' files alone with a router that does not seal them, which shows what sealing them is for.

    python benchmarks/check_bundle_mutations.py [--n 10000] [--unsealed 500] [--seed 0]
"""

import argparse
import logging
import os
import random
import shutil
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # a mutated path may look like a Hub id

import torch
from common import report
from mutators import canary_of, mutate

from pointsman.adapters.files import NOTE
from pointsman.adapters.seal import seal_adapters
from pointsman.cli.console import progress, quiet_libraries
from pointsman.data.generate import generate_dataset
from pointsman.engine.engine import Engine
from pointsman.errors import PointsmanError
from pointsman.files import write_json
from pointsman.models.base import Base, load_base
from pointsman.models.features import FeatureRecipe
from pointsman.project import load_project
from pointsman.routing.feature_store import preprocess
from pointsman.routing.train import TrainSettings, train_router
from support.engines import MIXED
from support.tiny import ADAPTERS, make_adapter, make_base, make_sources

# How often each is drawn; the last two have little that could change an answer.
SHARES = {
    "router": 12,
    "probes": 5,
    "score": 5,
    "config.json": 12,
    "adapter": 12,
    "toml": 7,
    "note": 2,
    "card": 1,
}


def make_bundle(folder: Path) -> dict[str, list[Path]]:
    """A project with its base, adapters and sealed router; its files by what they are."""
    root = folder / "bundle"
    base_folder = make_base(root / "base")
    base = load_base(str(base_folder))
    for seed, name in enumerate(ADAPTERS, 1):
        adapter = make_adapter(base_folder, root / "adapters" / name, seed)
        (adapter / "README.md").unlink(missing_ok=True)
        _write_note(adapter, base, name)
    data = generate_dataset(
        make_sources(folder / "sources"), folder / "dataset", val=0.25, test=0.25
    )
    features = preprocess(data, base, folder / "features", FeatureRecipe((2,)))
    train_router(features, root / "router", settings=TrainSettings(mlp_sizes=(16,), steps=200))
    lines = ['base = "base"', 'router = "router"', "", "[adapters]"]
    lines += [f'{name} = "adapters/{name}"' for name in ADAPTERS]
    (root / "pointsman.toml").write_text("# A comment.\n" + "\n".join(lines) + "\n")
    return {
        "router": [root / "router/router.safetensors"],
        "probes": [root / "router/probes.safetensors"],
        "score": [root / "router/score.safetensors"],
        "config.json": [root / "router/config.json"],
        "card": [root / "router/README.md"],
        "toml": [root / "pointsman.toml"],
        "adapter": [
            root / "adapters" / name / file
            for name in ADAPTERS
            for file in ("adapter_config.json", "adapter_model.safetensors")
        ],
        "note": [root / "adapters" / name / NOTE for name in ADAPTERS],
    }


def _write_note(adapter: Path, base: Base, name: str) -> None:
    """What ``train_adapter`` writes down of the base, without training."""
    write_json(adapter / NOTE, {"name": name, "fingerprint": asdict(base.fingerprint)})


def answers(config: Path) -> list[Any]:
    """All that an engine says: routes with their probabilities, and answers of everybody."""
    with Engine.from_config(config, device="cpu") as engine:
        routes = [asdict(route) for route in engine.route_batch(MIXED)]
        everybody = [*ADAPTERS, None] * 2
        said = engine.generate_batch(
            [*MIXED[:4], *MIXED[2:]],
            adapter=[name or "base" for name in everybody],
            max_new_tokens=NEW_TOKENS,
        )
        routed = engine.generate_batch(MIXED, max_new_tokens=NEW_TOKENS)
    return [routes, *([answer.text for answer in batch] for batch in (said, routed))]


NEW_TOKENS = 4


class Run:
    """One series of mutations and what came of them."""

    def __init__(self, root: Path, files: dict[str, list[Path]], seed: int) -> None:
        self.root, self.files, self.seed = root, files, seed
        self.expected = answers(root / "pointsman.toml")
        self.refused: Counter[str] = Counter()
        self.unchanged: Counter[str] = Counter()
        self.changed: list[str] = []
        self.tracebacks: list[str] = []
        self.executed: list[str] = []
        self.kinds: Counter[str] = Counter()

    def one(self, number: int) -> None:
        rng = random.Random(f"{self.seed}/{number}")
        (what,) = rng.choices(list(self.files), [SHARES[name] for name in self.files])
        path = rng.choice(self.files[what])
        before, around = path.read_bytes(), set(path.parent.iterdir())
        kind, done = mutate(path, rng)
        shown = f"{path.relative_to(self.root)}: {kind}: {done}"
        self.kinds[kind] += 1
        try:
            self._judge(shown, f"{what}: {kind}")
        finally:
            for new in set(path.parent.iterdir()) - around:
                new.unlink()
            if path.is_dir():
                path.rmdir()
            path.write_bytes(before)
            canary_of(path).unlink(missing_ok=True)

    def _judge(self, shown: str, group: str) -> None:
        try:
            found = answers(self.root / "pointsman.toml")
        except PointsmanError as error:
            self.refused[group] += 1
            if "\n" in str(error):
                self.tracebacks.append(f"{shown}: more than one line: {error}")
            return
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            self.tracebacks.append(f"{shown}: {type(error).__name__} at {where}: {error}")
            return
        finally:
            if (self.root.parent / "canary-was-executed").exists():
                self.executed.append(shown)
        if found == self.expected:
            self.unchanged[group] += 1
        else:
            self.changed.append(shown)

    def result(self) -> dict[str, Any]:
        accepted = dict(sorted(self.unchanged.items()))
        return {
            "mutations": sum(self.kinds.values()),
            "accepted_and_changing_an_answer": len(self.changed),
            "tracebacks": len(self.tracebacks),
            "code_executed": len(self.executed),
            "refused": sum(self.refused.values()),
            "accepted_and_changing_nothing": sum(accepted.values()),
            "kinds": dict(sorted(self.kinds.items())),
            "accepted_by_file_and_kind": accepted,
            "such_as": {
                "changing": self.changed[:10],
                "tracebacks": self.tracebacks[:10],
                "executed": self.executed[:10],
            },
        }


def series(run: Run, n: int, title: str) -> dict[str, Any]:
    started = time.perf_counter()
    with progress(title) as done:
        for number in range(n):
            run.one(number)
            done(number + 1, n)
    return run.result() | {"seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--unsealed", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quiet_libraries()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # of adapters that are not sealed, and odd ones
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = make_bundle(folder)
        root = folder / "bundle"
        bare = Path(shutil.copytree(root, folder / "bare" / "bundle"))
        seal_adapters(root / "router", load_project(root / "pointsman.toml"))
        sealed = series(Run(root, files, arguments.seed), arguments.n, "mutations")
        adapters = {"adapter": [bare / path.relative_to(root) for path in files["adapter"]]}
        unsealed = series(Run(bare, adapters, arguments.seed), arguments.unsealed, "unsealed")
    report("bundle_mutations", sealed | {"adapters_without_seal": unsealed})
    assert not sealed["accepted_and_changing_an_answer"]
    for result in (sealed, unsealed):
        assert not result["tracebacks"]
        assert not result["code_executed"]


if __name__ == "__main__":
    main()
