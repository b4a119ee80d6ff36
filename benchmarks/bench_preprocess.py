"""`preprocess` against the naive loop: a full forward with all hidden states, one by one.

Both read the same drawn screens with the pocket base and keep the same depths; the order of the
two alternates from round to round. The figure is the ratio of the median times.
"""

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from common import report

from lab.screens import write_screens
from pointsman.cli.console import quiet_libraries
from pointsman.data.dataset import Dataset, read_dataset
from pointsman.data.generate import generate_dataset
from pointsman.models.base import Base, load_base
from pointsman.models.features import FeatureRecipe
from pointsman.models.vision import ImageCache
from pointsman.pocket import pocket_folder
from pointsman.routing.feature_store import preprocess
from pointsman.sample import load_prompt

SAMPLES, ROUNDS = 48, 5


def naive(dataset: Dataset, base: Base, recipe: FeatureRecipe) -> torch.Tensor:
    rows = []
    with torch.inference_mode():
        for samples in dataset.splits.values():
            for sample in samples:
                inputs = base.stock_inputs(base.encode([load_prompt(sample)]))
                output = base.model(**inputs, output_hidden_states=True)
                rows.append(torch.stack([output.hidden_states[k][0, -1] for k in recipe.layers]))
    return torch.stack(rows)


def main() -> None:
    quiet_libraries()
    with tempfile.TemporaryDirectory() as name, pocket_folder() as pocket:
        folder = Path(name)
        write_screens(folder / "screens", SAMPLES, seed=5, out_of_scope=0, sizes=[(640, 448)])
        names = ("calendar", "claim-window", "provider-select")
        sources = {name: [str(folder / "screens" / f"{name}.jsonl")] for name in names}
        generate_dataset(sources, folder / "dataset", val=0.2, test=0.2)
        dataset, base = read_dataset(folder / "dataset"), load_base(str(pocket / "base"))
        recipe = FeatureRecipe.default(base)
        seconds: dict[str, list[float]] = {"naive": [], "preprocess": []}
        for number in range(ROUNDS):
            for what in ("naive", "preprocess") if number % 2 else ("preprocess", "naive"):
                unseen = replace(base, images=ImageCache())  # no round may know another's images
                start = time.perf_counter()
                if what == "naive":
                    slow = naive(dataset, base, recipe)
                else:
                    fast = preprocess(dataset, unseen, folder / f"features{number}", recipe)
                seconds[what].append(time.perf_counter() - start)
    together = torch.cat([values for values, _ in fast.splits.values()])
    medians = {what: statistics.median(values) for what, values in seconds.items()}
    report(
        "preprocess",
        {
            "samples": SAMPLES,
            "layers": list(recipe.layers),
            "largest_difference": float((together - slow).abs().max()),
            "seconds": seconds,
            "naive_over_preprocess": round(medians["naive"] / medians["preprocess"], 2),
        },
    )


if __name__ == "__main__":
    main()
