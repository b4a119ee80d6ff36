"""Tables and lines that people read: routes, answers, findings, training."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pointsman.cli import console

if TYPE_CHECKING:
    from pointsman.data.dataset import Dataset
    from pointsman.engine.answer import Answer
    from pointsman.evaluation.result import Evaluation
    from pointsman.findings import Report
    from pointsman.routing.route import Route
    from pointsman.routing.router import Router

FEW = 30
"""With fewer validation samples of a kind, the intervals of shares are wide"""


def route(decision: "Route") -> None:
    """The probabilities of a decision, and whether it was held or abstained."""
    rows = [
        (label, name, f"{probability:.3f}", "<-" if decision.label == label else "")
        for label, (name, probability) in enumerate(decision.probabilities.items())
    ]
    console.table(("label", "adapter", "probability", ""), rows)
    for line in _remarks(decision):
        console.say(line)


def _remarks(decision: "Route") -> Iterator[str]:
    if decision.held:
        yield f"held: the session keeps {decision.adapter}"
    if decision.abstained:
        fallback = "nothing" if decision.refused else decision.adapter or "the base"
        yield f"abstained: the request fits none of the adapters; {fallback} answers"
    if decision.candidates is not None:
        yield f"label set: {', '.join(decision.candidates) or 'none'}"


def answer(found: "Answer") -> None:
    """An answer with its route, click point and typed text."""
    if found.route is not None:
        route(found.route)
    console.say(f"{found.adapter or 'base'}: {found.text}")
    if found.point is not None:
        console.say("click at x={:.0f}, y={:.0f} pixels".format(*found.point))
    if found.typed is not None:
        console.say(f"type {found.typed!r}")


def report(found: "Report", path: Path | str, as_json: bool) -> None:
    """All findings of a check; exits with status 1 if there are errors."""
    if as_json:
        console.show_json(found.to_json())
    else:
        for finding in found.findings:
            console.say(str(finding))
        console.say(f"{path}: {len(found.errors)} errors, {len(found.warnings)} warnings")
    if found.errors:
        raise typer.Exit(1)


def classes(dataset: "Dataset") -> None:
    """Samples per class and split."""
    found = [Counter(s.adapter for s in part) for part in dataset.splits.values()]
    rows = [
        (label, name or "(out of scope)", *counts, sum(counts))
        for label, name in (*enumerate(dataset.labels), (-1, None))
        if any(counts := [split[name] for split in found]) or name
    ]
    console.table(("label", "adapter", *dataset.splits, "all"), rows, "Samples")


def training_json(router: "Router", out: Path) -> dict[str, Any]:
    """The chosen candidate and all candidates."""
    return {
        "router": str(out),
        "labels": list(router.labels),
        "layer": router.layer,
        "reads": list(map(str, router.recipe.places)),
        "score": "+".join(router.scorer.parts),
        "threshold": router.calibration.threshold,
        "best_loss": router.best_loss,
        "best_acc": router.best_acc,
        **{key: router.training[key] for key in ("candidates", "chosen", "why", "validated")},
    }


def training(router: "Router", out: Path, samples: int) -> None:
    """The candidates on validation, and the one that was chosen.

    Args:
        samples: number of in-scope validation samples.
    """
    found, calibration = training_json(router, out), router.calibration
    columns = ("reads", "MLP size", f"accuracy (n={samples})", "AUROC", "loss", "cost", "")
    rows = [
        _candidate(candidate, number == found["chosen"])
        for number, candidate in enumerate(found["candidates"])
    ]
    title = (
        "On validation. AUROC: against classes left out of training. Cost: share of the layers "
        "that routing runs and the answer does not"
    )
    console.table(columns, rows, title)
    console.say(f"chosen by the one-standard-error rule (Breiman et al., 1984): {found['why']}")
    console.say(
        f"abstains below {calibration.threshold:.3f} of the score {found['score']}, which keeps "
        f"at least {calibration.coverage:.0%} of validation (n={samples})"
    )
    for line in validation_lines(router.training["validated"]):
        console.say(line)
    console.say(f"{out}: {router.recipe}, labels {router.labels}")


def validation_lines(found: Mapping[str, Any]) -> list[str]:
    """The results of nested validation in words, with a warning if few samples support them."""
    inside, outside = found["in_scope"], found["out_of_scope"]
    abstained = inside - found["kept"]
    lines = [
        "judged on validation samples that chose nothing: "
        f"right on {found['right']} of {inside} in scope {_interval(found['right'], inside)}, "
        f"abstains on {abstained} of {inside} in scope {_interval(abstained, inside)}"
    ]
    if outside:
        rejected = found["rejected"]
        lines[0] += (
            f" and {rejected} of {outside} out of scope {_interval(rejected, outside)}, "
            f"AUROC {found['auroc']:.3f}"
        )
    else:
        lines.append("no sample is out of scope: how many of those it rejects is not known")
    few = [f"{n} {kind} scope" for n, kind in ((inside, "in"), (outside, "out of")) if 0 < n < FEW]
    if few:
        lines.append(
            f"warning: {' and '.join(few)} are few; the intervals say how little they show. "
            f"Give at least {FEW} validation samples of each kind"
        )
    if outside and found["auroc"] == 1:
        lines.append(
            "note: every sample out of scope scores below every sample in scope. Such easy samples "
            "do not show how the router treats requests that look like those in scope"
        )
    return lines


def _interval(hits: int, n: int) -> str:
    """The 95% interval of a share (Wilson, 1927)."""
    from scipy.stats import binomtest

    found = binomtest(hits, n).proportion_ci(method="wilson")
    return f"[{found.low:.0%}-{found.high:.0%}]"


def _candidate(candidate: Mapping[str, Any], is_chosen: bool) -> tuple[object, ...]:
    return (
        ", ".join(candidate["reads"]),
        candidate["mlp_size"],
        f"{candidate['val_acc']:.2%}",
        "-" if candidate["auroc_left_out"] is None else f"{candidate['auroc_left_out']:.4f}",
        f"{candidate['val_loss']:.4f}",
        f"{candidate['cost']:.0%}",
        "<-" if is_chosen else "",
    )


def evaluation(found: "Evaluation") -> None:
    """A table for each part that was measured, and whether routing is worth its time."""
    for title, columns, rows in found.tables():
        console.table(columns, rows, title)
    if found.worth:
        console.say(found.worth.sentence)


def extension(router: "Router", out: Path, as_json: bool) -> None:
    """The accuracy of each adapter before and after an extension."""
    changes = router.training["extended"][-1]["changes"]
    if as_json:
        labels = list(router.labels)
        shown = {"changes": changes, "rejected": router.training["extended"][-1]["rejected"]}
        console.show_json({"router": str(out), "labels": labels, **shown})
        return
    rows = [
        (label, c["adapter"], c["samples"], _change(c, "right"), _change(c, "routed"))
        for label, c in enumerate(changes)
    ]
    columns = ("label", "adapter", "validation (n)", "top label right", "routed right")
    console.table(columns, rows)
    if found := router.training["extended"][-1]["rejected"]:
        console.say(
            f"rejects {found['before']:.1%} -> {found['after']:.1%} of validation out of scope "
            f"(n={found['samples']})"
        )
    else:
        console.say("no sample is out of scope: how many of those it rejects is not known")
    console.say(f"{out}: labels {router.labels}")


def _change(change: Mapping[str, Any], name: str) -> str:
    before, after = change[f"{name}_before"], change[name]
    return f"{'new' if before is None else f'{before:.1%}'} -> {after:.1%}"


def flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values of nested objects; a nested key is ``a.b``."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
