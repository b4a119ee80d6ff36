"""Commands that train and manage routers: preprocess, train, inspect, seal, export, adopt."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pointsman.cli import console, options, show
from pointsman.cli.projects import find_config, open_project
from pointsman.errors import ConfigError

RouterArgument = Annotated[Path, typer.Argument(metavar="ROUTER", help="Router folder.")]
PtFile = Annotated[Path, typer.Option(help="The .pt file to write.")]


def preprocess(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    out: Annotated[Path, typer.Option(help="Features folder to write.")],
    base: options.Base = None,
    encoder: options.Encoder = None,
    revision: options.Revision = None,
    config: options.Config = None,
    layers: options.Layers = None,
    pooling: options.Poolings = None,
    history: Annotated[
        str,
        typer.Option(help="conversation, or last-user to read only the last user turn."),
    ] = "conversation",
    batch_tokens: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of padded tokens in a batch.")
    ] = None,
    max_pixels: options.MaxPixels = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    as_json: options.Json = False,
) -> None:
    """Compute the features of every sample. An interrupted run resumes where it stopped."""
    from pointsman.cli.loading import Given, open_reader, recipe_of
    from pointsman.data.dataset import read_dataset, untrainable
    from pointsman.project import load_project
    from pointsman.routing import feature_store

    samples = read_dataset(dataset)
    if problem := untrainable(samples):
        console.note(problem)
    config = find_config(config)
    if config is not None:
        samples.labels.check_same(
            load_project(config).labels, str(dataset), str(config), "generate it with this project"
        )
    given = Given(
        config,
        base=base,
        encoder=encoder,
        revision=revision,
        max_pixels=max_pixels,
        device=device,
        dtype=dtype,
    )
    reader = open_reader(given)
    recipe = recipe_of(reader, layers, pooling, history)
    with console.progress("features") as report:
        features = feature_store.preprocess(
            samples, reader, out, recipe, batch_tokens=batch_tokens, progress=report
        )
    counts = {split: len(labels) for split, (_, labels) in features.splits.items()}
    if as_json:
        console.show_json(
            {
                "features": str(out),
                "labels": list(features.labels),
                "layers": list(recipe.layers),
                "poolings": list(recipe.poolings),
                "history": recipe.history,
                "samples": counts,
            }
        )
        return
    places = ", ".join(map(str, recipe.places))
    console.say(f"{out}: {counts} samples, {places}, labels {features.labels}")


def train(
    features: Annotated[Path, typer.Argument(help="Features folder.")],
    out: Annotated[Path, typer.Option(help="Router folder to write.")],
    adapter_names: options.OptionalAdapterNames = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Project file. Depths up to the lowest layer that its adapters change then cost "
            "nothing. Default: every layer that routing runs costs the same."
        ),
    ] = None,
    layers: options.TrainLayers = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            help="Share of the in-scope validation samples on which the router does not abstain. "
            "Default: 0.95. With --extend: as many samples out of scope are rejected as before."
        ),
    ] = None,
    conformal: Annotated[
        float | None,
        typer.Option(
            help="Also output a set of adapters that contains the right one with this probability."
        ),
    ] = None,
    prior: options.Prior = None,
    class_weights: Annotated[
        bool, typer.Option(help="Weight rare classes more in the loss.")
    ] = True,
    extend: Annotated[
        Path | None,
        typer.Option(
            help="Router to extend with the new adapters in the features; it stays unchanged."
        ),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            help="With --extend: features folder with samples of the router's existing labels."
        ),
    ] = None,
    seed: options.Seed = 0,
    log_dir: options.LogDir = None,
    as_json: options.Json = False,
) -> None:
    """Train a router on features. Validation selects the layers, the poolings and the head size."""
    names = options.joined(adapter_names)
    if extend is not None:
        _refuse_with_extend(names, config, layers, log_dir, prior, conformal)
        _extend(extend, features, out, replay, coverage, as_json)
        return
    if replay is not None:
        raise ConfigError(f"--replay {replay} goes with --extend ROUTER; add it")
    from pointsman.engine.loading import free_depth_of
    from pointsman.project import load_project
    from pointsman.routing.feature_store import read_features
    from pointsman.routing.train import TrainSettings, train_router

    settings = TrainSettings(
        layers=layers,
        coverage=TrainSettings.coverage if coverage is None else coverage,
        conformal=conformal,
        prior=tuple(prior or ()),
        class_weights=class_weights,
        seed=seed,
    )
    loaded, free = read_features(features), 0
    if config is not None:
        free = free_depth_of(load_project(config).adapters, loaded.labels, loaded.depth)
    with console.progress("heads") as report:
        router = train_router(
            loaded,
            out,
            adapter_names=names,
            free_depth=free,
            settings=settings,
            log_dir=log_dir,
            progress=report,
        )
    if as_json:
        console.show_json(show.training_json(router, out))
        return
    show.training(router, out, samples=int((loaded.splits["val"][1] >= 0).sum()))


def _refuse_with_extend(*given: object) -> None:
    if any(given):
        raise ConfigError(
            "--extend keeps the router's labels, layer and head; leave out --adapter-names, "
            "--config, --layers, --conformal, --prior and --log-dir"
        )


def _extend(
    router: Path,
    features: Path,
    out: Path,
    replay: Path | None,
    coverage: float | None,
    as_json: bool,
) -> None:
    from pointsman.routing.extend import extend_router

    with console.progress("cross-validation") as report:
        extended = extend_router(
            router, features, out, replay=replay, coverage=coverage, progress=report
        )
    show.extension(extended, out, as_json)


def inspect(
    router: Annotated[Path, typer.Argument(help="Router folder or .pt checkpoint.")],
    as_json: options.Json = False,
) -> None:
    """Show the label map of a router and everything sealed in it."""
    from pointsman.routing.seal import unsealed_note

    content, unsealed = _folder_content(router) if router.is_dir() else (_pt_content(router), [])
    if as_json:
        console.show_json(content)
        return
    console.table(("label", "adapter"), list(enumerate(content["adapters"])), str(router))
    others = {key: value for key, value in content.items() if key != "adapters"}
    console.table(("sealed", "value"), list(show.flat(others)))
    if unsealed:
        console.note(unsealed_note(unsealed))


def _folder_content(router: Path) -> tuple[dict[str, Any], list[str]]:
    """The ``config.json`` of a router folder, and the files that it does not seal."""
    from pointsman.files import read_object
    from pointsman.routing.router import Router

    unsealed = Router.load(router).unsealed  # refuses a folder that was changed since it was sealed
    return read_object(router / "config.json"), unsealed


def _pt_content(path: Path) -> dict[str, Any]:
    """The content of a .pt checkpoint, with shapes instead of weights."""
    from pointsman.routing.legacy_pt import read_pt

    checkpoint = read_pt(path)
    shapes = {key: list(value.shape) for key, value in checkpoint["state_dict"].items()}
    return checkpoint | {"state_dict": shapes}


def seal(
    router: RouterArgument,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Project file that names the adapters. Default: pointsman.toml in the current "
            "folder."
        ),
    ] = None,
    again: Annotated[
        list[str] | None,
        typer.Option(help="Adapter that was retrained after it was sealed; repeatable."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Seal the adapters' files into a router. The router then refuses any other files."""
    from pointsman.adapters.seal import seal_adapters

    console.quiet_libraries()
    project = open_project(config)
    if project is None:
        raise ConfigError("no --config, and no pointsman.toml in the current folder; give --config")
    done = seal_adapters(router, project, again or ())
    if as_json:
        console.show_json({"router": str(router), "adapters": done})
        return
    console.table(("label", "adapter", ""), [(i, *row) for i, row in enumerate(done.items())])


def export(router: RouterArgument, out: PtFile) -> None:
    """Write the head of a router in the .pt layout of the original scripts."""
    from pointsman.routing.legacy_pt import reads_of, write_pt
    from pointsman.routing.router import Router

    loaded = Router.load(router)
    write_pt(out, loaded)
    console.say(f"{out}: labels {loaded.labels}")
    console.say(f"the head reads {loaded.recipe}; replace hidden_states[-1][:, 0, :] with")
    console.say(reads_of(loaded).line)


def adopt(
    checkpoint: Annotated[Path, typer.Argument(help="A .pt checkpoint without adapter names.")],
    adapter_names: options.AdapterNames,
    out: PtFile,
    activation: Annotated[
        str | None,
        typer.Option(
            help="Activation between the two linear layers of the head: gelu, relu, silu or tanh."
        ),
    ] = None,
) -> None:
    """Add adapter names, in label order, to a .pt checkpoint that has none."""
    from pointsman.routing.legacy_pt import adopt_pt

    names = options.joined(adapter_names) or []
    adopt_pt(checkpoint, names, out, activation=activation)
    console.say(f"{out}: labels {dict(enumerate(names))}")
