"""The command that measures: evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from pointsman.cli import console, options


def evaluate(
    data: Annotated[Path, typer.Option(help="Dataset folder or JSONL file.")],
    router: options.RouterFolder = None,
    encoder: options.Encoder = None,
    config: options.Config = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Also show the accuracy by this field of the samples; repeatable."),
    ] = None,
    task: Annotated[
        bool, typer.Option(help="Also generate answers for the samples that have a bbox.")
    ] = True,
    worth: Annotated[
        bool,
        typer.Option("--worth", help="Tell whether routing pays off; times single requests."),
    ] = False,
    multitask: Annotated[
        str | None,
        typer.Option(help="Adapter that was trained on all data, to compare routing with."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Requests that the model gets at the same time.")
    ] = 8,
    out: Annotated[
        Path | None,
        typer.Option(help="Write report.html, pictures and predictions to this folder."),
    ] = None,
    plan: options.Plan = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    as_json: options.Json = False,
) -> None:
    """Measure routing, and how often routed, oracle, base and wrong-adapter answers succeed."""
    from pointsman.cli.loading import Given, open_router
    from pointsman.data.dataset import read_samples_of
    from pointsman.engine.engine import Engine
    from pointsman.evaluation import evaluate as evaluation
    from pointsman.files import refuse_other

    if out is not None:
        refuse_other(out, "an evaluation")  # before the work, not after it
    given = Given(
        config,
        router,
        encoder=encoder,
        device=device,
        dtype=dtype,
        plan=plan,
        multitask=multitask,
    )
    with open_router(given, answers=task) as opened:
        beside = opened.adapters[-1] if multitask and isinstance(opened, Engine) else None
        samples = read_samples_of(data, opened.labels)
        with console.progress("evaluating") as report:
            result = evaluation.evaluate(
                opened,
                samples,
                by=by or (),
                task=task,
                worth=worth,
                multitask=beside,
                batch_size=batch_size,
                progress=report,
            )
        if out is not None:
            evaluation.save(result, opened.router, out)
    if as_json:
        console.show_json(result.to_json())
        return
    for title, columns, rows in result.tables():
        console.table(columns, rows, title)
    if result.worth:
        console.say(result.worth.sentence)
    if out is not None:
        console.say(f"report: {out / 'report.html'}")
