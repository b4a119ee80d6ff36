"""The evaluate command."""

from pathlib import Path
from typing import Annotated

import typer

from pointsman.cli import console, options, show


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
        typer.Option(
            "--worth", help="Report whether routing is worth its time. Times single requests."
        ),
    ] = False,
    multitask: Annotated[
        str | None,
        typer.Option(help="Adapter trained on the data of all adapters, to compare routing with."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Requests per batch.")] = 8,
    out: Annotated[
        Path | None,
        typer.Option(help="Write report.html, pictures and predictions to this folder."),
    ] = None,
    plan: options.Plan = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    as_json: options.Json = False,
) -> None:
    """Measure routing, and the success rate of routed, oracle, base and wrong-adapter answers."""
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
    show.evaluation(result)
    if out is not None:
        console.say(f"report: {out / 'report.html'}")
