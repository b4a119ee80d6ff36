"""Commands for vLLM: vllm serve, vllm command."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import typer

from pointsman.cli import console, options
from pointsman.cli.projects import FILE_NAME, find_config
from pointsman.errors import ConfigError, MissingDependency

app = typer.Typer(
    help="Serve inside vLLM, with the router as the model auto.", no_args_is_help=True
)
NAMES = "--served-model-name"
PLUGINS, RUNNER = "VLLM_PLUGINS", "VLLM_USE_V2_MODEL_RUNNER"
CPU_MEMORY = "VLLM_CPU_KVCACHE_SPACE"
# Whatever we do not know is vLLM's.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
METAVAR = "[OPTIONS] [OPTIONS OF vllm serve]"


class Line(NamedTuple):
    """A command line, and what must be set in its environment."""

    environment: dict[str, str]
    words: list[str]

    def __str__(self) -> str:
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*settings, shlex.join(self.words)])


@app.command("serve", context_settings=PASSED_ON, options_metavar=METAVAR)
def serve(context: typer.Context, config: options.Config = None) -> None:
    """Check the project, and start vLLM with it. Further options are passed to `vllm serve`."""
    line = _line(config, context.args)
    # vLLM of the environment that was checked, also where that is not activated.
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("vllm", path=places)
    if program is None:
        raise MissingDependency("the command vllm is not on the PATH; install pointsman[vllm]")
    os.execve(program, line.words, {**os.environ, **line.environment})


@app.command("command", context_settings=PASSED_ON, options_metavar=METAVAR)
def command(
    context: typer.Context, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Check the project, and print the command line that serves it, for a launcher of your own."""
    line = _line(config, context.args)
    if as_json:
        console.show_json({"environment": line.environment, "command": line.words})
        return
    console.say(str(line))


def _line(config: Path | None, given: Sequence[str]) -> Line:
    """The command line for a project, after every check that vLLM need not be started for.

    Args:
        given: the options that are passed on.
    """
    if given and not given[0].startswith("-"):
        raise ConfigError(f"{given[0]!r}: the base is that of the project file; leave it out")
    with redirect_stdout(sys.stderr):  # vLLM logs to standard output from its import on
        return _checked(config, given)


def _checked(config: Path | None, given: Sequence[str]) -> Line:
    from pointsman.labels import BASE
    from pointsman.vllm.compatibility import check_vllm_version
    from pointsman.vllm.launch import check_base, flags, prepare
    from pointsman.vllm.settings import CONFIG, load_settings

    check_vllm_version()
    console.quiet_libraries()
    found = find_config(config)
    os.environ[CONFIG] = str((found or _pocket()).absolute())
    settings = load_settings()
    assert settings is not None
    launch = prepare(settings)
    check_base(settings, launch.base, settings.project.revision)
    console.note(f"plan {launch.plan.name}: {launch.plan.why}")
    words = ["vllm", "serve", launch.base, *flags(launch, settings)]
    if not any(_option(word) == NAMES for word in given):
        words += [NAMES, launch.base, BASE]  # as in vLLM, and as in a project
    environment = {CONFIG: settings.where}
    environment |= settings_of_vllm(os.environ, is_pocket=found is None)
    return Line(environment, [*words, *given])


def _pocket() -> Path:
    from pointsman.pocket import pocket_folder

    console.note("no --config: using the embedded pocket model")
    with pocket_folder() as folder:
        return folder / FILE_NAME


def _option(word: str) -> str:
    """The name of an option as vLLM reads it, which takes underscores for hyphens."""
    return word.partition("=")[0].replace("_", "-")


def settings_of_vllm(found: Mapping[str, str], *, is_pocket: bool = False) -> dict[str, str]:
    """Environment variables that vLLM needs beside that of the project file.

    Args:
        found: the environment; what is set there is kept.
    """
    from pointsman.vllm.plugin import NAME

    settings = {RUNNER: found.get(RUNNER, "0")}  # on a GPU, newer versions take another by default
    if is_pocket:
        # On a CPU, vLLM wants 92% of the memory for itself, unless it is told how much; in GiB.
        settings[CPU_MEMORY] = found.get(CPU_MEMORY, "1")
    # A list of plugins that was made for others would leave ours out.
    plugins = found.get(PLUGINS)
    if plugins is not None:
        listed = [plugin for plugin in plugins.split(",") if plugin]
        settings[PLUGINS] = ",".join(dict.fromkeys([*listed, NAME]))
    return settings
