"""Writes docs/reference/cli.md from the commands' own help.

python docs/cli_reference.py            writes it
python docs/cli_reference.py --check    fails if it differs
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from pointsman.cli.app import app

PAGE = Path(__file__).parent / "reference" / "cli.md"
HEAD = """# CLI

Every command prints its help with `--help`. Bad input prints one line that names the value and the
fix, and the exit status is 1. Commands use `pointsman.toml` in the current folder if there is one;
without a project file they use the pocket and say so. `python -m pointsman` is the same program.
`pointsman --install-completion` sets up shell completion.

This page is generated from the commands: `python docs/cli_reference.py`.
"""


def page() -> str:
    return "\n".join([HEAD, *described(typer.main.get_command(app), "pointsman")])


def described(command: Any, name: str) -> Iterator[str]:
    """A section for each command, groups before their commands."""
    yield f"## `{name}`\n\n{command.help}\n"
    if rows := [row for parameter in command.params for row in described_parameter(parameter)]:
        yield "\n".join(["| option | default | what it does |", "|---|---|---|", *rows, ""])
    for child_name, child in getattr(command, "commands", {}).items():
        yield from described(child, f"{name} {child_name}")


def described_parameter(parameter: Any) -> Iterator[str]:
    if parameter.param_type_name == "argument":
        name, default = (parameter.metavar or parameter.name or "").upper(), "required"
    else:
        name = ", ".join([*parameter.opts, *parameter.secondary_opts])
        default = "required" if parameter.required else shown(parameter.default)
    text = (parameter.help or "").replace("|", "\\|")
    yield f"| `{name}` | {default} | {text} |".replace("  ", " ")


def shown(default: Any) -> str:
    if default is None or default is False or default in ((), []):
        return ""
    return f"`{default}`" if default is not True else "on"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if it differs")
    if parser.parse_args().check:
        if PAGE.read_text("utf-8") != page():
            sys.exit(f"{PAGE.name} is not what the commands say: run without --check")
    else:
        PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
