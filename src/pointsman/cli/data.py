"""Commands for routing data: data generate, data check."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pointsman.cli import console, options, show
from pointsman.cli.projects import open_project

app = typer.Typer(help="Make and check routing data.", no_args_is_help=True)


@app.command("generate")
def generate(
    source: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=PATH",
            help="Training set of an adapter: JSONL, JSON, Parquet, a dataset folder or a Hub id; "
            "repeatable.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Dataset folder to write.")],
    out_of_scope: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Samples that no adapter should answer; repeatable."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Project file with the label order. Default: pointsman.toml in the current "
            "folder, else the order of the sources."
        ),
    ] = None,
    val: Annotated[float, typer.Option(help="Share of the samples for validation.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of the samples for testing.")] = 0.1,
    balance: Annotated[
        str,
        typer.Option(help="none, or downsample to limit each adapter to the size of the smallest."),
    ] = "none",
    cap: Annotated[
        int | None, typer.Option(help="Maximum number of samples for each adapter.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option(help="Drop and count unusable samples instead of rejecting the source.")
    ] = False,
    group_similar: Annotated[
        bool, typer.Option(help="Keep pictures that look the same in one split.")
    ] = True,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Merge the training sets of the adapters into one labelled dataset."""
    from pointsman.data.dataset import untrainable
    from pointsman.data.generate import generate_dataset, parse_sources
    from pointsman.files import read_object

    project = open_project(config)
    with console.progress("generating") as report:
        dataset = generate_dataset(
            parse_sources(source),
            out,
            labels=None if project is None else project.labels,
            out_of_scope=out_of_scope or (),
            val=val,
            test=test,
            balance=balance,  # type: ignore[arg-type]  # checked by the library
            cap=cap,
            seed=seed,
            skip_bad=skip_bad,
            group_similar=group_similar,
            progress=report,
            remark=console.note,
        )
    manifest = read_object(out / "dataset.json")
    if problem := untrainable(dataset):
        console.note(problem)
    if as_json:
        console.show_json(manifest)
        return
    show.classes(dataset)
    counts = {split: len(samples) for split, samples in dataset.splits.items()}
    bad = manifest["dropped"]["bad"]
    dropped = f", {bad} unusable ones dropped" if bad else ""
    console.say(f"{out}: {counts} samples{dropped}, labels {dataset.labels}")


@app.command("check")
def check(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    images: Annotated[bool, typer.Option(help="Decode every image.")] = True,
    features: Annotated[
        Path | None,
        typer.Option(help="Features folder of the dataset; also look for label noise."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Look for leaks, broken images, contradictions and imbalance. Exits with 1 on errors."""
    from pointsman.data.check import check_dataset
    from pointsman.routing.label_noise import check_labels

    with console.progress("checking") as step:
        report = check_dataset(dataset, images=images, progress=step)
        if features is not None:
            found = [*report.findings, *check_labels(dataset, features, step)]
            found.sort(key=lambda finding: finding.level != "error")
            report = replace(report, findings=found)
    show.report(report, dataset, as_json)
