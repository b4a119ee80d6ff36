"""The command line: every command a thin call into the library, imported when it is run."""

import sys
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointsman import __version__
from pointsman.cli import console

if TYPE_CHECKING:
    from pointsman.engine.answer import Answer
    from pointsman.engine.engine import Engine
    from pointsman.findings import Report
    from pointsman.models.base import Base as LoadedBase
    from pointsman.models.features import Reader
    from pointsman.routing.request_router import RequestRouter
    from pointsman.routing.route import Route
    from pointsman.routing.text_router import TextRouter

app = typer.Typer(
    help="Pick the right LoRA for a request.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data = typer.Typer(help="Make and check routing data.", no_args_is_help=True)
adapters = typer.Typer(help="Train and check adapters.", no_args_is_help=True)
app.add_typer(data, name="data")
app.add_typer(adapters, name="adapters")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Config = Annotated[
    Path | None,
    typer.Option(help="Project file; without it the embedded pocket model is used."),
]
Base = Annotated[
    str | None, typer.Option(help="Hub id or folder; by default the project's, else the pocket's.")
]
Encoder = Annotated[
    str | None,
    typer.Option(help="Hub id or folder of a text encoder that reads in place of the base."),
]
RouterFolder = Annotated[Path | None, typer.Option(help="Router folder to use instead.")]
Words = Annotated[
    list[str],
    typer.Argument(metavar="[IMAGE] TEXT", help="Screenshot, if there is one, and instruction."),
]
Device = Annotated[str | None, typer.Option(help="cuda, cuda:1, mps or cpu; by default the best.")]
MaxPixels = Annotated[int | None, typer.Option(help="Scale larger images down to this size.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same bytes.")]
Plan = Annotated[
    str | None,
    typer.Option(help="in-pass, activated, two-pass or peft; by default the best that is exact."),
]
LogDir = Annotated[Path | None, typer.Option(help="Write TensorBoard curves here.")]


def _version(shown: bool) -> None:
    if shown:
        console.say(f"pointsman {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of every command; ``--debug`` is read by ``main``."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where pictures and index.html go.")] = Path("demo-out"),
    as_json: Json = False,
) -> None:
    """Route and answer the shipped real screenshots with the pocket model."""
    from pointsman.evaluation.demo import run_demo

    console.quiet_libraries()
    with console.progress("answering") as report:
        result = run_demo(out, progress=report)
    if as_json:
        console.show_json(result.to_json())
        return
    console.table(result.COLUMNS, result.rows(), "Routed and answered by the pocket model")
    console.say(result.summary())
    console.say(f"pictures: {out / 'index.html'}")


@app.command()
def route(
    request: Words,
    config: Config = None,
    router: RouterFolder = None,
    encoder: Encoder = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Show which adapter a request goes to; a router that reads text alone needs no base."""
    image, text = _image_and_text(request)
    alone = _text_router(config, router, encoder, device)
    if alone is None:
        with _engine(config, router=router, device=device) as engine:
            decision = engine.route(image, text)
    else:
        if image is not None:
            console.note(f"the router reads text alone: {image} is not looked at")
        decision = alone.route(None, text)
    if as_json:
        console.show_json(asdict(decision))
        return
    _show_route(decision)


@app.command()
def generate(
    request: Words,
    config: Config = None,
    adapter: Annotated[
        str, typer.Option(help="auto: the router decides; an adapter's name; or base.")
    ] = "auto",
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of the answer at most.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Only tokens of this probability together.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Only so many tokens; 0: all.")] = 0,
    seed: Annotated[int | None, typer.Option(help="The same seed draws the same tokens.")] = None,
    plan: Plan = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Route a request and answer it with its adapter."""
    from pointsman.conversation import make_prompt
    from pointsman.engine.sampling import Sampling

    image, text = _image_and_text(request)
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, seed=seed)
    with _engine(config, device=device, plan=plan) as engine:
        answer = engine.submit(
            make_prompt(image, text),
            adapter=adapter,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
        ).result()
        chosen = engine.plan
    if as_json:
        console.show_json(asdict(answer))
        return
    _show_answer(answer)
    console.say(f"plan {chosen.name}: {chosen.why}")


@app.command()
def preprocess(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    out: Annotated[Path, typer.Option(help="Features folder.")],
    base: Base = None,
    encoder: Encoder = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch on the Hub.")] = None,
    config: Config = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Depths such as 9,18,27; by default ¼, ½ and ¾ of a base, ½, ¾ and all of an "
            "encoder."
        ),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="last, mean, image-mean, first (encoders only), or several such as last,mean; "
            "by default last for a base and an encoder's own."
        ),
    ] = None,
    history: Annotated[
        str, typer.Option(help="conversation, or last-user: only the user's last turn is read.")
    ] = "conversation",
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a batch.")] = None,
    max_pixels: MaxPixels = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Compute every sample's features; goes on where it was stopped."""
    from pointsman.data.dataset import read_dataset
    from pointsman.models.features import FeatureRecipe
    from pointsman.project import load_project
    from pointsman.routing.feature_store import preprocess

    console.quiet_libraries()
    samples = read_dataset(dataset)
    if config is not None:
        samples.labels.check_same(
            load_project(config).labels, str(dataset), str(config), "generate it with this project"
        )
    loaded = _load_reader(config, base, encoder, revision, max_pixels, device)
    depths = _numbers(layers, "--layers") or loaded.default_layers
    poolings: Any = tuple(_names(pooling or loaded.default_pooling))  # checked by the recipe
    recipe = FeatureRecipe(depths, poolings, history)  # type: ignore[arg-type]  # likewise
    with console.progress("features") as report:
        features = preprocess(
            samples, loaded, out, recipe, batch_tokens=batch_tokens, progress=report
        )
    counts = {split: len(labels) for split, (_, labels) in features.splits.items()}
    result = {
        "features": str(out),
        "labels": list(features.labels),
        "layers": list(recipe.layers),
        "poolings": list(recipe.poolings),
        "history": recipe.history,
        "samples": counts,
    }
    if as_json:
        console.show_json(result)
        return
    places = ", ".join(map(str, recipe.places))
    console.say(f"{out}: {counts} samples, {places}, labels {features.labels}")


@app.command()
def train(
    features: Annotated[Path, typer.Argument(help="Features folder.")],
    out: Annotated[Path, typer.Option(help="Router folder.")],
    adapter_names: Annotated[
        str | None, typer.Option(help="NAME,NAME,… in label order; must agree with the features.")
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Depths to choose from.")] = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            help="Share of in-scope validation that is not abstained on; by default 0.95, with "
            "--extend the router's own."
        ),
    ] = None,
    conformal: Annotated[
        float | None,
        typer.Option(help="Give sets of adapters that hold the right one with this probability."),
    ] = None,
    prior: Annotated[
        list[str] | None,
        typer.Option(help="NAME=SHARE of the requests that an adapter will get; repeatable."),
    ] = None,
    class_weights: Annotated[bool, typer.Option(help="Weigh rare classes more.")] = True,
    extend: Annotated[
        Path | None,
        typer.Option(help="Router to append the features' new adapters to; it stays as it is."),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(help="With --extend: features of the router's own labels."),
    ] = None,
    seed: Seed = 0,
    log_dir: LogDir = None,
    as_json: Json = False,
) -> None:
    """Train the head on cached features; what it reads and its shape are picked by validation."""
    from pointsman.errors import ConfigError
    from pointsman.routing.train import TrainSettings, train_router

    if extend is not None:
        if adapter_names or layers or log_dir or prior or conformal:
            raise ConfigError(
                "--extend keeps the router's labels, layer and head; leave out --adapter-names, "
                "--layers, --conformal, --prior and --log-dir"
            )
        _extend(extend, features, out, replay, coverage, as_json)
        return
    if replay is not None:
        raise ConfigError("--replay goes with --extend ROUTER")
    settings = TrainSettings(
        layers=_numbers(layers, "--layers"),
        coverage=TrainSettings.coverage if coverage is None else coverage,
        conformal=conformal,
        prior=tuple(map(_share, prior or ())),
        class_weights=class_weights,
        seed=seed,
    )
    with console.progress("heads") as report:
        router = train_router(
            features,
            out,
            adapter_names=None if adapter_names is None else _names(adapter_names),
            settings=settings,
            log_dir=log_dir,
            progress=report,
        )
    sweep, calibration = router.training, router.calibration
    result = {
        "router": str(out),
        "labels": list(router.labels),
        "layer": router.layer,
        "reads": list(map(str, router.recipe.places)),
        "score": "+".join(router.scorer.parts),
        "threshold": calibration.threshold,
        "best_loss": router.best_loss,
        "best_acc": router.best_acc,
        "candidates": sweep["candidates"],
        "chosen": sweep["chosen"],
        "why": sweep["why"],
    }
    if as_json:
        console.show_json(result)
        return
    columns = ("reads", "MLP size", "accuracy", "AUROC", "loss", "cost", "")
    rows = [
        (
            ", ".join(c["reads"]),
            c["mlp_size"],
            f"{c['val_acc']:.2%}",
            "-" if c["auroc"] is None else f"{c['auroc']:.4f}",
            f"{c['val_loss']:.4f}",
            f"{c['cost']:.0%}",
            "<-" if number == sweep["chosen"] else "",
        )
        for number, c in enumerate(sweep["candidates"])
    ]
    title = "On validation; AUROC out of scope; cost: share of the layers that are run to route"
    console.table(columns, rows, title)
    console.say(f"chosen by the rule of one standard error (Breiman et al., 1984): {sweep['why']}")
    console.say(
        f"abstains under {calibration.threshold:.3f} of the score {result['score']}, which keeps "
        f"at least {calibration.coverage:.0%} of validation"
    )
    console.say(f"{out}: {router.recipe}, accuracy {router.best_acc:.4f}, labels {router.labels}")


@app.command()
def evaluate(
    data: Annotated[Path, typer.Option(help="Dataset folder or JSONL file.")],
    router: RouterFolder = None,
    encoder: Encoder = None,
    config: Config = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Accuracy by any field of the samples; repeatable.")
    ] = None,
    task: Annotated[bool, typer.Option(help="Generate too, where samples have a bbox.")] = True,
    worth: Annotated[
        bool, typer.Option("--worth", help="Say whether routing pays; times single requests.")
    ] = False,
    multitask: Annotated[
        str | None, typer.Option(help="One adapter trained on everything, to compare with.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    out: Annotated[
        Path | None, typer.Option(help="Write report.html, pictures and predictions here.")
    ] = None,
    plan: Plan = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure routing, and the success of routed, oracle, base and wrong-adapter answers."""
    from pointsman.data.dataset import read_samples_of
    from pointsman.evaluation.evaluate import evaluate, save
    from pointsman.files import refuse_other
    from pointsman.project import load_project

    if out is not None:
        refuse_other(out, "an evaluation")  # before the work, not after it
    with ExitStack() as stack:
        answers = task and config is not None and load_project(config).base is not None
        alone = None
        if not answers and multitask is None:  # else an engine loads the reader
            alone = _text_router(config, router, encoder, device)
        by_whom: RequestRouter
        beside = None
        if alone is None:
            by_whom = engine = stack.enter_context(
                _engine(
                    config,
                    router=router,
                    encoder=encoder,
                    device=device,
                    plan=plan,
                    multitask=multitask,
                )
            )
            beside = None if multitask is None else engine.adapters[-1]
        else:
            by_whom = alone
        samples = read_samples_of(data, by_whom.labels)
        with console.progress("evaluating") as report:
            result = evaluate(
                by_whom,
                samples,
                by=by or (),
                task=task,
                worth=worth,
                multitask=beside,
                batch_size=batch_size,
                progress=report,
            )
    if out is not None:
        save(result, by_whom.router, out)
    if as_json:
        console.show_json(result.to_json())
        return
    for title, columns, rows in result.tables():
        console.table(columns, rows, title)
    if result.worth:
        console.say(result.worth.sentence)
    if out is not None:
        console.say(f"report: {out / 'report.html'}")


@app.command()
def inspect(
    router: Annotated[Path, typer.Argument(help="Router folder or .pt checkpoint.")],
    as_json: Json = False,
) -> None:
    """Show a router's mapping and everything sealed in it."""
    from pointsman.files import read_object
    from pointsman.routing.legacy_pt import read_pt
    from pointsman.routing.router import Router
    from pointsman.routing.seal import unsealed_note

    if router.is_dir():
        unsealed = Router.load(router).unsealed  # refuses a folder that is not as it was sealed
        content = read_object(router / "config.json")
    else:
        checkpoint = read_pt(router)
        shapes = {key: list(value.shape) for key, value in checkpoint["state_dict"].items()}
        content, unsealed = checkpoint | {"state_dict": shapes}, []
    if as_json:
        console.show_json(content)
        return
    rows = list(enumerate(content["adapters"]))
    console.table(("label", "adapter"), rows, str(router))
    shown = {key: value for key, value in content.items() if key != "adapters"}
    console.table(("sealed", "value"), list(_flat(shown)))
    if unsealed:
        console.note(unsealed_note(unsealed))


@app.command()
def seal(
    router: Annotated[Path, typer.Argument(help="Router folder.")],
    config: Annotated[Path, typer.Option(help="Project file that names its adapters.")],
    again: Annotated[
        list[str] | None,
        typer.Option(help="An adapter that was trained anew since it was sealed; repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Seal the adapters' files into a router, so that others in their place are refused."""
    from pointsman.adapters.seal import seal_adapters
    from pointsman.project import load_project

    console.quiet_libraries()
    done = seal_adapters(router, load_project(config), again or ())
    if as_json:
        console.show_json({"router": str(router), "adapters": done})
        return
    console.table(("label", "adapter", ""), [(i, *row) for i, row in enumerate(done.items())])


@app.command()
def export(
    router: Annotated[Path, typer.Argument(help="Router folder.")],
    out: Annotated[Path, typer.Option(help="The .pt file to write.")],
) -> None:
    """Write a router's head in the original's .pt layout."""
    from pointsman.routing.legacy_pt import reads_of, write_pt
    from pointsman.routing.router import Router

    loaded = Router.load(router)
    write_pt(out, loaded)
    console.say(f"{out}: labels {loaded.labels}")
    console.say(f"it reads {loaded.recipe}; in place of hidden_states[-1][:, 0, :] write")
    console.say(reads_of(loaded).line)


@app.command()
def adopt(
    checkpoint: Annotated[Path, typer.Argument(help="A .pt checkpoint without adapter names.")],
    adapter_names: Annotated[str, typer.Option(help="NAME,NAME,… in label order.")],
    out: Annotated[Path, typer.Option(help="The .pt file to write.")],
    activation: Annotated[
        str | None,
        typer.Option(help="Between a head's two linear layers: gelu, relu, silu or tanh."),
    ] = None,
) -> None:
    """Give a nameless .pt checkpoint its ordered adapter names."""
    from pointsman.routing.legacy_pt import adopt_pt

    names = _names(adapter_names)
    adopt_pt(checkpoint, names, out, activation=activation)
    console.say(f"{out}: labels {dict(enumerate(names))}")


@data.command("generate")
def data_generate(
    source: Annotated[
        list[str], typer.Option(help="NAME=PATH: JSONL, JSON, parquet, a dataset folder or Hub id.")
    ],
    out: Annotated[Path, typer.Option(help="Dataset folder.")],
    out_of_scope: Annotated[
        list[str] | None, typer.Option(help="Samples that no adapter should answer.")
    ] = None,
    config: Config = None,
    val: Annotated[float, typer.Option(help="Share for validation.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share for testing.")] = 0.1,
    balance: Annotated[str, typer.Option(help="none or downsample.")] = "none",
    cap: Annotated[int | None, typer.Option(help="At most so many of each adapter.")] = None,
    skip_bad: Annotated[bool, typer.Option(help="Drop unusable samples and count them.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Merge per-adapter training sets into one labelled dataset."""
    from pointsman.data.generate import generate_dataset, parse_sources
    from pointsman.files import read_object
    from pointsman.project import load_project

    with console.counting("generating") as report:
        dataset = generate_dataset(
            parse_sources(source),
            out,
            labels=None if config is None else load_project(config).labels,
            out_of_scope=out_of_scope or (),
            val=val,
            test=test,
            balance=balance,  # type: ignore[arg-type]  # checked by the library
            cap=cap,
            seed=seed,
            skip_bad=skip_bad,
            progress=report,
        )
    if as_json:
        console.show_json(read_object(out / "dataset.json"))
        return
    counts = {split: len(samples) for split, samples in dataset.splits.items()}
    console.say(f"{out}: {counts} samples, labels {dataset.labels}")


@data.command("check")
def data_check(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    images: Annotated[bool, typer.Option(help="Decode every image.")] = True,
    features: Annotated[
        Path | None, typer.Option(help="Its features folder: also look for wrong labels.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Look for leaks, broken images, contradictions and imbalance; status 1 if there are errors."""
    from pointsman.data.check import check_dataset

    with console.counting("checking") as step:
        report = check_dataset(dataset, images=images, progress=step)
        if features is not None:
            from pointsman.routing.label_noise import check_labels

            found = [*report.findings, *check_labels(dataset, features, step)]
            found.sort(key=lambda finding: finding.level != "error")
            report = replace(report, findings=found)
    _show_report(report, dataset, as_json)


@adapters.command("train")
def adapters_train(
    name: Annotated[str, typer.Argument(help="The adapter's name.")],
    samples: Annotated[Path, typer.Argument(help="Its JSONL, or a dataset folder.")],
    out: Annotated[Path, typer.Option(help="Where the PEFT folder goes.")],
    base: Base = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch on the Hub.")] = None,
    config: Config = None,
    layers_from: Annotated[
        int, typer.Option(min=0, help="Leave decoder layers below this alone.")
    ] = 0,
    activated: Annotated[
        bool,
        typer.Option("--activated", help="Adapt from the answer's start on only (aLoRA)."),
    ] = False,
    rank: Annotated[int, typer.Option(min=1)] = 16,
    alpha: Annotated[int, typer.Option(min=1)] = 32,
    epochs: float = 1.0,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    learning_rate: float = 1e-3,
    max_pixels: MaxPixels = None,
    device: Device = None,
    seed: Seed = 0,
    log_dir: LogDir = None,
    as_json: Json = False,
) -> None:
    """Fine-tune a LoRA on the base; goes on where it was stopped."""
    from pointsman.adapters.files import NOTE
    from pointsman.adapters.train import AdapterSettings, train_adapter
    from pointsman.data.dataset import read_dataset
    from pointsman.files import read_object
    from pointsman.sample import read_samples

    console.quiet_libraries()
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
    if samples.is_dir():
        dataset = read_dataset(samples)
        dataset.labels.label(name)  # refuses an adapter that the dataset does not know
        chosen = [sample for sample in dataset.splits["train"] if sample.adapter == name]
    else:
        chosen = read_samples(samples, labels=None)
    loaded = _load_base(config, base, revision, max_pixels, device)
    with console.progress(name) as report:
        train_adapter(name, chosen, loaded, out, settings, log_dir=log_dir, progress=report)
    written = read_object(out / NOTE)
    if as_json:
        console.show_json(written)
        return
    last = written["loss"][-1]["loss"] if written["loss"] else "too few steps to say"
    console.say(f"{out}: {len(chosen)} samples, last loss {last}")


@adapters.command("check")
def adapters_check(
    path: Annotated[str, typer.Argument(help="Folder or Hub id of the adapter.")],
    base: Annotated[
        str | None, typer.Option(help="Hub id or folder; without it only its files are looked at.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch on the Hub.")] = None,
    config: Annotated[Path | None, typer.Option(help="Project file to take the base from.")] = None,
    probe: Annotated[
        bool, typer.Option(help="Answer a synthetic prompt; without it no base weights are read.")
    ] = True,
    target: Annotated[
        str | None, typer.Option(help="vllm: also what that server refuses or passes over.")
    ] = None,
    max_lora_rank: Annotated[
        int, typer.Option(min=1, help="What that server is started with.")
    ] = 16,
    fix: Annotated[
        Path | None, typer.Option(help="Write a copy with today's names of keys here.")
    ] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Look for what makes an adapter silently wrong; status 1 if there are errors."""
    from pointsman.adapters.check.check import check_adapter, fix_adapter, is_loadable
    from pointsman.errors import ConfigError
    from pointsman.models.base import load_base, load_skeleton
    from pointsman.project import load_project

    console.quiet_libraries()
    if config is not None:
        project = load_project(config)
        base, revision = base or project.base, revision or project.revision
    if base is None:
        if fix is not None:
            raise ConfigError("--fix needs the base whose keys to match; give --base")
        console.note("no --base and no --config: only the adapter's own files are looked at")
    skeleton = None if base is None else load_skeleton(base, revision=revision)
    if fix is not None and skeleton is not None:
        fix_adapter(path, skeleton, fix)
        console.note(f"{path}: written to {fix} with today's names of keys")
        path = str(fix)
    report = check_adapter(path, skeleton, target=target, max_lora_rank=max_lora_rank)
    if probe and base is not None and is_loadable(report.findings):
        loaded = load_base(base, revision=revision, device=device)
        report = check_adapter(path, loaded, target=target, max_lora_rank=max_lora_rank)
    _show_report(report, path, as_json)


def main() -> None:
    """Entry point of the ``pointsman`` command."""
    debug = "--debug" in sys.argv[1:]
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    sys.exit(console.run(lambda: app(arguments, prog_name="pointsman"), debug))


def _engine(
    config: Path | None,
    *,
    router: Path | None = None,
    encoder: str | None = None,
    device: str | None = None,
    plan: str | None = None,
    multitask: str | None = None,
) -> "Engine":
    """The project's engine, else the pocket's; perhaps with one more adapter, its last."""
    from pointsman.engine.engine import Engine
    from pointsman.engine.options import EngineOptions
    from pointsman.pocket import pocket_folder
    from pointsman.project import FILE_NAME, load_project

    console.quiet_libraries()
    if config is None:
        console.note("no --config: using the embedded pocket model")
        with pocket_folder() as folder:
            project, where = load_project(folder / FILE_NAME), "the pocket model"
    else:
        project, where = load_project(config), str(config)
    if router is not None:
        project = replace(project, router=str(router))
    if encoder is not None:
        project = replace(project, encoder=encoder)
    if multitask is not None:
        from pointsman.evaluation.multitask import engine_beside

        return engine_beside(project, where, multitask, device=device, plan=plan)
    return Engine.from_project(project, where, device=device, options=EngineOptions(plan=plan))


def _text_router(
    config: Path | None, router: Path | None, encoder: str | None, device: str | None
) -> "TextRouter | None":
    """A router that reads text alone, with its encoder; None where it reads with the base."""
    from pointsman.errors import ConfigError
    from pointsman.project import load_project
    from pointsman.routing.load import load_encoder_of, load_router
    from pointsman.routing.router import Router
    from pointsman.routing.text_router import TextRouter

    console.quiet_libraries()
    fallback = "base"
    if config is not None:
        project = load_project(config)
        encoder, fallback = encoder or project.encoder, project.fallback
        project = project if router is None else replace(project, router=str(router))
        loaded = load_router(project, str(config))
    elif router is not None:
        loaded = Router.load(router)
    elif encoder is not None:
        raise ConfigError(f"--encoder {encoder}: give the --router that was trained on it")
    else:
        return None
    reader = load_encoder_of(loaded, encoder, device=device)
    return None if reader is None else TextRouter(reader, loaded, fallback=fallback)


def _load_reader(
    config: Path | None,
    base: str | None,
    encoder: str | None,
    revision: str | None,
    max_pixels: int | None,
    device: str | None,
) -> "Reader":
    """The text encoder that is asked for, or that the project names; else the base."""
    from pointsman.errors import ConfigError
    from pointsman.models.text_encoder import load_encoder
    from pointsman.project import load_project

    if base is not None and encoder is not None:
        raise ConfigError(f"--base {base} and --encoder {encoder}: one of them reads; give that")
    if config is not None and base is None and encoder is None:
        encoder = load_project(config).encoder
    if encoder is None:
        return _load_base(config, base, revision, max_pixels, device)
    return load_encoder(encoder, revision=revision, device=device)


def _load_base(
    config: Path | None,
    base: str | None,
    revision: str | None,
    max_pixels: int | None,
    device: str | None,
) -> "LoadedBase":
    """The project's base, else the pocket's; options of the command line come first."""
    from pointsman.errors import ConfigError
    from pointsman.models.base import load_base
    from pointsman.pocket import pocket_folder
    from pointsman.project import FILE_NAME, load_project

    if config is not None:
        project = load_project(config)
        base = base or project.base
        revision, max_pixels = revision or project.revision, max_pixels or project.max_pixels
    elif base is None:
        console.note("no --base and no --config: using the embedded pocket base")
        with pocket_folder() as folder:
            base = load_project(folder / FILE_NAME).base
    if base is None:
        raise ConfigError(f'{config}: needs base = "a Hub id or folder", or give --base')
    return load_base(base, revision=revision, device=device, max_pixels=max_pixels)


def _extend(
    router: Path,
    features: Path,
    out: Path,
    replay: Path | None,
    coverage: float | None,
    as_json: bool,
) -> None:
    """Appends adapters to a router and shows what that cost the old ones."""
    from pointsman.routing.extend import extend_router

    grown = extend_router(router, features, out, replay=replay, coverage=coverage)
    changes = grown.training["extended"][-1]["changes"]
    if as_json:
        labels = list(grown.labels)
        console.show_json({"router": str(out), "labels": labels, "changes": changes})
        return

    def shown(change: dict[str, Any], name: str) -> str:
        before, after = change[f"{name}_before"], change[name]
        return f"{'new' if before is None else f'{before:.1%}'} -> {after:.1%}"

    rows = [
        (label, c["adapter"], c["samples"], shown(c, "right"), shown(c, "routed"))
        for label, c in enumerate(changes)
    ]
    console.table(("label", "adapter", "validation", "top label right", "routed right"), rows)
    console.say(f"{out}: labels {grown.labels}")


def _numbers(value: str | None, option: str) -> tuple[int, ...] | None:
    from pointsman.errors import ConfigError

    if value is None:
        return None
    try:
        return tuple(sorted({int(number) for number in value.split(",")}))
    except ValueError:
        raise ConfigError(f"{option} {value!r}: give whole numbers, such as 9,18,27") from None


def _image_and_text(words: list[str]) -> tuple[Path | None, str]:
    from pointsman.errors import ConfigError

    if len(words) > 2:
        raise ConfigError(f"{words[2]!r}: give one image and one text; put quotes around the text")
    return (Path(words[0]), words[1]) if len(words) == 2 else (None, words[0])


def _share(value: str) -> tuple[str, float]:
    from pointsman.errors import ConfigError

    name, _, share = value.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise ConfigError(f"--prior {value!r}: give NAME=SHARE, such as calendar=0.7") from None


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",")]


def _show_report(report: "Report", path: Path | str, as_json: bool) -> None:
    """All findings of a check; status 1 if there are errors."""
    if as_json:
        console.show_json(report.to_json())
    else:
        for finding in report.findings:
            console.say(str(finding))
        console.say(f"{path}: {len(report.errors)} errors, {len(report.warnings)} warnings")
    if report.errors:
        raise typer.Exit(1)


def _flat(content: dict[str, Any], prefix: str = "") -> Any:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _show_route(decision: "Route") -> None:
    rows = [
        (label, name, f"{probability:.3f}", "<-" if decision.label == label else "")
        for label, (name, probability) in enumerate(decision.probabilities.items())
    ]
    console.table(("label", "adapter", "probability", ""), rows)
    if decision.held:
        console.say(f"held: the session keeps {decision.adapter}")
    if decision.abstained:
        who = "nobody" if decision.refused else decision.adapter or "the base"
        console.say(f"abstained: like nothing that the adapters are for, {who} answers")
    if decision.candidates is not None:
        console.say(f"label set: {', '.join(decision.candidates) or 'none'}")


def _show_answer(answer: "Answer") -> None:
    if answer.route is not None:
        _show_route(answer.route)
    console.say(f"{answer.adapter or 'base'}: {answer.text}")
    if answer.point is not None:
        console.say("click at x={:.0f}, y={:.0f} pixels".format(*answer.point))
    if answer.typed is not None:
        console.say(f"type {answer.typed!r}")


if __name__ == "__main__":
    main()
