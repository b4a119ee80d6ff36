"""The command line: its commands and its entry point.

Each command is a thin call into the library. It imports the library when it runs, so ``--help`` and
``--version`` load no model library.
"""

import sys
from typing import Annotated

import typer

from pointsman import __version__
from pointsman.cli import (
    adapters,
    console,
    data,
    evaluating,
    projects,
    requests,
    routers,
    serve,
    shadow,
    vllm,
)
from pointsman.cli.options import gathered, without_flags

app = typer.Typer(
    help="Pick the right LoRA for a request.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    requests.demo,
    requests.route,
    requests.generate,
    serve.serve,
    projects.init,
    projects.check,
    routers.preprocess,
    routers.train,
    evaluating.evaluate,
    shadow.shadow,
    routers.inspect,
    routers.seal,
    routers.export,
    routers.adopt,
):
    app.command()(command)
data.app.command("corrections")(shadow.corrections)
app.add_typer(data.app, name="data")
app.add_typer(adapters.app, name="adapters")
app.add_typer(vllm.app, name="vllm")


def _version(is_asked: bool) -> None:
    if is_asked:
        console.say(f"pointsman {__version__}")
        raise typer.Exit


@app.callback()
def options_of_all(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", help="Show no notes and no progress, only results and errors."),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Lists ``--debug`` and ``--quiet`` in ``--help``; ``main`` reads them, wherever they are."""


def main() -> None:
    """Entry point of the ``pointsman`` command."""
    arguments, flags = without_flags(sys.argv[1:])
    console.be_quiet("--quiet" in flags)
    command = gathered(arguments)
    sys.exit(console.run(lambda: app(command, prog_name="pointsman"), "--debug" in flags))


if __name__ == "__main__":
    main()
