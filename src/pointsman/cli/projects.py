"""Commands for the project file: init, check."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.cli import console, options, show
from pointsman.errors import ConfigError

if TYPE_CHECKING:
    from pointsman.project import Project

FILE_NAME = "pointsman.toml"
"""As in ``project``, which imports torch"""
TEMPLATE = """\
# Pointsman project file. Paths are relative to this file. Check it with `pointsman check`.

# The vision-language model that the adapters were trained on: a Hub id or a folder.
# Not needed if the router reads only text (see encoder) and this project only routes.
base = "Qwen/Qwen3-VL-8B-Instruct"

# Commit, tag or branch of a base on the Hub. Default: the newest.
# revision = "main"

# Larger images are scaled down to this many pixels. Default: the limit of the base.
# max_pixels = 1048576

# A text encoder that the router reads instead of the base: a Hub id or a folder.
# encoder = "sentence-transformers/all-MiniLM-L6-v2"

# The router folder that `pointsman train --out router` writes.
router = "router"

# What answers if the router abstains: "base", the name of an adapter, or "error" to fail the
# request. Default: "base".
# fallback = "base"

# A session keeps its adapter until the probability of another adapter exceeds that of its own
# by more than this, from 0 to 1. Default: 0.2.
# hysteresis = 0.2

# Whether servers route requests without an image to adapters too; chat front ends send such
# requests in the background. Default: false.
# route_text = false

# The adapters: name = "folder or Hub id", one per line. Their order is the label order: the first
# is label 0. Append new adapters at the end, and never reorder or rename them.
[adapters]
# calendar = "adapters/calendar"
# claim-window = "adapters/claim-window"
# provider-select = "adapters/provider-select"

# Options of `pointsman serve`; `pointsman serve --show-config` prints all with their defaults.
# [server]
# port = 8000
# adapter_root = "adapters"
"""


def find_config(config: Path | None) -> Path | None:
    """The given project file, else the one in the current folder; None if there is neither."""
    if config is None and Path(FILE_NAME).is_file():
        console.note(f"no --config: using {FILE_NAME} in the current folder")
        return Path(FILE_NAME)
    return config


def open_project(config: Path | None) -> "Project | None":
    """The project, for a command that also works without one; None if there is none."""
    from pointsman.project import load_project

    found = find_config(config)
    return None if found is None else load_project(found)


def init(
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented pointsman.toml template to the current folder."""
    from pointsman.files import write_text

    path = Path(FILE_NAME)
    if path.exists() and not force:
        raise ConfigError(f"{path}: already exists; edit it, or overwrite it with --force")
    write_text(path, TEMPLATE)
    console.say(f"{path}: written; fill in base and [adapters], then run `pointsman check`")


def check(
    config: Annotated[Path, typer.Argument(metavar="[CONFIG]", help="Project file.")] = Path(
        FILE_NAME
    ),
    as_json: options.Json = False,
) -> None:
    """Check the project file and everything it names. Exits with 1 on errors."""
    from pointsman.cli.project_check import check_project

    console.quiet_libraries()
    show.report(check_project(config), config, as_json)
