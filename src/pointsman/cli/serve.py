"""The command serve."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointsman.cli import console, options
from pointsman.cli.projects import find_config
from pointsman.errors import MissingDependency

if TYPE_CHECKING:
    from pointsman.server.options import ServerOptions


def serve(
    config: options.Config = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port. [default: 8000]")] = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print the options in force, and stop.")
    ] = False,
) -> None:
    """Serve chat completions in OpenAI's form; the model auto chooses the adapter."""
    try:
        from pointsman.server.app import make_app
        from pointsman.server.options import ServerOptions
        from pointsman.server.run import listen, run
        from pointsman.server.tracing import Tracing
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"{error.name} is not installed; run: pip install 'pointsman[server]'"
        ) from None
    from pointsman.cli.loading import project_or_pocket
    from pointsman.engine.engine import Engine
    from pointsman.engine.options import EngineOptions
    from pointsman.routing.seal import router_digest

    found = find_config(config)
    project, where = project_or_pocket(found)
    folder = Path() if found is None else found.parent
    settings = ServerOptions.from_table(project.server, folder, host=host, port=port)
    if show_config:
        console.show_json(_shown(settings))
        return
    tracing = Tracing.from_environment()
    place = listen(settings)  # before the model is loaded
    console.quiet_libraries()
    engine = Engine.from_project(
        project,
        where,
        device=device,
        dtype=dtype,
        options=EngineOptions(
            slots=settings.slots,
            max_waiting=settings.max_waiting,
            image_cache_mb=settings.image_cache_mb,
            max_new_tokens=settings.max_new_tokens,
        ),
    )
    samples = _samples() if found is None else {}
    app = make_app(
        engine,
        router_digest(str(project.router)),
        settings,
        samples,
        tracing,
        route_text=project.route_text,
    )
    _log_requests()
    address, number = place.getsockname()[:2]
    host_name = f"[{address}]" if ":" in address else address
    console.note(f"plan {engine.plan.name}: {engine.plan.why}")
    run(app, place, settings, lambda: console.note(f"ready: http://{host_name}:{number}"))


def _shown(settings: "ServerOptions") -> dict[str, Any]:
    """The options in force; of a key, only whether there is one."""
    values = asdict(settings)
    return values | {name: values[name] is not None for name in ("api_key", "admin_key")}


def _samples() -> dict[str, tuple[dict[str, Any], bytes]]:
    """The demo's screens, which the page offers to try."""
    from pointsman.evaluation.demo import demo_samples

    with demo_samples() as samples:
        return {
            Path(sample.images[0]).stem: (
                {"name": Path(sample.images[0]).stem, "text": sample.instruction}
                | {"adapter": sample.adapter},
                Path(sample.images[0]).read_bytes(),
            )
            for sample in samples
        }


def _log_requests() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("pointsman.server", "uvicorn.error"):
        logging.getLogger(name).addHandler(handler)
    logging.getLogger("pointsman.server").setLevel(logging.INFO)
