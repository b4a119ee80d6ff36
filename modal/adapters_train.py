"""Train one adapter (LoRA) on a Modal GPU.

    modal run modal/adapters_train.py::run --name calendar --dataset-dir /data/datasets/routing

It is trained on the dataset's training samples of that name and goes to /checkpoints/NAME, unless
--out-dir is given. An interrupted run goes on where it stopped. `--layers-from 9` leaves the layers
that the router reads alone, so that one forward pass routes and answers.
"""

from pathlib import Path

from common import BASE, ON_GPU, keep

import modal

app = modal.App("pointsman-adapters-train")


@app.function(**ON_GPU)
def train(
    name: str, dataset_dir: str, out_dir: str, base: str, layers_from: int, epochs: float
) -> str:
    from pointsman.adapters.train import AdapterSettings, train_adapter
    from pointsman.data.dataset import read_dataset
    from pointsman.models.base import load_base
    from pointsman.progress import log_progress

    dataset = read_dataset(Path(dataset_dir))
    dataset.labels.label(name)  # refuses an adapter that the dataset does not know
    chosen = [sample for sample in dataset.splits["train"] if sample.adapter == name]
    settings = AdapterSettings(layers_from=layers_from, epochs=epochs)
    train_adapter(
        name, chosen, load_base(base), Path(out_dir), settings, progress=log_progress(name)
    )
    keep()
    return f"{out_dir}: trained on {len(chosen)} samples"


@app.local_entrypoint()
def run(
    name: str,
    dataset_dir: str,
    out_dir: str = "",
    base: str = BASE,
    layers_from: int = 0,
    epochs: float = 1.0,
) -> None:
    out_dir = out_dir or f"/checkpoints/{name}"
    print(train.remote(name, dataset_dir, out_dir, base, layers_from, epochs))
