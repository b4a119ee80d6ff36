"""Model selection: what a router may read, how each candidate validates, and which is chosen.

The choice follows the one-standard-error rule (Breiman et al., 1984, section 3.4.3): the cheapest
of all candidates that validation cannot distinguish from the best. Accuracy is compared first. It
often saturates, so the same rule is then applied to a finer measure: the area under the ROC curve
against classes that are left out in turn. With too few classes for that, it is the calibrated
cross-entropy. Samples out of scope have no say: as few or easy as they often are, they would favour
a score that only detects them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Any, NamedTuple

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from pointsman.labels import OUT_OF_SCOPE
from pointsman.models.features import FeatureRecipe
from pointsman.routing.fit_calibration import fit_temperature
from pointsman.routing.head import RouterHead
from pointsman.routing.scores import CANDIDATES, DEFAULT, Parts, Scorer


class Measures(NamedTuple):
    """A candidate's results on some of the in-scope validation samples."""

    accuracy: float
    """Of the top label"""
    accuracy_error: float
    """Standard error"""
    loss: float
    """Calibrated cross-entropy"""
    loss_error: float


@dataclass(frozen=True, eq=False)
class Candidate:
    """A trained head and its output for the in-scope validation samples."""

    recipe: FeatureRecipe
    mlp_size: int
    head: RouterHead
    logits: Tensor
    """(n, labels)"""
    truth: Tensor
    """Labels (n,)"""
    cost: float
    """Share of the base's layers that routing runs and the answer does not"""
    left_out: Mapping[Parts, float] = field(default_factory=dict)
    """AUROC of each score against classes that were left out; empty unless computed"""

    def measure(self, rows: Tensor | None = None) -> Measures:
        """Results on the samples ``rows`` (m,), by default on all."""
        logits, truth = self.logits, self.truth
        if rows is not None:
            logits, truth = logits[rows], truth[rows]
        scaled = logits / fit_temperature(logits, truth)
        losses = functional.cross_entropy(scaled, truth, reduction="none")
        hits, n = int((logits.argmax(-1) == truth).sum()), len(truth)
        # Two extra hits and two extra misses (Agresti & Coull, 1998): otherwise the error would be
        # 0 for heads that are right on every sample.
        share = (hits + 2) / (n + 4)
        return Measures(
            accuracy=hits / n,
            accuracy_error=sqrt(share * (1 - share) / (n + 4)),
            loss=float(losses.mean()),
            loss_error=float(losses.std(correction=0)) / sqrt(n),
        )

    @property
    def parts(self) -> Parts:
        """The parts of the score that best separates left-out classes."""
        return max(self.left_out, key=lambda parts: self.left_out[parts], default=DEFAULT)

    @property
    def auroc(self) -> float | None:
        """AUROC of ``parts`` against classes that were left out"""
        return self.left_out.get(self.parts)

    @property
    def auroc_error(self) -> float:
        """Its standard error, with one extra sample ranked right against half of the others."""
        fewer = len(self.truth) // LEFT_OUT
        careful = ((self.auroc or 0.0) * fewer + 0.5) / (fewer + 1)
        return auroc_error(careful, 2 * fewer, fewer)

    def to_json(self) -> dict[str, Any]:
        measured = self.measure()
        return {
            "layer": self.recipe.layers[-1],
            "reads": list(map(str, self.recipe.places)),
            "mlp_size": self.mlp_size,
            "val_acc": measured.accuracy,
            "val_loss": measured.loss,
            "auroc_left_out": self.auroc,
            "cost": self.cost,
        }


LEFT_OUT = 3
"""The classes are split into this many parts, which are left out in turn"""


def recipes_of(recipe: FeatureRecipe, layers: Sequence[int]) -> list[FeatureRecipe]:
    """The candidate recipes: each stored place alone and, at no extra cost, all up to a layer."""
    found = []
    for layer in layers:
        found += [replace(recipe, layers=(layer,), poolings=(name,)) for name in recipe.poolings]
        together = replace(recipe, layers=tuple(each for each in layers if each <= layer))
        if len(together.places) > 1:
            found.append(together)
    return found


def select_features(recipe: FeatureRecipe, stored: FeatureRecipe, values: Tensor) -> Tensor:
    """What a recipe reads (n, features) from the stored features (n, places, hidden)."""
    columns = [stored.places.index(place) for place in recipe.places]
    return values[:, columns].flatten(1)


def aurocs_of(
    scorer: Scorer, head: RouterHead, samples: tuple[Tensor, Tensor]
) -> dict[Parts, float]:
    """The AUROC of every candidate score, the simplest first."""
    values, labels = samples
    with torch.inference_mode():
        scaled = scorer.scaled(scorer.values(head, values)[1])
    columns = {names: [scorer.parts.index(name) for name in names] for names in CANDIDATES}
    truth = (labels != OUT_OF_SCOPE).numpy()
    return {
        names: float(roc_auc_score(truth, scaled[:, at].mean(-1).numpy()))
        for names, at in columns.items()
    }


def auroc_error(auroc: float, inside: int, outside: int) -> float:
    """The standard error of an AUROC (Hanley & McNeil, 1982)."""
    one, two = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    varies = auroc * (1 - auroc) + (inside - 1) * (one - auroc**2)
    varies += (outside - 1) * (two - auroc**2)
    return sqrt(max(0.0, varies) / (inside * outside))


def accurate(
    candidates: Sequence[Candidate], rows: Tensor | None = None
) -> list[tuple[Candidate, Measures]]:
    """The candidates whose accuracy cannot be distinguished from the best, on samples ``rows``."""
    measured = [(candidate, candidate.measure(rows)) for candidate in candidates]
    best = max((m for _, m in measured), key=lambda m: m.accuracy)
    least = best.accuracy - best.accuracy_error
    return [(candidate, m) for candidate, m in measured if m.accuracy >= least]


def choose(candidates: Sequence[Candidate], rows: Tensor | None = None) -> tuple[Candidate, str]:
    """The chosen candidate, and why it was chosen.

    Args:
        rows: the in-scope validation samples (m,) that choose; by default all.
    """
    left = accurate(candidates, rows)
    best = max((m for _, m in left), key=lambda m: m.accuracy)
    why = (
        f"{len(left)} of {len(candidates)} within one standard error "
        f"({best.accuracy_error:.2%}) of the best accuracy ({best.accuracy:.2%})"
    )
    if all(c.left_out for c, _ in left):
        name = "AUROC against classes left out"
        finer = [(c.auroc or 0.0, c.auroc_error, c) for c, _ in left]
    else:
        name = "cross-entropy"
        finer = [(-m.loss, m.loss_error, c) for c, m in left]
    top, error, _ = max(finer, key=lambda row: row[0])
    finer = [row for row in finer if row[0] >= top - error]
    why += (
        f", {len(finer)} of these within one ({error:.4f}) of their best {name} "
        f"({abs(top):.4f}); of these the cheapest"
    )
    cheapest = min(c.cost for *_, c in finer)
    # At the same cost, take the best.
    return max((row for row in finer if row[2].cost == cheapest), key=lambda row: row[0])[2], why
