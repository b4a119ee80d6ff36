"""`preprocess` against the naive loop: a full forward with all hidden states, one by one.

The loop is what users would write with transformers alone: its model and its image processor. The
same loop on this package's base, with its faster products and patches, shows what is left for
`preprocess` itself. All read the same drawn screens with the pocket and keep the same depths; their
order changes from round to round. The figures are ratios of the median times.

With WORK, a folder that ``prepare_vllm_gpu.py`` made, it is `preprocess` on a base of the shape of
Qwen3-VL-8B against its floor: the same forwards of batches that are already on the device.

    python benchmarks/bench_preprocess.py [WORK]
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import report
from transformers import AutoModelForImageTextToText

from lab.screens import write_screens
from pointsman.cli.console import quiet_libraries
from pointsman.data.dataset import Dataset, read_dataset
from pointsman.data.generate import generate_dataset
from pointsman.models.base import Base, load_base
from pointsman.models.features import FeatureRecipe, extract
from pointsman.models.vision import ImageCache
from pointsman.pocket import pocket_folder
from pointsman.routing.feature_store import preprocess
from pointsman.sample import load_prompt

SAMPLES, ROUNDS = 48, 5
TEXTS = ("input_ids", "attention_mask", "mm_token_type_ids")
WAYS = ("preprocess", "naive", "naive on our base")


def naive(dataset: Dataset, base: Base, recipe: FeatureRecipe, model: Any) -> torch.Tensor:
    """Features (samples, layers, hidden) by a model of transformers, or by the base's own."""
    rows = []
    with torch.inference_mode():
        for samples in dataset.splits.values():
            for sample in samples:
                prompt = load_prompt(sample)
                encoded = base.encode([prompt])
                inputs = base.stock_inputs(encoded)
                if model is not base.model:
                    pixels = base.image_processor(images=prompt.images, return_tensors="pt")
                    inputs = {name: encoded[name] for name in TEXTS} | dict(pixels)
                output = model(**inputs, output_hidden_states=True)
                rows.append(torch.stack([output.hidden_states[k][0, -1] for k in recipe.layers]))
    return torch.stack(rows)


def against_floor(work: Path) -> None:
    base, dataset = load_base(str(work / "base")), read_dataset(work / "dataset")
    recipe = FeatureRecipe.default(base)
    samples = [sample for split in dataset.splits.values() for sample in split]
    prepared = [base.prepare([load_prompt(sample)]) for sample in samples]
    count = 16384 // max(each["input_ids"].shape[1] for each in prepared)
    starts = range(0, len(samples), count)
    batches = [base.on_device(*prepared[start : start + count]) for start in starts]
    seconds: dict[str, list[float]] = {"preprocess": [], "floor": []}
    # The first round is not counted: kernels are chosen in it.
    with tempfile.TemporaryDirectory() as name:
        for number in range(ROUNDS + 1):
            for way in list(seconds)[:: 1 if number % 2 else -1]:
                unseen = replace(base, images=ImageCache())
                start = time.perf_counter()
                if way == "preprocess":
                    preprocess(dataset, unseen, Path(name) / str(number), recipe)
                else:
                    with torch.inference_mode():
                        torch.cat([extract(unseen, batch, recipe) for batch in batches]).cpu()
                seconds[way].append(time.perf_counter() - start)
    medians = {way: statistics.median(values[1:]) for way, values in seconds.items()}
    report(
        "preprocess_gpu",
        {
            "shape": "8B",
            "samples": len(samples),
            "tokens": prepared[0]["input_ids"].shape[1],
            "layers": list(recipe.layers),
            "seconds": seconds,
            "samples_per_second": {
                way: round(len(samples) / value, 1) for way, value in medians.items()
            },
            "preprocess_over_floor": round(medians["floor"] / medians["preprocess"], 2),
        },
    )


def main() -> None:
    quiet_libraries()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, nargs="?")
    work = parser.parse_args().work
    if work is not None:
        against_floor(work)
        return
    with tempfile.TemporaryDirectory() as name, pocket_folder() as pocket:
        folder = Path(name)
        write_screens(folder / "screens", SAMPLES, seed=5, out_of_scope=0, sizes=[(640, 448)])
        names = ("calendar", "claim-window", "provider-select")
        sources = {name: [str(folder / "screens" / f"{name}.jsonl")] for name in names}
        generate_dataset(sources, folder / "dataset", val=0.2, test=0.2)
        dataset, base = read_dataset(folder / "dataset"), load_base(str(pocket / "base"))
        stock: Any = AutoModelForImageTextToText.from_pretrained(base.folder, dtype=torch.float32)
        recipe = FeatureRecipe.default(base)
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        found: dict[str, torch.Tensor] = {}
        for number in range(ROUNDS):
            for way in (*WAYS[number % 3 :], *WAYS[: number % 3]):
                unseen = replace(base, images=ImageCache())  # no round may know another's images
                start = time.perf_counter()
                if way == "preprocess":
                    made = preprocess(dataset, unseen, folder / f"features{number}", recipe)
                    found[way] = torch.cat([values for values, _ in made.splits.values()])
                else:
                    model = stock.eval() if way == "naive" else base.model
                    found[way] = naive(dataset, base, recipe, model)
                seconds[way].append(time.perf_counter() - start)
    fast = found["preprocess"]
    medians = {what: statistics.median(values) for what, values in seconds.items()}
    report(
        "preprocess",
        {
            "samples": SAMPLES,
            "layers": list(recipe.layers),
            "largest_difference": max(float((fast - found[way]).abs().max()) for way in WAYS),
            "seconds": seconds,
            "naive_over_preprocess": round(medians["naive"] / medians["preprocess"], 2),
            "naive_on_our_base_over_preprocess": round(
                medians["naive on our base"] / medians["preprocess"], 2
            ),
        },
    )


if __name__ == "__main__":
    main()
