"""Commands for single adapters: adapters train, adapters check."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.cli import console, options, show
from pointsman.cli.projects import open_project
from pointsman.errors import ConfigError

if TYPE_CHECKING:
    from pointsman.models.base import Base
    from pointsman.sample import RoutingSample

app = typer.Typer(help="Train and check adapters.", no_args_is_help=True)


@app.command("train")
def train(
    name: Annotated[str, typer.Argument(help="Name of the adapter.")],
    samples: Annotated[
        str,
        typer.Argument(help="Its training set, as for `data generate`, or a routing dataset."),
    ],
    out: Annotated[Path, typer.Option(help="PEFT folder to write.")],
    base: options.Base = None,
    revision: options.Revision = None,
    config: options.Config = None,
    layers_from: Annotated[
        int, typer.Option(min=0, help="Leave the decoder layers below this one unchanged.")
    ] = 0,
    activated: Annotated[
        bool,
        typer.Option(
            "--activated", help="Activate the LoRA only from the start of the answer (aLoRA)."
        ),
    ] = False,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the LoRA.")] = 16,
    alpha: Annotated[
        int, typer.Option(min=1, help="LoRA alpha; the scaling is alpha / rank.")
    ] = 32,
    epochs: Annotated[float, typer.Option(help="Passes over the samples.")] = 1.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per optimiser step.")] = 8,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    max_pixels: options.MaxPixels = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    seed: options.Seed = 0,
    log_dir: options.LogDir = None,
    as_json: options.Json = False,
) -> None:
    """Train a LoRA on the base. An interrupted run resumes where it stopped."""
    from pointsman.adapters.files import NOTE
    from pointsman.adapters.train import AdapterSettings, train_adapter
    from pointsman.cli.loading import Given, open_base
    from pointsman.data.scan import kept_keys
    from pointsman.files import read_object

    settings = AdapterSettings(
        rank=rank,
        alpha=alpha,
        layers_from=layers_from,
        activated=activated,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    given = Given(
        config, base=base, revision=revision, max_pixels=max_pixels, device=device, dtype=dtype
    )
    with TemporaryDirectory(prefix="pointsman-") as folder:
        chosen = _samples(samples, name, Path(folder))
        for line in kept_keys(chosen):
            console.note(line)
        loaded = open_base(given)
        with console.progress(name) as report:
            train_adapter(name, chosen, loaded, out, settings, log_dir=log_dir, progress=report)
    written = read_object(out / NOTE)
    if as_json:
        console.show_json(written)
        return
    last = written["loss"][-1]["loss"] if written["loss"] else "unknown (too few steps)"
    console.say(f"{out}: {len(chosen)} samples, last loss {last}")


def _samples(path: str, adapter: str, folder: Path) -> "list[RoutingSample]":
    """The training samples of an adapter: its part of a routing dataset, or a whole source.

    Args:
        folder: where images that are embedded in a source are written.
    """
    from pointsman.data.dataset import MANIFEST, read_dataset
    from pointsman.data.training_set import read_training_set

    if not (Path(path) / MANIFEST).is_file():
        return read_training_set(path, adapter, folder)
    dataset = read_dataset(path)
    dataset.labels.label(adapter)  # refuses an adapter that the dataset does not know
    return [sample for sample in dataset.splits["train"] if sample.adapter == adapter]


@app.command("check")
def check(
    path: Annotated[str, typer.Argument(help="Folder or Hub id of the adapter.")],
    base: Annotated[
        str | None,
        typer.Option(
            help="Hub id or folder of the base. Without a base, only the adapter's files are "
            "checked."
        ),
    ] = None,
    revision: options.Revision = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Project file that names the base. Default: pointsman.toml in the current folder."
        ),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            help="Answer a synthetic prompt. With --no-probe, the weights of the base are not read."
        ),
    ] = True,
    target: Annotated[
        str | None,
        typer.Option(
            help="vllm: also report what vLLM 0.32.0 refuses, and what it loads but does not "
            "compute."
        ),
    ] = None,
    max_lora_rank: Annotated[
        int, typer.Option(min=1, help="With --target vllm: the server's --max-lora-rank.")
    ] = 16,
    enable_tower_connector_lora: Annotated[
        bool,
        typer.Option(
            "--enable-tower-connector-lora",
            help="With --target vllm: the server has this option too.",
        ),
    ] = False,
    fix: Annotated[
        Path | None,
        typer.Option(
            help="Write a copy with current key names to this folder, and check the copy."
        ),
    ] = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    as_json: options.Json = False,
) -> None:
    """Look for faults that silently change an adapter's answers. Exits with 1 on errors."""
    from pointsman.adapters.check.check import check_adapter, fix_adapter, is_loadable
    from pointsman.models.base import load_base

    console.quiet_libraries()
    base, revision = _base(base, revision, config)
    skeleton = _skeleton(base, revision, fix)
    if fix is not None and skeleton is not None:
        fix_adapter(path, skeleton, fix)
        console.note(f"{path}: written to {fix} with current key names")
        path = str(fix)
    checked = partial(
        check_adapter,
        path,
        target=target,
        max_lora_rank=max_lora_rank,
        enable_tower_connector_lora=enable_tower_connector_lora,
    )
    report = checked(skeleton)
    if probe and base is not None and is_loadable(report.findings):
        loaded = load_base(base, revision=revision, device=device, dtype=dtype)
        report = checked(loaded)
    show.report(report, path, as_json)


def _base(
    base: str | None, revision: str | None, config: Path | None
) -> tuple[str | None, str | None]:
    """The base to check against, and its revision; None without a base."""
    from pointsman.cli.loading import Given, with_base_of

    given = Given(base=base, revision=revision)
    project = open_project(config) if base is None or config is not None else None
    if project is not None:
        given = with_base_of(project, given)
    return given.base, given.revision


def _skeleton(base: str | None, revision: str | None, fix: Path | None) -> "Base | None":
    """The base without its weights; None without a base, which ``--fix`` needs."""
    from pointsman.models.base import load_skeleton

    if base is not None:
        return load_skeleton(base, revision=revision)
    if fix is not None:
        raise ConfigError(f"--fix {fix} needs a base to match the keys to; give --base")
    console.note("no --base and no --config: only the adapter's own files are checked")
    return None
