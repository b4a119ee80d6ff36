"""Merges one training set per adapter into a routing dataset: ``pointsman data generate``.

It takes all options of that command. The label order is the project file's in the working
directory, if there is one and ``--config`` names no other.
"""

import sys
from pathlib import Path
from typing import Any

from pointsman.cli.app import main as pointsman
from pointsman.project import FILE_NAME, adapter_labels


def __getattr__(name: str) -> Any:
    if name == "ADAPTER_LABELS":  # of the project file in the working directory
        return adapter_labels()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main() -> None:
    options = sys.argv[1:]
    has_config = any(option.partition("=")[0] == "--config" for option in options)
    if not has_config and Path(FILE_NAME).is_file():
        options = ["--config", FILE_NAME, *options]
    sys.argv[1:] = ["data", "generate", *options]
    pointsman()


if __name__ == "__main__":
    main()
