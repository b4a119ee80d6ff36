"""Preprocess a routing dataset on a Modal GPU.

    modal run modal/router_preprocess.py::run --dataset-dir /data/datasets/routing

Paths are inside the data volume, mounted at /data; put the dataset there with
`modal volume put pointsman ./routing /datasets/routing`. The features go to
/data/preprocessed/NAME, NAME being the dataset folder's, unless --out-dir is given. An interrupted
run goes on where it stopped. The settings that all apps share are in common.py.
"""

from pathlib import Path
from typing import Any

from common import BASE, ON_GPU, keep

import modal

app = modal.App("pointsman-preprocess")


@app.function(**ON_GPU)
def preprocess(dataset_dir: str, out_dir: str, base: str, layers: str, max_pixels: int) -> str:
    from pointsman.data.dataset import read_dataset
    from pointsman.models.base import load_base
    from pointsman.models.features import FeatureRecipe
    from pointsman.progress import log_progress
    from pointsman.routing.feature_store import preprocess as run_preprocess

    loaded = load_base(base, max_pixels=max_pixels or None)
    depths = tuple(int(layer) for layer in layers.split(",") if layer)
    recipe = FeatureRecipe(depths) if depths else FeatureRecipe.default(loaded)
    features = run_preprocess(
        read_dataset(Path(dataset_dir)),
        loaded,
        Path(out_dir),
        recipe,
        progress=log_progress("features"),
    )
    keep()
    return f"{out_dir}: labels {features.labels}, layers {list(recipe.layers)}"


def metadata(preprocessed_dir: str) -> dict[str, Any]:
    """What a features folder says of itself: ``num_classes``, ``class_names`` and how it was made.

    `train` takes the adapter names from it.
    """
    from pointsman.files import read_object

    return dict(read_object(Path(preprocessed_dir) / "metadata.json"))


@app.local_entrypoint()
def run(
    dataset_dir: str,
    out_dir: str = "",
    base: str = BASE,
    layers: str = "",
    max_pixels: int = 0,
) -> None:
    out_dir = out_dir or f"/data/preprocessed/{Path(dataset_dir).name}"
    print(preprocess.remote(dataset_dir, out_dir, base, layers, max_pixels))
