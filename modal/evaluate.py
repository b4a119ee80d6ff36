"""Evaluate a router and its adapters on a Modal GPU.

    modal run modal/evaluate.py::run --dataset-dir /data/datasets/routing

The project file is /data/pointsman.toml, unless --config is given. The report goes to
/data/evaluations/NAME, NAME being the dataset folder's, unless --out-dir is given; get it with
`modal volume get pointsman evaluations/NAME`.
"""

from pathlib import Path

from common import ON_GPU, keep

import modal

app = modal.App("pointsman-evaluate")


@app.function(**ON_GPU)
def evaluate(dataset_dir: str, config: str, out_dir: str, worth: bool) -> str:
    from pointsman.data.dataset import read_samples_of
    from pointsman.engine.engine import Engine
    from pointsman.evaluation.evaluate import evaluate as run_evaluate
    from pointsman.evaluation.evaluate import save
    from pointsman.files import refuse_other
    from pointsman.progress import log_progress

    refuse_other(Path(out_dir), "an evaluation")  # before the work, not after it
    with Engine.from_config(config) as engine:
        samples = read_samples_of(Path(dataset_dir), engine.router.labels)
        result = run_evaluate(engine, samples, worth=worth, progress=log_progress("evaluating"))
        save(result, engine.router, Path(out_dir))
    keep()
    accuracy = "-" if result.in_scope is None else f"{result.in_scope.accuracy:.4f}"
    return f"{out_dir}/report.html: {len(samples)} samples, accuracy in scope {accuracy}"


@app.local_entrypoint()
def run(
    dataset_dir: str,
    config: str = "/data/pointsman.toml",
    out_dir: str = "",
    worth: bool = False,
) -> None:
    out_dir = out_dir or f"/data/evaluations/{Path(dataset_dir).name}"
    print(evaluate.remote(dataset_dir, config, out_dir, worth))
