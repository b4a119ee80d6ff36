"""Nested validation: what a router does on samples that had no part in choosing it.

Validation chooses layers, head, score and threshold. On the same samples, the chosen router looks
better than it is (Cawley & Talbot, JMLR 2010). Here the choice is made several times, each time
without one fold of validation, and judged on that fold. No head is trained again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from pointsman.labels import OUT_OF_SCOPE
from pointsman.routing.calibration import Calibration
from pointsman.routing.feature_store import Features
from pointsman.routing.fit_calibration import calibrate, fit_temperature
from pointsman.routing.fit_head import TrainSettings, fit_outside
from pointsman.routing.fit_scores import add_veto, fit_scorer, rescaled
from pointsman.routing.head import RouterHead
from pointsman.routing.model_selection import Candidate, choose, select_features
from pointsman.routing.scores import Outside, Scorer

FOLDS = 5
Parts = tuple[RouterHead, Scorer, Calibration]


@dataclass(frozen=True)
class Validated:
    """Results on validation, each sample judged by a router that was chosen without it."""

    right: Tensor
    """Whether the top label of each in-scope sample (n,) is right"""
    kept: Tensor
    """Whether each in-scope sample (n,) is routed"""
    rejected: Tensor
    """Whether each sample out of scope (m,) is abstained on"""
    probability: Tensor
    """Probability of the right label of each in-scope sample (n,)"""
    auroc: float | None
    """Of the score, in against out of scope; None without samples out of scope"""
    loss: float
    """Cross-entropy of the head's logits in scope"""

    def to_json(self) -> dict[str, Any]:
        return {
            "in_scope": len(self.right),
            "right": int(self.right.sum()),
            "kept": int(self.kept.sum()),
            "out_of_scope": len(self.rejected),
            "rejected": int(self.rejected.sum()),
            "auroc": self.auroc,
        }


class Assembler:
    """Completes candidates with a score and a calibration. Each is fitted to training once."""

    def __init__(
        self, features: Features, settings: TrainSettings, log_prior: tuple[float, ...] = ()
    ) -> None:
        self.features, self.settings, self.log_prior = features, settings, log_prior
        self._fitted: dict[int, tuple[RouterHead, Scorer, Outside | None]] = {}

    def values(self, candidate: Candidate, split: str) -> tuple[Tensor, Tensor]:
        """What the candidate reads (n, features) of a split, and its labels (n,)."""
        values, labels = self.features.splits[split]
        return select_features(candidate.recipe, self.features.recipe, values), labels

    def assemble(self, candidate: Candidate, rows: Tensor | None = None) -> Parts:
        """Head, score and calibration from the validation samples ``rows`` (m,), or from all."""
        head, scorer, outside = self._fit(candidate)
        x, labels = self.values(candidate, "val")
        if rows is not None:
            x, labels = x[rows], labels[rows]
        coverage = self.settings.coverage
        scorer = rescaled(scorer, head, (x, labels)).only(candidate.parts)
        if outside is not None:
            scorer = add_veto(scorer, head, outside, (x, labels), coverage)
        with torch.inference_mode():
            evidence = scorer(head, x)
        return head, scorer, calibrate(evidence, labels, coverage, log_prior=self.log_prior)

    def _fit(self, candidate: Candidate) -> tuple[RouterHead, Scorer, Outside | None]:
        if id(candidate) not in self._fitted:
            train = self.values(candidate, "train")
            head, outside = candidate.head, None
            temperature = fit_temperature(candidate.logits, candidate.truth)
            scorer = fit_scorer(temperature, train, self.settings.seed)
            if bool((train[1] == OUT_OF_SCOPE).any()):
                head, outside = fit_outside(head, *train, self.settings)
            self._fitted[id(candidate)] = head, scorer, outside
        return self._fitted[id(candidate)]


class Fold(NamedTuple):
    """A part of validation, and the rest, without which it is judged."""

    held: Tensor
    """Rows (m,) of the part"""
    rest: Tensor
    """Rows of the rest"""
    chooses: Tensor
    """The rest in scope, as rows among the samples in scope"""


def folds_of(labels: Tensor) -> list[Fold]:
    """Folds of samples with labels (n,), -1 out of scope; each class is spread over them."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    order = order[labels[order].argsort(stable=True)]
    number = torch.empty_like(labels)
    number[order] = torch.arange(len(labels)) % FOLDS
    inside = labels != OUT_OF_SCOPE
    place = inside.cumsum(0) - 1
    folds = []
    for held in (number == fold for fold in range(min(FOLDS, len(labels)))):
        # A single sample in scope has to choose as well.
        rest = ~held if bool((inside & ~held).any()) else torch.ones_like(held)
        folds.append(Fold(held.nonzero()[:, 0], rest.nonzero()[:, 0], place[rest & inside]))
    return folds


def validate(candidates: Sequence[Candidate], assembler: Assembler) -> Validated:
    """Chooses without each fold, and judges that fold."""
    labels = assembler.features.splits["val"][1]
    inside = labels != OUT_OF_SCOPE
    logits = torch.empty(len(labels), len(assembler.features.labels))
    margin, probability = torch.empty(len(labels)), torch.zeros(len(labels))
    for held, rest, chooses in folds_of(labels):
        chosen, _ = choose(candidates, chooses)
        head, scorer, calibration = assembler.assemble(chosen, rest)
        with torch.inference_mode():
            evidence = scorer(head, assembler.values(chosen, "val")[0][held])
        logits[held] = evidence.logits
        margin[held] = evidence.scores - calibration.threshold
        truth = labels[held].clamp(min=0)[:, None]
        probability[held] = calibration.probabilities(evidence.logits).gather(1, truth)[:, 0]
    auroc = None
    if not bool(inside.all()):
        auroc = float(roc_auc_score(inside.numpy(), margin.numpy()))
    return Validated(
        right=logits[inside].argmax(-1) == labels[inside],
        kept=margin[inside] >= 0,
        rejected=margin[~inside] < 0,
        probability=probability[inside],
        auroc=auroc,
        loss=float(functional.cross_entropy(logits[inside], labels[inside])),
    )
