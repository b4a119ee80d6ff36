"""Train a router head on preprocessed features, on Modal.

    modal run modal/router_train.py::run --preprocessed-dir /data/preprocessed/routing

The router goes to /data/routers/NAME, NAME being the features folder's, unless --out-dir is given.
The ordered adapter names come from the features' metadata and are sealed in the router;
`--adapter-names calendar claim-window provider-select` may state them, and must then agree.
Training takes seconds on a CPU, so no GPU is asked for.
"""

from pathlib import Path
from typing import Any

from common import ON_CPU, keep, names, takes_lists

import modal

app = modal.App("pointsman-train")
LIBRARY = (
    "build_router_head",
    "load_base_with_loras",
    "load_router_head",
    "route_and_generate",
    "train_router",
)
"""What the original file of this name held, and the library holds now"""


def __getattr__(name: str) -> Any:
    if name not in LIBRARY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pointsman

    return getattr(pointsman, name)


@app.function(**ON_CPU)
def train(preprocessed_dir: str, out_dir: str, adapter_names: str, seed: int) -> str:
    from pointsman.progress import log_progress
    from pointsman.routing.train import TrainSettings, train_router

    router = train_router(
        Path(preprocessed_dir),
        Path(out_dir),
        adapter_names=names(adapter_names) or None,
        settings=TrainSettings(seed=seed),
        progress=log_progress("heads"),
    )
    keep()
    return f"{out_dir}: labels {router.labels}, validation accuracy {router.best_acc:.4f}"


@app.local_entrypoint()
@takes_lists
def run(preprocessed_dir: str, out_dir: str = "", adapter_names: str = "", seed: int = 0) -> None:
    out_dir = out_dir or f"/data/routers/{Path(preprocessed_dir).name}"
    print(train.remote(preprocessed_dir, out_dir, adapter_names, seed))
