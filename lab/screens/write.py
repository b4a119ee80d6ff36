"""Writes demo screens as a dataset on disk, one that can be resumed and reproduced."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from pointsman.errors import ConfigError
from pointsman.files import read_json, write_bytes, write_json, write_text
from pointsman.sample import to_jsonl

from .questions import Question, ask_about
from .scene import ONE_WIDGET, Scene, draw_scene
from .screen import Screen, make_screen
from .vary import vary as vary_picture
from .widget import ADAPTERS
from .workers import in_order

OUT_OF_SCOPE = "out-of-scope"
SMALLEST = (320, 256)
"""Width and height in pixels under which the widgets no longer fit."""
# Raised whenever the same seed comes to draw other pictures, or to ask other things about them.
_DRAWING = 4
_IN_SCOPE_SHARES = {"plain": 0.45, "image-decides": 0.25, "text-decides": 0.3}


def write_screens(
    out: Path,
    n: int,
    *,
    seed: int = 0,
    adapters: Sequence[str] = ADAPTERS,
    out_of_scope: float = 0.2,
    per_image: int = 1,
    sizes: Sequence[tuple[int, int]] | None = None,
    vary: bool = False,
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Writes `n` samples: images, `samples.jsonl`, and `ADAPTER.jsonl` of each adapter's own.

    The samples of no adapter are in `out-of-scope.jsonl`, too.

    A sample depends on `seed` and its index alone. With `per_image` above 1, that many samples in
    a row share a picture and differ in what is asked, and often in the adapter it takes. Images
    that exist are kept, so an interrupted run continues; `samples.jsonl` is written last, and
    `screens.json`, the settings, first.
    `vary` scales, pads, inverts or compresses a share of the pictures. With 2 or more `workers`,
    that many processes draw; the bytes are the same. They are spawned: a script that asks for them
    does so under `if __name__ == "__main__":`.
    `progress` is called with the number of samples done.
    """
    _check(n, adapters, out_of_scope, per_image, sizes, workers)
    settings: dict[str, Any] = {
        "drawing": _DRAWING,
        "seed": seed,
        "adapters": list(adapters),
        "out_of_scope": out_of_scope,
        "per_image": per_image,
        "sizes": [list(size) for size in sizes] if sizes else None,
    }
    if vary:  # only then: folders from before there were variations stay comparable
        settings["vary"] = True
    _claim_folder(out, settings)
    write_group = partial(
        _write_group,
        images=out / "images",
        n=n,
        seed=seed,
        adapters=tuple(adapters),
        out_of_scope=out_of_scope,
        per_image=per_image,
        sizes=sizes,
        vary=vary,
    )
    records: list[dict[str, Any]] = []
    with closing(in_order(write_group, range(0, n, per_image), workers)) as groups:
        for group in groups:
            records += group
            if progress is not None:
                progress(len(records))
    for adapter in (*adapters, None):
        chosen = [_unlabelled(record) for record in records if record["adapter"] == adapter]
        write_text(out / f"{adapter or OUT_OF_SCOPE}.jsonl", to_jsonl(chosen))
    write_text(out / "samples.jsonl", to_jsonl(records))


def _check(
    n: int,
    adapters: Sequence[str],
    out_of_scope: float,
    per_image: int,
    sizes: Sequence[tuple[int, int]] | None,
    workers: int,
) -> None:
    faults = [f"adapter {name!r} cannot be drawn" for name in adapters if name not in ADAPTERS]
    if not adapters or len(set(adapters)) < len(adapters):
        faults.append(f"adapters {list(adapters)} must be different and at least one")
    if n < 0:
        faults.append(f"n is {n}, must be 0 or more")
    if per_image < 1:
        faults.append(f"per_image is {per_image}, must be 1 or more")
    if workers < 0:
        faults.append(f"workers is {workers}, must be 0 or more")
    if not 0 <= out_of_scope <= 1:
        faults.append(f"out_of_scope is {out_of_scope}, must be a share from 0 to 1")
    small = [size for size in sizes or () if size[0] < SMALLEST[0] or size[1] < SMALLEST[1]]
    if small:
        least = "x".join(map(str, SMALLEST))
        faults.append(f"size {small[0][0]}x{small[0][1]} is too small, give at least {least}")
    if faults:
        raise ConfigError("; ".join(faults))


def _claim_folder(out: Path, settings: dict[str, Any]) -> None:
    """Refuses a folder of other settings, whose images would be kept and not fit the samples."""
    images, path = out / "images", out / "screens.json"
    images.mkdir(parents=True, exist_ok=True)
    if not path.exists() and not any(images.glob("*.png")):
        write_json(path, settings)
    elif not path.exists() or read_json(path) != settings:
        raise ConfigError(
            f"{out} holds screens of other settings (see {path.name}): "
            "choose another folder, or delete this one"
        )


def _write_group(
    start: int,
    *,
    images: Path,
    n: int,
    seed: int,
    adapters: Sequence[str],
    out_of_scope: float,
    per_image: int,
    sizes: Sequence[tuple[int, int]] | None,
    vary: bool,
) -> list[dict[str, Any]]:
    """Writes the picture of the samples from `start` on, unless it exists; gives their records."""
    rng = random.Random(f"{seed}/{start}")
    screens = _draw_group(rng, adapters, out_of_scope, per_image, sizes)
    if vary:
        screens = vary_picture(rng, screens)
    name = f"{start:06d}.png"
    if not (images / name).exists():
        write_bytes(images / name, _png(screens[0].image))
    return [record_of(screen, f"images/{name}", adapters) for screen in screens[: n - start]]


def _draw_group(
    rng: random.Random,
    adapters: Sequence[str],
    out_of_scope: float,
    per_image: int,
    sizes: Sequence[tuple[int, int]] | None,
) -> list[Screen]:
    """Draws one picture and `per_image` samples of it."""
    adapter, stratum = _draw_kind(rng, adapters, out_of_scope)
    size = rng.choice(sizes) if sizes else None
    scene = draw_scene(rng, adapter, stratum, size)
    screens: dict[str, Screen] = {}
    while len(screens) < per_image:
        screen = _ask(rng, scene, adapter, stratum)
        screens.setdefault(screen.instruction, screen)
        adapter, stratum = _next_kind(rng, scene, adapters, out_of_scope, stratum)
    return list(screens.values())


def _draw_kind(
    rng: random.Random, adapters: Sequence[str], out_of_scope: float
) -> tuple[str | None, str]:
    if rng.random() < out_of_scope:
        return None, rng.choice(("out-of-scope", "near-out-of-scope"))
    (stratum,) = rng.choices(list(_IN_SCOPE_SHARES), list(_IN_SCOPE_SHARES.values()))
    return rng.choice(list(adapters)), stratum


def _next_kind(
    rng: random.Random,
    scene: Scene,
    adapters: Sequence[str],
    out_of_scope: float,
    stratum: str,
) -> tuple[str | None, str]:
    """The kind of a further question about the same picture."""
    if scene.page:
        return None, stratum
    known = [widget.adapter for widget in scene.widgets if widget.adapter in adapters]
    if not known or rng.random() < out_of_scope / 2:
        return None, "near-out-of-scope"
    if len(scene.widgets) > 1:
        return rng.choice(known), "text-decides"
    shares = [_IN_SCOPE_SHARES[name] for name in ONE_WIDGET[:2]]
    (chosen,) = rng.choices(ONE_WIDGET[:2], shares)
    return known[0], chosen


def _ask(rng: random.Random, scene: Scene, adapter: str | None, stratum: str) -> Screen:
    question: Question = ask_about(rng, scene, stratum, adapter)
    return make_screen(scene, question, stratum)


def record_of(screen: Screen, image: str, adapters: Sequence[str] = ADAPTERS) -> dict[str, Any]:
    """A sample as it is written; ``image`` is the picture's path from the JSONL's folder."""
    turns = [{"from": "human", "value": f"<image>\n{screen.instruction}"}]
    if screen.action is not None:
        turns.append({"from": "gpt", "value": screen.action})
    record: dict[str, Any] = {
        "conversations": turns,
        "image": image,
        "label": -1 if screen.adapter is None else list(adapters).index(screen.adapter),
        "adapter": screen.adapter,
    }
    if screen.bbox is not None:
        record["bbox"] = [round(edge, 1) for edge in screen.bbox]
    record |= {
        "stratum": screen.stratum,
        "size": list(screen.image.size),
        "widget": screen.widget,
    }
    if screen.task is not None:
        record["task"] = screen.task
    return record


def _unlabelled(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in ("label", "adapter")}


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
