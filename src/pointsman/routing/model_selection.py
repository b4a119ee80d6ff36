"""Model selection: what a router may read, how each candidate validates, and which is chosen.

The choice follows the one-standard-error rule (Breiman et al., 1984, section 3.4.3): the cheapest
of all candidates that validation cannot distinguish from the best. Accuracy is compared first. It
often saturates, so the same rule is then applied to a finer measure: the area under the ROC curve
against validation samples out of scope or, without any, against classes that are left out in turn.
With too few classes for that, it is the calibrated cross-entropy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from pointsman.labels import OUT_OF_SCOPE
from pointsman.models.features import FeatureRecipe
from pointsman.routing.feature_store import Features
from pointsman.routing.fit_calibration import fit_temperature
from pointsman.routing.fit_scores import fit_scorer
from pointsman.routing.head import RouterHead
from pointsman.routing.scores import CANDIDATES, OUTSIDE, Parts, Scorer


@dataclass(frozen=True)
class Candidate:
    """A trained head and its validation results."""

    recipe: FeatureRecipe
    mlp_size: int
    head: RouterHead
    scorer: Scorer
    temperature: float
    accuracy: float
    """Accuracy of the top label, in scope"""
    accuracy_error: float
    """Standard error"""
    loss: float
    """Calibrated cross-entropy in scope"""
    loss_error: float
    auroc: float | None
    """AUROC of ``scorer`` against samples out of scope; None if there are none"""
    auroc_error: float
    cost: float
    """Share of the base's layers that routing runs"""
    left_out: float | None = None
    """Used instead of ``auroc`` when computed: AUROC against classes that were left out"""

    def to_json(self) -> dict[str, Any]:
        return {
            "layer": self.recipe.layers[-1],
            "reads": list(map(str, self.recipe.places)),
            "mlp_size": self.mlp_size,
            "val_acc": self.accuracy,
            "val_loss": self.loss,
            "auroc": self.auroc,
            "auroc_left_out": self.left_out,
            "cost": self.cost,
        }


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


def score_candidate(
    recipe: FeatureRecipe,
    mlp_size: int,
    head: RouterHead,
    outside: tuple[Tensor, Tensor] | None,
    features: Features,
    seed: int,
) -> Candidate:
    """A head's validation results, with the best score if out-of-scope samples can select it."""
    train, val = (
        (select_features(recipe, features.recipe, values), labels)
        for values, labels in (features.splits["train"], features.splits["val"])
    )
    inside = val[1] != OUT_OF_SCOPE
    labels = val[1][inside]
    with torch.inference_mode():
        logits = head(val[0][inside])
    temperature = fit_temperature(logits, labels)
    scorer = fit_scorer(head, outside, temperature, train, val, seed)
    losses = torch.nn.functional.cross_entropy(logits / temperature, labels, reduction="none")
    hits, n = int((logits.argmax(-1) == labels).sum()), len(labels)
    # Two extra hits and two extra misses (Agresti & Coull, 1998): otherwise the error would be 0
    # for heads that are right on every sample.
    share = (hits + 2) / (n + 4)
    auroc = None
    parts: Parts = scorer.parts
    if not bool(inside.all()):
        parts, auroc = best_parts(scorer, head, val)
    return Candidate(
        recipe=recipe,
        mlp_size=mlp_size,
        head=head,
        scorer=scorer.only(parts) if auroc is not None else scorer,
        temperature=temperature,
        accuracy=hits / n,
        accuracy_error=sqrt(share * (1 - share) / (n + 4)),
        loss=float(losses.mean()),
        loss_error=float(losses.std(correction=0)) / sqrt(n),
        auroc=auroc,
        auroc_error=0.0 if auroc is None else _careful_error(auroc, n, len(val[1]) - n),
        cost=recipe.layers[-1] / features.depth,
    )


def best_parts(
    scorer: Scorer, head: RouterHead, samples: tuple[Tensor, Tensor]
) -> tuple[Parts, float]:
    """The parts whose sum best separates samples (n, features) with label -1, and its AUROC."""
    aurocs = aurocs_of(scorer, head, samples)
    parts = max(aurocs, key=lambda parts: aurocs[parts])
    return parts, aurocs[parts]


def aurocs_of(
    scorer: Scorer, head: RouterHead, samples: tuple[Tensor, Tensor]
) -> dict[Parts, float]:
    """The AUROC of every candidate score, the simplest first."""
    values, labels = samples
    with torch.inference_mode():
        scaled = scorer.scaled(scorer.values(head, values)[1])
    wanted = CANDIDATES + (OUTSIDE if "outside" in scorer.parts else ())
    columns = {names: [scorer.parts.index(name) for name in names] for names in wanted}
    truth = (labels != OUT_OF_SCOPE).numpy()
    return {
        names: float(roc_auc_score(truth, scaled[:, at].mean(-1).numpy()))
        for names, at in columns.items()
    }


def _careful_error(auroc: float, inside: int, outside: int) -> float:
    """As ``auroc_error``, with one extra sample that is ranked right against half of the others."""
    fewer = min(inside, outside)
    return auroc_error((auroc * fewer + 0.5) / (fewer + 1), inside, outside)


def auroc_error(auroc: float, inside: int, outside: int) -> float:
    """The standard error of an AUROC (Hanley & McNeil, 1982)."""
    one, two = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    varies = auroc * (1 - auroc) + (inside - 1) * (one - auroc**2)
    varies += (outside - 1) * (two - auroc**2)
    return sqrt(max(0.0, varies) / (inside * outside))


def with_left_out(
    candidate: Candidate, parts: Parts, auroc: float, inside: int, outside: int
) -> Candidate:
    """A candidate whose score and measure come from classes that were left out.

    Args:
        inside, outside: numbers of samples behind the AUROC.
    """
    return replace(
        candidate,
        scorer=candidate.scorer.only(parts),
        left_out=auroc,
        auroc_error=_careful_error(auroc, inside, outside),
    )


def accurate(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates whose accuracy cannot be distinguished from the best."""
    best = max(candidates, key=lambda c: c.accuracy)
    return [c for c in candidates if c.accuracy >= best.accuracy - best.accuracy_error]


def choose(candidates: Sequence[Candidate]) -> tuple[Candidate, str]:
    """The chosen candidate, and why it was chosen."""
    best = max(candidates, key=lambda c: c.accuracy)
    left = accurate(candidates)
    why = (
        f"{len(left)} of {len(candidates)} within one standard error "
        f"({best.accuracy_error:.2%}) of the best accuracy ({best.accuracy:.2%})"
    )
    measure: Callable[[Candidate], float]
    if best.auroc is not None:
        measure = lambda c: c.auroc or 0.0  # noqa: E731
        top = max(left, key=measure)
        error, name = top.auroc_error, "AUROC"
    elif all(c.left_out is not None for c in left):
        measure = lambda c: c.left_out or 0.0  # noqa: E731
        top = max(left, key=measure)
        error, name = top.auroc_error, "AUROC against classes left out"
    else:
        measure = lambda c: -c.loss  # noqa: E731
        top = max(left, key=measure)
        error, name = top.loss_error, "cross-entropy"
    left = [c for c in left if measure(c) >= measure(top) - error]
    why += (
        f", {len(left)} of these within one ({error:.4f}) of their best {name} "
        f"({abs(measure(top)):.4f}); of these the cheapest"
    )
    cheapest = min(c.cost for c in left)
    # At the same cost, take the best.
    return max((c for c in left if c.cost == cheapest), key=measure), why
