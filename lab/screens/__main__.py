"""``python -m lab.screens``: draws demo screens for the three demo adapters, with true boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pointsman.cli import console
from pointsman.errors import ConfigError

from . import write_screens


def command(
    out: Annotated[Path, typer.Option(help="Folder for samples.jsonl, NAME.jsonl and images.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Number of samples.")] = 1000,
    out_of_scope: Annotated[float, typer.Option(help="Share of samples out of scope.")] = 0.2,
    per_image: Annotated[int, typer.Option(min=1, help="Samples of each picture.")] = 1,
    sizes: Annotated[
        str | None, typer.Option(help="640x448,800x576,…; by default any from 512x400 to 1280x800.")
    ] = None,
    vary: Annotated[
        bool, typer.Option("--vary", help="Scale, pad, invert or compress a share of the pictures.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that draw; the bytes are the same for any number.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Draws demo screens for the three demo adapters, with ground-truth boxes."""
    with console.progress("drawing") as report:
        write_screens(
            out,
            n,
            seed=seed,
            out_of_scope=out_of_scope,
            per_image=per_image,
            sizes=_sizes(sizes),
            vary=vary,
            workers=workers,
            progress=lambda done: report(done, n),
        )
    console.say(f"{out / 'samples.jsonl'}: {n} samples")


def main() -> None:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    raise SystemExit(console.run(app, debug=False))


def _sizes(value: str | None) -> list[tuple[int, int]] | None:
    if value is None:
        return None
    try:
        pairs = [size.split("x") for size in value.split(",")]
        return [(int(width), int(height)) for width, height in pairs]
    except ValueError:
        raise ConfigError(f"--sizes {value!r}: give WIDTHxHEIGHT, such as 640x448") from None


if __name__ == "__main__":
    main()
