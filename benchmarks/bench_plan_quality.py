"""What each plan costs in answers: LoRAs on all layers, on the upper ones only, and activated.

The pocket's base, and for each plan three adapters trained on the same samples with the same number
of parameters: the rank makes up for the layers that are left alone. Their greedy answers, through
PEFT, on fresh screens of the sizes trained on and on the real screenshots beside the repository;
where those are absent their part is left out. Adapters that lie in the work folder are kept.

    python benchmarks/bench_plan_quality.py [--samples 1500] [--evaluate 100] [--work FOLDER]
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from common import ROOT, SCREENS, WITHOUT_SCREENS, report
from matplotlib.figure import Figure
from torch import Tensor

from lab.screens import write_screens
from pointsman import route_and_generate
from pointsman.adapters.files import CONFIG, NOTE, WEIGHTS
from pointsman.adapters.peft import load_base_with_loras
from pointsman.adapters.train import AdapterSettings, train_adapter
from pointsman.cli.console import progress, quiet_libraries
from pointsman.data.dataset import read_samples_of
from pointsman.evaluation.result import is_hit
from pointsman.files import read_object, read_tensors
from pointsman.models.base import Base, load_base
from pointsman.pocket import pocket_folder
from pointsman.routing.router import Router
from pointsman.sample import RoutingSample, load_prompt, read_samples

SEED = 70_000
"""Of the screens to train on; the fresh ones have the next. No other set is drawn with them."""
SIZES = ((544, 416), (576, 432), (608, 448), (640, 448), (640, 480))
"""Small windows, as the pocket's own adapters were trained on."""
RANK = 12
"""Of a LoRA on all layers."""
PICTURE = ROOT / "docs" / "plan_quality.png"
_BATCH = 8


@dataclass(frozen=True)
class Variant:
    """A way to train adapters, for one plan or another."""

    name: str
    share: float
    """Of the layers, from below, that are left alone."""
    activated: bool = False

    def settings(self, depth: int, arguments: argparse.Namespace) -> AdapterSettings:
        left_alone = int(self.share * depth)
        rank = round(RANK * depth / (depth - left_alone))
        return AdapterSettings(
            rank=rank,
            alpha=2 * rank,
            layers_from=left_alone,
            activated=self.activated,
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
        )


VARIANTS = (
    Variant("all layers", 0),
    Variant("upper 75%", 0.25),
    Variant("upper 50%", 0.5),
    Variant("activated", 0, activated=True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1500, help="to train each adapter on")
    parser.add_argument("--adapters", default="", help="NAME,NAME,…; by default all")
    parser.add_argument("--evaluate", type=int, default=100, help="fresh ones for each adapter")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--work", type=Path, default=ROOT / "pocket-out" / "plan-quality")
    arguments = parser.parse_args()
    quiet_libraries()
    with pocket_folder() as model:
        router = Router.load(model / "router")
        folder = str(model / "base")
        names = arguments.adapters.split(",") if arguments.adapters else list(router.labels)
        training = training_sets(arguments, names)
        sets = evaluation_sets(arguments, router, names)
        base = load_base(folder)
        variants = {}
        for variant in VARIANTS:
            settings = variant.settings(base.depth, arguments)
            place = arguments.work / variant.name.replace(" ", "-")
            trained = dict(trained_adapters(base, training, place, settings))
            adapted = load_base_with_loras(folder, {k: str(v) for k, v in trained.items()})
            check_active(adapted, trained, sets["fresh"])
            variants[variant.name] = described(trained, settings) | {
                name: hits(adapted, router, samples, f"{variant.name}: {name}")
                for name, samples in sets.items()
            }
            print(variant.name, variants[variant.name], file=sys.stderr, flush=True)
    options = {name: getattr(arguments, name) for name in ("epochs", "batch_size")}
    counts = {name: len(samples) for name, samples in training.items()}
    report("plan_quality", {"samples": counts, **options, "variants": variants})
    draw(variants, list(sets))


def training_sets(
    arguments: argparse.Namespace, names: Sequence[str]
) -> dict[str, list[RoutingSample]]:
    """About as many samples for each adapter as asked for."""
    folder, total = arguments.work / "train", len(names) * arguments.samples
    write_screens(
        folder, total, seed=SEED, adapters=names, out_of_scope=0, per_image=6, sizes=SIZES
    )
    return {name: read_samples(folder / f"{name}.jsonl", labels=None) for name in names}


def evaluation_sets(
    arguments: argparse.Namespace, router: Router, names: Sequence[str]
) -> dict[str, list[RoutingSample]]:
    folder, total = arguments.work / "fresh", 3 * len(router.labels) * arguments.evaluate
    write_screens(folder, total, seed=SEED + 1, out_of_scope=0, per_image=2, sizes=SIZES)
    drawn = read_samples_of(folder / "samples.jsonl", router.labels)
    by_adapter = [[s for s in drawn if s.adapter == name] for name in names]
    # Adapters are drawn by chance: three times as many hold enough of each.
    sets = {"fresh": [s for found in by_adapter for s in found[: arguments.evaluate]]}
    if SCREENS.is_file():
        real = read_samples_of(SCREENS, router.labels)
        sets["real"] = [sample for sample in real if sample.adapter in names]
    else:
        print(f"left out: {WITHOUT_SCREENS}", file=sys.stderr)
    return sets


def trained_adapters(
    base: Base,
    training: Mapping[str, Sequence[RoutingSample]],
    place: Path,
    settings: AdapterSettings,
) -> Iterator[tuple[str, Path]]:
    """Folders of the adapters, those that are missing trained first."""
    for name, samples in training.items():
        out = place / name
        if (out / CONFIG).is_file():
            note = read_object(out / NOTE)
            if (note["settings"], note["samples"]) != (asdict(settings), len(samples)):
                sys.exit(f"{out}: was trained otherwise; delete it or choose another --work")
        else:
            with progress(f"{place.name}: {name}") as shown:
                train_adapter(name, samples, base, out, settings, progress=shown)
        yield name, out


def described(trained: Mapping[str, Path], settings: AdapterSettings) -> dict[str, Any]:
    losses = {name: read_object(out / NOTE)["loss"] for name, out in trained.items()}
    weights = read_tensors(next(iter(trained.values())) / WEIGHTS)
    return {
        "layers_from": settings.layers_from,
        "rank": settings.rank,
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        # The mean over the last ten steps; a run of fewer has none.
        "loss": {name: loss[-1]["loss"] if loss else None for name, loss in losses.items()},
    }


def check_active(base: Base, names: Iterable[str], samples: Sequence[RoutingSample]) -> None:
    """Stops if an adapter says what the base says: an activated LoRA may be off without a word."""
    encoded = base.encode([load_prompt(s) for s in samples[:_BATCH]], padding_side="left")
    inputs = base.model_inputs(encoded)
    del inputs["position_ids"]

    def first_logits() -> Tensor:
        options = {"do_sample": False, "output_logits": True, "return_dict_in_generate": True}
        with torch.inference_mode():
            logits: Tensor = base.model.generate(**inputs, max_new_tokens=1, **options).logits[0]
        return logits

    with base.model.disable_adapter():
        plain = first_logits()
    for name in names:
        base.model.set_adapter(name, inference_mode=True)
        if (first_logits() == plain).all(dim=1).any():
            sys.exit(f"adapter {name} says what the base says: it is not on")


def hits(
    base: Base, router: Router, samples: Sequence[RoutingSample], what: str
) -> dict[str, dict[str, Any]]:
    """Right answers of the samples' own adapters: in all, and by adapter."""
    found: dict[str, list[bool]] = {"all": []} | {name: [] for name in router.labels}
    with progress(what) as shown:
        for start in range(0, len(samples), _BATCH):
            batch = samples[start : start + _BATCH]
            answers = route_and_generate(
                base, router, [load_prompt(s) for s in batch], adapters=[s.adapter for s in batch]
            )
            for sample, answer in zip(batch, answers, strict=True):
                for group in ("all", str(sample.adapter)):
                    found[group].append(is_hit(answer, sample))
            shown(len(found["all"]), len(samples))
    return {group: share(of) for group, of in found.items() if of}


def share(found: Sequence[bool]) -> dict[str, Any]:
    """Hits with their 95% interval (Wilson 1927)."""
    n, hit, z = len(found), sum(found), 1.96
    middle = (hit + z * z / 2) / (n + z * z)
    reach = z / (n + z * z) * sqrt(hit * (n - hit) / n + z * z / 4)
    interval = [round(max(0.0, middle - reach), 4), round(min(1.0, middle + reach), 4)]
    return {"n": n, "hits": hit, "share": round(hit / n, 4), "interval": interval}


def draw(variants: Mapping[str, Any], sets: Sequence[str]) -> None:
    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(sets)
    for number, name in enumerate(sets):
        groups = [variant[name]["all"] for variant in variants.values()]
        places = [place + (number - (len(sets) - 1) / 2) * width for place in range(len(groups))]
        shares = [group["share"] for group in groups]
        # A share of 0 or 1 may lie a rounding outside its interval.
        below = [max(0.0, group["share"] - group["interval"][0]) for group in groups]
        above = [max(0.0, group["interval"][1] - group["share"]) for group in groups]
        label = f"{name} screens (n = {groups[0]['n']})"
        axes.bar(places, shares, 0.9 * width, yerr=[below, above], capsize=3, label=label)
    names = [f"{name}\nrank {variant['rank']}" for name, variant in variants.items()]
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_ylabel("answers that are right")
    axes.set_title("Adapters of equal size, by the layers and tokens they adapt", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(sets), fontsize=8, frameon=False)
    figure.savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    main()
