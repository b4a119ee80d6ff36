"""Trains a router from Python: data, features, head, seal.

python examples/train_your_router.py pointsman.toml SOURCES OUT

SOURCES has one training set per adapter, named like it: calendar.jsonl, claim-window.jsonl, …
"""

import sys
from pathlib import Path

from pointsman import (
    FeatureRecipe,
    generate_dataset,
    load_base,
    load_project,
    preprocess,
    seal_adapters,
    train_router,
)


def main(config: str, sources: str, out: str) -> None:
    project = load_project(Path(config))  # the order of [adapters] is the label order
    found = {name: [Path(sources) / f"{name}.jsonl"] for name in project.adapters}
    dataset = generate_dataset(
        found, Path(out) / "dataset", labels=project.labels, val=0.2, test=0.2
    )
    base = load_base(project.base)
    recipe = FeatureRecipe(layers=(base.depth // 4,))  # by default three depths; training picks
    features = preprocess(dataset, base, Path(out) / "features", recipe)
    router = train_router(features, Path(out) / "router")
    seal_adapters(Path(out) / "router", project)
    print(f"{router.labels}: validation accuracy {router.best_acc:.1%}")
    print(f'next: router = "{out}/router" in {config}, then pointsman evaluate')


if __name__ == "__main__":
    main(*sys.argv[1:4])
