"""``python -m lab.pretrain``: one run of the training; see ``runs/pocket_base.sh``."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pointsman.cli import console

from .config import TOY, TrainConfig

_STARTED = time.monotonic()


def command(
    out: Annotated[Path, typer.Option(help="Folder of checkpoint, log and curves; resumed.")],
    budget_seconds: Annotated[float, typer.Option(help="Wall clock of this run.")] = 0.0,
    runs_left: Annotated[int, typer.Option(help="This run and those to come.")] = 1,
    shape: Annotated[str, typer.Option(help="base, small or toy.")] = "",
    seed: Annotated[int, typer.Option()] = 1,
    workers: Annotated[int, typer.Option(help="Processes that draw; -1: 14, or none if toy.")] = -1,
    steps: Annotated[int, typer.Option(help="Stop after so many steps; 0: by the clock.")] = 0,
    base: Annotated[
        Path | None, typer.Option(help="Exported base to begin with, in place of random weights.")
    ] = None,
    rate_share: Annotated[
        float, typer.Option(help="Share of the full rates; under 1 to go on from a --base.")
    ] = 0.0,
    decay_share: Annotated[
        float, typer.Option(help="Share of the training in which the rates go down to nothing.")
    ] = 0.0,
    fonts: Annotated[
        list[Path] | None,
        typer.Option(help="Folder with more typefaces; given twice, drawn twice as often."),
    ] = None,
    no_compile: Annotated[bool, typer.Option(help="Run eagerly.")] = False,
    toy: Annotated[bool, typer.Option(help="A tiny model for half a minute.")] = False,
) -> None:
    """Trains the pocket's base, from nothing or on from the checkpoint in OUT."""
    settings = TOY if toy else TrainConfig()
    given: dict[str, Any] = {
        "budget_seconds": budget_seconds,
        "shape": shape,
        "steps": steps,
        "runs_left": runs_left,
        "seed": seed,
        "base": base,
        "rate_share": rate_share,
        "decay_share": decay_share,
        "fonts": tuple(fonts or ()),
    }
    settings = replace(settings, **{name: value for name, value in given.items() if value})
    if workers >= 0:
        settings = replace(settings, workers=workers)
    if no_compile:
        settings = replace(settings, compile=False)
    from .train import train

    train(settings, out, _STARTED)


def main() -> None:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    raise SystemExit(console.run(app, debug=False))


if __name__ == "__main__":
    main()
