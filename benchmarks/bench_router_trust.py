"""How far the pocket's router is to be trusted on the real screens: routing alone, no answers.

Calibration in scope, and how well it knows what it has no adapter for, against the goals that it
was built to. Nothing was trained on these screens; they lie beside the repository.

    python benchmarks/bench_router_trust.py [--router FOLDER]
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from common import SCREENS, WITHOUT_SCREENS, report

from pointsman.cli.console import progress, quiet_libraries
from pointsman.data.dataset import read_samples_of
from pointsman.engine.engine import Engine
from pointsman.evaluation.curves import rejected_at
from pointsman.evaluation.evaluate import Evaluation, evaluate
from pointsman.evaluation.metrics import curve
from pointsman.evaluation.result import Prediction
from pointsman.pocket import pocket_folder
from pointsman.project import FILE_NAME, load_project

COVERAGE = 0.95
GOALS = {
    "ECE": ("at most", 0.03),
    "out of scope, AUROC": ("at least", 0.97),
    f"out of scope, rejected while {COVERAGE:.0%} in scope are kept": ("at least", 0.90),
    "accuracy of the worst stratum in scope": ("at least", 0.97),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--router", type=Path, help="another router on the pocket's base")
    arguments = parser.parse_args()
    if not SCREENS.is_file():
        sys.exit(f"skipped: {WITHOUT_SCREENS}")
    quiet_libraries()
    with pocket_folder() as folder:
        project = load_project(folder / FILE_NAME)
        if arguments.router:
            project = replace(project, router=str(arguments.router))
        with Engine.from_project(project, "the pocket") as engine:
            samples = read_samples_of(SCREENS, engine.router.labels)
            with progress("routing") as shown:
                found = evaluate(engine, samples, by=["stratum"], task=False, progress=shown)
            calibration = asdict(engine.router.calibration)
    report("router_trust", {"calibration": calibration} | summary(found))


def summary(found: Evaluation) -> dict[str, Any]:
    inside = [p for p in found.predictions if p.sample.in_scope]
    outside = [p for p in found.predictions if not p.sample.in_scope]
    assert found.in_scope is not None
    assert found.out_of_scope is not None
    strata = {
        "in scope": by_stratum(inside),
        "out of scope": by_stratum(outside),
    }
    scores = ([p.route.score for p in part] for part in (inside, outside))
    rejected = rejected_at(*scores, COVERAGE)
    worst = min(stratum["right"] for stratum in strata["in scope"].values())
    auroc = found.out_of_scope.auroc
    values = (found.in_scope.ece, auroc, rejected, worst)
    return {
        "goals": {
            name: {"value": value, "goal": f"{bound} {goal}", "met": meets(value, bound, goal)}
            for value, (name, (bound, goal)) in zip(values, GOALS.items(), strict=True)
        },
        "in scope": asdict(found.in_scope),
        "out of scope": asdict(found.out_of_scope),
        "AURC of all requests": curve(found.predictions).area,
        "strata": strata,
        "confusion": found.confusion,
    }


def meets(value: float | None, bound: str, goal: float) -> bool:
    return value is not None and (value <= goal if bound == "at most" else value >= goal)


def by_stratum(predictions: Sequence[Prediction]) -> dict[str, dict[str, float]]:
    """Share that is right: of the most probable label in scope, of abstaining out of scope."""
    strata: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        strata.setdefault(str(prediction.sample.extra["stratum"]), []).append(prediction)
    return {
        name: {
            "n": len(mine),
            "right": sum(p.correct for p in mine) / len(mine),
            "abstained": sum(p.route.abstained for p in mine) / len(mine),
        }
        for name, mine in sorted(strata.items())
    }


if __name__ == "__main__":
    main()
