"""Commands on the decision log of a server: shadow, data corrections."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointsman.cli import console, options
from pointsman.cli.projects import find_config

if TYPE_CHECKING:
    from pointsman.cli.loading import Given
    from pointsman.routing.request_router import ReaderRouter


def shadow(
    new_router: Annotated[Path, typer.Argument(help="Folder of the candidate router.")],
    log: Annotated[Path, typer.Option(help="Folder that a server logs its decisions to.")],
    config: options.Config = None,
    base: options.Base = None,
    encoder: options.Encoder = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Requests per batch.")] = 8,
    out: Annotated[
        Path | None,
        typer.Option(help="Write shadow.html, disagreements and figures to this folder."),
    ] = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    as_json: options.Json = False,
) -> None:
    """Compare a candidate router with the decisions in a server's log. It answers nothing."""
    from pointsman.cli.loading import Given
    from pointsman.evaluation import shadow as evaluation
    from pointsman.evaluation.corrections import read_corrections
    from pointsman.evaluation.shadow_report import save_shadow
    from pointsman.files import refuse_other
    from pointsman.server.decision_log import read_log

    if out is not None:
        refuse_other(out, "a comparison")  # before the work, not after it
    decisions = read_log(log)
    read_corrections(log)  # likewise
    given = Given(find_config(config), base=base, encoder=encoder, device=device, dtype=dtype)
    candidate = _candidate(new_router, given)
    with console.progress("shadow") as report:
        found = evaluation.shadow(
            candidate,
            decisions,
            old_training=lambda digest: _training(given.config, digest),
            batch_size=batch_size,
            progress=report,
        )
    if out is not None:
        save_shadow(found, out, str(new_router))
    if as_json:
        console.show_json(found.to_json())
        return
    _show(found)
    if out is not None:
        console.say(f"report: {out / 'shadow.html'}")


def _candidate(folder: Path, given: "Given") -> "ReaderRouter":
    """The router with its text encoder, or with the base."""
    from pointsman.cli.loading import open_base
    from pointsman.routing.load import load_encoder_of
    from pointsman.routing.request_router import ReaderRouter
    from pointsman.routing.router import Router

    router = Router.load(folder)
    console.quiet_libraries()
    reader = load_encoder_of(router, given.encoder, device=given.device, dtype=given.dtype)
    return ReaderRouter(reader or open_base(given), router)


def _training(config: Path | None, digest: str) -> dict[str, Any] | None:
    """The training of the project's router, if that is the one of a digest."""
    from pointsman.project import load_project
    from pointsman.routing.router import Router
    from pointsman.routing.seal import router_digest

    folder = load_project(config).router if config is not None else None
    if folder is None or router_digest(folder) != digest:
        return None
    return Router.load(folder).training


def _show(found: Any) -> None:
    from pointsman.evaluation import shadow_report as report

    moves = report.moves_table(found)
    console.table(moves.columns, moves.rows, report.agreement_line(found))
    old, new = found.abstained
    console.say(f"abstained: old on {old}, new on {new}")
    console.say("mean confidence: old {:.3f}, new {:.3f}".format(*found.confidence))
    if line := report.accuracy_line(found):
        console.say(line)
    for line in (*report.estimate_lines(found), *found.drift, *found.skipped.reasons()):
        console.say(line)


def corrections(
    log: Annotated[Path, typer.Argument(help="Folder that a server logs its decisions to.")],
    out: Annotated[Path, typer.Option(help="Folder to write the training sets to.")],
    as_json: options.Json = False,
) -> None:
    """Write the corrected decisions of a server's log as sources for data generate."""
    from dataclasses import asdict

    from pointsman.evaluation.corrections import write_corrected
    from pointsman.server.decision_log import read_log

    done = write_corrected(read_log(log), out)
    if as_json:
        console.show_json({"out": str(out), **asdict(done)})
        return
    for name, n in done.files.items():
        console.say(f"{out / name}: {n} samples")
    for line in done.lines():
        console.note(line)
