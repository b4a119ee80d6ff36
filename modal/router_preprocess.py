"""Preprocess a routing dataset on a Modal GPU.

    modal run modal/router_preprocess.py::run --dataset-dir /data/datasets/routing

Paths are inside the Modal volume `pointsman`, mounted at /data; put the dataset there with
`modal volume put pointsman ./routing /datasets/routing`. The features go to
/data/preprocessed/NAME, NAME being the dataset folder's, unless --out-dir is given. An interrupted
run goes on where it stopped.
"""

from pathlib import Path

import modal

ROOT = Path(__file__).parent.parent
VOLUME = modal.Volume.from_name("pointsman", create_if_missing=True)
IMAGE = (
    modal.Image.debian_slim(python_version="3.11")
    .pip_install("torch==2.13.0")
    .add_local_dir(str(ROOT), "/pointsman", copy=True, ignore=[".venv", ".git", "**/__pycache__"])
    .run_commands("pip install -c /pointsman/constraints.txt /pointsman")
)
app = modal.App("pointsman-preprocess")


@app.function(image=IMAGE, gpu="H100", volumes={"/data": VOLUME}, timeout=6 * 3600)
def preprocess(dataset_dir: str, out_dir: str, base: str, layers: str, max_pixels: int) -> str:
    from pointsman.data.dataset import read_dataset
    from pointsman.models.base import load_base
    from pointsman.models.features import FeatureRecipe
    from pointsman.routing.feature_store import preprocess as run_preprocess

    loaded = load_base(base, max_pixels=max_pixels or None)
    depths = tuple(int(layer) for layer in layers.split(",") if layer)
    recipe = FeatureRecipe(depths) if depths else FeatureRecipe.default(loaded)
    features = run_preprocess(read_dataset(Path(dataset_dir)), loaded, Path(out_dir), recipe)
    if not modal.is_local():
        VOLUME.commit()
    return f"{out_dir}: labels {features.labels}, layers {list(recipe.layers)}"


@app.local_entrypoint()
def run(
    dataset_dir: str,
    out_dir: str = "",
    base: str = "Qwen/Qwen3-VL-8B-Instruct",
    layers: str = "",
    max_pixels: int = 0,
) -> None:
    out_dir = out_dir or f"/data/preprocessed/{Path(dataset_dir).name}"
    print(preprocess.remote(dataset_dir, out_dir, base, layers, max_pixels))
