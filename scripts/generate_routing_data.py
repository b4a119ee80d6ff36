"""Merges one training set per adapter into a routing dataset; see ``pointsman.data.generate``."""

import argparse
import sys
from pathlib import Path
from typing import Any

from pointsman.data.generate import generate_dataset, parse_sources
from pointsman.errors import PointsmanError
from pointsman.project import FILE_NAME, adapter_labels, load_project


def __getattr__(name: str) -> Any:
    if name == "ADAPTER_LABELS":  # of the project file in the working directory
        return adapter_labels()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", action="append", default=[], metavar="NAME=PATH", required=True)
    parser.add_argument("--out", type=Path, required=True, help="dataset folder to make")
    parser.add_argument("--config", type=Path, help=f"label order (default: {FILE_NAME} if there)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    config = options.config or (Path(FILE_NAME) if Path(FILE_NAME).is_file() else None)
    try:
        labels = load_project(config).labels if config else None
        sources = parse_sources(options.source)
        dataset = generate_dataset(sources, options.out, labels=labels, seed=options.seed)
    except PointsmanError as error:
        print(error, file=sys.stderr)
        return 1
    sizes = ", ".join(f"{len(samples)} {name}" for name, samples in dataset.splits.items())
    print(f"{dataset.path}: {sizes}; labels {dataset.labels}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
