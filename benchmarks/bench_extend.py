"""A fourth adapter appended to the pocket's router: seconds, its accuracy, what the old three lose.

The new adapter's screens are pages that no adapter was for: mail, a player, settings; each is
appended alone, from 10 and from 50 samples, three draws of them. Its requests are those that are
asked about such pages, every fifth of which fits any page ("What is on this screen?"). Old screens
are drawn anew; their training split is the replay. Judged is the test split, which nothing saw.

Beside ``extend_router``: a head trained anew on replay and new samples together (``train_router``),
and ``extend_router`` with a replay drawn from the old classes' means and common covariance, as if
only these had been kept.

    python benchmarks/bench_extend.py [--work FOLDER]
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from common import report
from sklearn.metrics import roc_auc_score
from torch import Tensor

from lab.screens import write_screens
from lab.screens.questions import ask_about
from lab.screens.scene import draw_scene
from lab.screens.screen import make_screen
from lab.screens.write import record_of
from pointsman.cli.console import quiet_libraries
from pointsman.data.generate import generate_dataset
from pointsman.labels import OUT_OF_SCOPE, LabelMap
from pointsman.models.base import Base, load_base
from pointsman.pocket import pocket_folder
from pointsman.routing.extend import extend_router
from pointsman.routing.feature_store import Features, preprocess, read_features
from pointsman.routing.model_selection import select_features
from pointsman.routing.router import Router
from pointsman.routing.train import TrainSettings, train_router
from pointsman.sample import to_jsonl

KINDS = ("mail", "player", "settings")
SIZES = [(544, 416), (576, 432), (608, 448), (640, 448), (640, 480)]
SEED, OLD, PICTURES = 90_000, 600, 60
"""Samples of old screens, and pictures of each new kind; two samples of each picture"""
COUNTS, DRAWS = (10, 50), 3


def write_pages(out: Path) -> None:
    """Screens of the new kinds with the requests that are asked about them."""
    rng = random.Random(SEED + 1)
    records: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    while any(len(found) < 2 * PICTURES for found in records.values()):
        scene = draw_scene(rng, None, "out-of-scope", rng.choice(SIZES))
        if scene.page not in KINDS or len(records[scene.page]) == 2 * PICTURES:
            continue
        found = records[scene.page]
        image = f"images/{len(found) // 2:04d}.png"
        (out / scene.page / "images").mkdir(parents=True, exist_ok=True)
        scene.image.save(out / scene.page / image)
        asked: set[str] = set()
        while len(asked) < 2:
            screen = make_screen(scene, ask_about(rng, scene, "out-of-scope"), "out-of-scope")
            if screen.instruction not in asked:
                asked.add(screen.instruction)
                record = record_of(screen, image)
                answer = {"from": "gpt", "value": "<tool_call>\n{}\n</tool_call>"}
                record["conversations"].append(answer)
                del record["label"], record["adapter"]
                found.append(record)
    for kind, found in records.items():
        (out / kind / f"{kind}.jsonl").write_text(to_jsonl(found))


def features_of(work: Path, base: Base, router: Router) -> dict[str, Features]:
    """Features of the old screens and of each new kind, where the router reads."""
    if not (work / "old" / "samples.jsonl").is_file():
        write_screens(work / "old", OLD, seed=SEED, per_image=2, sizes=SIZES)
        write_pages(work)
    made = {}
    for name in ("old", *KINDS):
        dataset = work / f"d_{name}"
        if name == "old":
            sources = {n: [str(work / "old" / f"{n}.jsonl")] for n in router.labels}
            outside = [str(work / "old" / "out-of-scope.jsonl")]
            data = generate_dataset(sources, dataset, out_of_scope=outside, val=0.25, test=0.25)
        else:
            data = generate_dataset(
                {name: [str(work / name / f"{name}.jsonl")]}, dataset, val=0.0, test=0.5
            )
        made[name] = preprocess(data, base, work / f"f_{name}", router.recipe)
    return made


def some(features: Features, n: int, draw: int) -> Features:
    """A few training samples of a new kind."""
    values, labels = features.splits["train"]
    rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(draw))[:n]
    return replace(features, splits={"train": (values[rows], labels[rows])})


def extended(router: Router, new: Features, old: Features) -> Router:
    return extend_router(router, new, replay=old)


def from_statistics(router: Router, new: Features, old: Features) -> Router:
    """The training split of the replay drawn anew from each class's mean and their covariance."""
    values, labels = old.splits["train"]
    classes = [values[labels == label].flatten(1) for label in range(-1, len(router.labels))]
    centred = torch.cat([each - each.mean(0) for each in classes])
    covariance = centred.T @ centred / len(centred)
    covariance += 1e-4 * covariance.diagonal().mean() * torch.eye(len(covariance))
    root = torch.linalg.cholesky(covariance)
    chance = torch.Generator().manual_seed(0)
    drawn = [each.mean(0) + torch.randn(each.shape, generator=chance) @ root.T for each in classes]
    known = torch.cat([torch.full((len(e),), n) for n, e in enumerate(classes, OUT_OF_SCOPE)])
    splits = old.splits | {"train": (torch.cat(drawn).view(-1, *values.shape[1:]), known)}
    return extend_router(router, new, replay=replace(old, splits=splits))


def trained_anew(router: Router, new: Features, old: Features) -> Router:
    """What a user without ``--extend`` would do; the few new samples are validation, too."""
    values, labels = new.splits["train"]
    more = torch.where(labels == OUT_OF_SCOPE, labels, labels + len(router.labels))
    splits = {
        split: (torch.cat([old.splits[split][0], values]), torch.cat([old.splits[split][1], more]))
        for split in ("train", "val")
    }
    names = LabelMap((*router.labels, *new.labels))
    settings = TrainSettings(coverage=router.calibration.coverage)
    return train_router(replace(old, labels=names, splits=splits), settings=settings)


WAYS: dict[str, Callable[[Router, Features, Features], Router]] = {
    "extend": extended,
    "extend, replay from class statistics": from_statistics,
    "head trained anew": trained_anew,
}


def judge(router: Router, values: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy of the top label in scope; right and not abstained; out of scope rejected."""
    with torch.inference_mode():
        evidence = router.read(values)
    chosen, inside = router.labels_of(evidence), labels != OUT_OF_SCOPE
    right = evidence.logits.argmax(-1) == labels
    result = {
        "accuracy": float(right[inside].float().mean()),
        "routed_right": float((chosen == labels)[inside].float().mean()),
    }
    if not bool(inside.all()):
        result["rejected"] = float((chosen == OUT_OF_SCOPE)[~inside].float().mean())
        result["auroc"] = float(roc_auc_score(inside.numpy(), evidence.scores.numpy()))
    return result


def runs(router: Router, made: dict[str, Features], way: str, n: int) -> Iterator[dict[str, Any]]:
    old = made["old"]
    values, labels = old.splits["test"]
    for kind in KINDS:
        new = made[kind].splits["test"][0]
        for draw in range(DRAWS):
            few = some(made[kind], n, draw)
            started = time.perf_counter()
            grown = WAYS[way](router, few, read_features(old.path))
            seconds = time.perf_counter() - started
            own = torch.full((len(new),), len(router.labels))
            yield {
                "kind": kind,
                "seconds": seconds,
                "new": judge(grown, select_features(grown.recipe, old.recipe, new), own),
                "old": judge(grown, select_features(grown.recipe, old.recipe, values), labels),
            }


def summary(found: list[dict[str, Any]], before: dict[str, float]) -> dict[str, Any]:
    def of(which: str, what: str) -> float:
        return round(mean(run[which][what] for run in found), 4)

    losses = [before["accuracy"] - run["old"]["accuracy"] for run in found]
    kinds = {
        kind: round(mean(r["new"]["accuracy"] for r in found if r["kind"] == kind), 4)
        for kind in KINDS
    }
    return {
        "seconds": round(mean(run["seconds"] for run in found), 3),
        "new_accuracy": of("new", "accuracy"),
        "new_accuracy_by_kind": kinds,
        "new_routed_right": of("new", "routed_right"),
        "old_accuracy": of("old", "accuracy"),
        "old_accuracy_lost": round(mean(losses), 4),
        "old_accuracy_lost_at_worst": round(max(losses), 4),
        "old_routed_right": of("old", "routed_right"),
        "out_of_scope_rejected": of("old", "rejected"),
        "out_of_scope_auroc": of("old", "auroc"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path)
    work = parser.parse_args().work
    quiet_libraries()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place, pocket_folder() as pocket:
        router = Router.load(pocket / "router")
        made = features_of(work or Path(place), load_base(str(pocket / "base")), router)
        values, labels = made["old"].splits["test"]
        before = judge(router, values, labels)
        results = {
            f"{n} samples": {way: summary(list(runs(router, made, way, n)), before) for way in WAYS}
            for n in COUNTS
        }
        counts = {
            "replay": len(made["old"].splits["train"][1]),
            "old_test": len(labels),
            "new_test_of_each_kind": len(made[KINDS[0]].splits["test"][1]),
        }
    report(
        "extend",
        {
            "kinds": KINDS,
            "draws": DRAWS,
            "samples": counts,
            "before": {name: round(value, 4) for name, value in before.items()},
            **results,
        },
    )


if __name__ == "__main__":
    main()
