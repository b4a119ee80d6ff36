"""Train a router head on preprocessed features, on Modal.

    modal run modal/router_train.py::run --preprocessed-dir /data/preprocessed/routing

The router goes to /data/routers/NAME, NAME being the features folder's, unless --out-dir is given.
The ordered adapter names come from the features' metadata and are sealed in the router;
--adapter-names may state them, comma-separated, and must then agree. Paths are inside the Modal
volume `pointsman`, mounted at /data. Training takes seconds on a CPU, so no GPU is asked for.
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
app = modal.App("pointsman-train")


@app.function(image=IMAGE, cpu=4, volumes={"/data": VOLUME}, timeout=3600)
def train(preprocessed_dir: str, out_dir: str, adapter_names: str, seed: int) -> str:
    from pointsman.routing.train import TrainSettings, train_router

    names = [name.strip() for name in adapter_names.split(",")] if adapter_names else None
    router = train_router(
        Path(preprocessed_dir),
        Path(out_dir),
        adapter_names=names,
        settings=TrainSettings(seed=seed),
    )
    if not modal.is_local():
        VOLUME.commit()
    return f"{out_dir}: labels {router.labels}, validation accuracy {router.best_acc:.4f}"


@app.local_entrypoint()
def run(preprocessed_dir: str, out_dir: str = "", adapter_names: str = "", seed: int = 0) -> None:
    out_dir = out_dir or f"/data/routers/{Path(preprocessed_dir).name}"
    print(train.remote(preprocessed_dir, out_dir, adapter_names, seed))
