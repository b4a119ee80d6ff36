"""Commands that route and answer requests: route, generate, demo."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.cli import console, options, show
from pointsman.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from pointsman.routing.request_router import RequestRouter
    from pointsman.routing.route import Route

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures and index.html.")] = Path(
        "demo-out"
    ),
    as_json: options.Json = False,
) -> None:
    """Route and answer the screenshots that ship with the pocket model."""
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


def route(
    request: options.Words = None,
    config: options.Config = None,
    router: options.RouterFolder = None,
    encoder: options.Encoder = None,
    requests: options.Requests = None,
    out: options.Results = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    as_json: options.Json = False,
) -> None:
    """Show which adapter a request goes to. A router that reads only text needs no base."""
    from pointsman.cli.loading import Given, open_router
    from pointsman.cli.request_file import RequestFile, route_all, write_outcomes

    words = _request(request, requests, out)
    lines = None if requests is None else RequestFile(requests)
    given = Given(config, router, encoder=encoder, device=device, dtype=dtype)
    with open_router(given) as opened:
        if lines is not None:
            lines.images = opened.reads_images
            _finish(write_outcomes(route_all(opened, lines), lines, out))
            return
        decision = _route(opened, *words)
    if as_json:
        console.show_json(asdict(decision))
        return
    show.route(decision)


def _route(router: "RequestRouter", image: Path | None, text: str) -> "Route":
    if image is not None and not router.reads_images:
        console.note(f"the router reads only text; {image} is not used")
        image = None
    return router.route(image, text)


def generate(
    request: options.Words = None,
    config: options.Config = None,
    adapter: Annotated[
        str,
        typer.Option(
            help="auto (the router decides), the name of an adapter, or base (no adapter)."
        ),
    ] = "auto",
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of tokens in the answer.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Sampling temperature; 0 always takes the most likely token.")
    ] = 0.0,
    top_p: Annotated[
        float,
        typer.Option(
            help="Nucleus sampling: sample from the smallest set of tokens whose probabilities "
            "sum to this value."
        ),
    ] = 1.0,
    top_k: Annotated[
        int, typer.Option(help="Sample from this many of the most likely tokens; 0 means all.")
    ] = 0,
    seed: Annotated[
        int | None, typer.Option(help="Seed; the same seed samples the same tokens.")
    ] = None,
    requests: options.Requests = None,
    out: options.Results = None,
    plan: options.Plan = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    as_json: options.Json = False,
) -> None:
    """Route a request and answer it with the adapter that the router chooses."""
    from pointsman.cli.loading import Given, open_engine
    from pointsman.cli.request_file import RequestFile, answer_all, write_outcomes
    from pointsman.conversation import Prompt, make_prompt
    from pointsman.engine.sampling import Sampling
    from pointsman.engine.stream import Stream

    words = _request(request, requests, out)
    lines = None if requests is None else RequestFile(requests)
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, seed=seed)
    with open_engine(Given(config, device=device, dtype=dtype, plan=plan)) as engine:

        def submit(prompt: Prompt) -> Stream:
            return engine.submit(
                prompt, adapter=adapter, max_new_tokens=max_new_tokens, sampling=sampling
            )

        if lines is not None:
            _finish(write_outcomes(answer_all(submit, lines), lines, out))
            return
        answer = submit(make_prompt(*words)).result()
    if as_json:
        console.show_json(asdict(answer))
        return
    show.answer(answer)
    console.say(f"plan {engine.plan.name}: {engine.plan.why}")


def _request(
    words: Sequence[str] | None, requests: str | None, out: Path | None
) -> tuple[Path | None, str]:
    """The image and the text of one request; no image and an empty text with ``--requests``."""
    if requests is not None:
        if words:
            raise ConfigError(f"{words[0]!r}: give one request or --requests {requests}, not both")
        return None, ""
    if out is not None:
        raise ConfigError(f"--out {out} goes with --requests FILE; use > to save one result")
    if not words:
        raise typer.BadParameter(
            "missing; give an instruction, or --requests FILE", param_hint="'[IMAGE] TEXT'"
        )
    return _image_and_text(words)


def _image_and_text(words: Sequence[str]) -> tuple[Path | None, str]:
    if len(words) > 2:
        raise ConfigError(f"{words[2]!r}: give one image and one text; put quotes around the text")
    if len(words) == 2:
        return Path(words[0]), words[1]
    if _is_image(words[0]):
        raise ConfigError(
            f"{words[0]}: the text is missing; give the instruction after the image, such as "
            f'{words[0]} "Click December 3"'
        )
    return None, words[0]


def _is_image(word: str) -> bool:
    """Whether a word is the name of an image, which need not exist, instead of an instruction."""
    if " " not in word and word.lower().endswith(IMAGE_SUFFIXES):
        return True
    if not os.path.isfile(word):  # noqa: PTH113  # Path.is_file raises where the text is long
        return False
    from pointsman.images import image_size

    try:
        image_size(Path(word))
    except ImageError:
        return False
    return True


def _finish(failed: int) -> None:
    if failed:
        raise typer.Exit(1)
