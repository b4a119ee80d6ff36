"""Scores: how much a request looks like those that the adapters are for.

A score reads the head's logits and the features together, is higher in scope, and is a sum of
parts that are brought to the same scale. Which parts is chosen by validation, see ``train``. All of
it is a few products with small matrices on the device of the features: nothing waits for it.

- ``probability``: the largest calibrated probability (Hendrycks & Gimpel, ICLR 2017)
- ``energy``: log-sum-exp of the logits (Liu et al., NeurIPS 2020)
- ``max-logit``: the largest logit (Hendrycks et al., ICML 2022)
- ``cosine``: to the nearest class mean
- ``mahalanobis``: minus the distance to the nearest class mean (Lee et al., NeurIPS 2018)
- ``relative-mahalanobis``: the same, less the distance to all of training (Ren et al., 2021)
- ``outside``: log odds against a class of their own for samples out of scope, if there were any
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn
from torch.nn import functional

from pointsman.errors import ArtefactError
from pointsman.head import RouterHead
from pointsman.labels import OUT_OF_SCOPE

Parts = tuple[str, ...]
DEFAULT: Parts = ("max-logit", "mahalanobis", "relative-mahalanobis")
"""Where nothing tells which is best"""
CANDIDATES: tuple[Parts, ...] = (
    ("probability",),
    ("energy",),
    ("max-logit",),
    ("cosine",),
    ("mahalanobis",),
    ("relative-mahalanobis",),
    ("max-logit", "mahalanobis"),
    ("max-logit", "relative-mahalanobis"),
    DEFAULT,
)
"""What is compared, the simplest first"""
OUTSIDE: tuple[Parts, ...] = (
    ("outside",),
    ("max-logit", "outside"),
    ("max-logit", "relative-mahalanobis", "outside"),
    (*DEFAULT, "outside"),
)
"""What is compared too where samples out of scope were trained on"""
AXES = 64
"""Directions in which the covariance within classes is kept; in all others it is one variance"""


class Evidence(NamedTuple):
    """What the router knows of a batch, on the device of its features."""

    logits: Tensor
    """(B, labels)"""
    scores: Tensor
    """(B,), higher in scope"""


class Scorer(nn.Module):
    """Scores (B,) of features (B, features) and what the head makes of them.

    The covariance within classes is that of probabilistic PCA (Tipping & Bishop, 1999) over
    standardised features: ``AXES`` directions and one variance for the rest, so that few samples
    are enough and nothing is of the size features x features. The relative distance needs only the
    directions between class means (as in linear discriminant analysis), of which there are fewer
    than labels: in all others the two distances are the same.

    Args:
        parts: names of the parts, see the module.
        tensors: as ``state_dict`` gives them.
    """

    def __init__(self, parts: Parts, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.parts = parts
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, head: RouterHead, features: Tensor) -> Evidence:
        logits, values = self.values(head, features)
        return Evidence(logits, self.scaled(values).mean(-1))

    def scaled(self, values: Tensor) -> Tensor:
        """Every part (B, parts) on the same scale."""
        return (values - self.get_buffer("shift")) * self.get_buffer("scale")

    def values(self, head: RouterHead, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, labels), and every part as it comes (B, parts)."""
        tensor = self.get_buffer
        hidden = head[:-1](features)
        logits: Tensor = head[-1](hidden)
        found: dict[str, Tensor] = {
            "max-logit": logits.amax(-1),
            "energy": logits.logsumexp(-1),
        }
        if "probability" in self.parts:
            found["probability"] = (logits / tensor("temperature")).log_softmax(-1).amax(-1)
        if "outside" in self.parts:
            outside = functional.linear(hidden, tensor("outside"), tensor("outside_bias"))[:, 0]
            found["outside"] = logits.logsumexp(-1) - outside
        if {"cosine", "mahalanobis", "relative-mahalanobis"} & {*self.parts}:
            x = (features - tensor("centre")) * tensor("spread")
            found |= self._distances(x)
        return logits, torch.stack([found[name] for name in self.parts], -1)

    def _distances(self, x: Tensor) -> dict[str, Tensor]:
        """Parts of standardised features (B, features)."""
        tensor, found = self.get_buffer, {}
        if "cosine" in self.parts:
            found["cosine"] = (functional.normalize(x, dim=-1) @ tensor("means").mT).amax(-1)
        if {"mahalanobis", "relative-mahalanobis"} & {*self.parts}:
            between = x @ tensor("between")
            means = tensor("between_means")
            inner = means.square().sum(-1) - 2 * between @ means.mT
            nearest = between.square().sum(-1) + inner.amin(-1)
            found["relative-mahalanobis"] = between.square() @ tensor("between_weights") - nearest
        if "mahalanobis" in self.parts:
            along = (x @ tensor("axes")).square() @ tensor("axis_weights")
            whole = x.square().sum(-1) * tensor("rest_weight") - along
            found["mahalanobis"] = between.square().sum(-1) - whole - nearest
        return found

    def only(self, parts: Parts) -> "Scorer":
        """The same score of fewer parts, with no tensor that they do not need."""
        at = [self.parts.index(name) for name in parts]
        kept = {"shift": self.get_buffer("shift")[at], "scale": self.get_buffer("scale")[at]}
        needed = {name for part in parts for name in _TENSORS[part]}
        return Scorer(parts, kept | {name: self.get_buffer(name) for name in sorted(needed)})


_DISTANCE = ("centre", "spread", "between", "between_means", "between_weights")
_TENSORS: dict[str, tuple[str, ...]] = {
    "probability": ("temperature",),
    "energy": (),
    "max-logit": (),
    "cosine": ("centre", "spread", "means"),
    "mahalanobis": (*_DISTANCE, "axes", "axis_weights", "rest_weight"),
    "relative-mahalanobis": _DISTANCE,
    "outside": ("outside", "outside_bias"),
}


def scorer_from_state(parts: Sequence[str], state: dict[str, Tensor], where: str) -> Scorer:
    """Rebuilds a scorer. Raises ``ArtefactError`` if parts and tensors are not a scorer's."""
    unknown = [name for name in parts if name not in _TENSORS]
    needed = {"shift", "scale"} | {tensor for name in parts for tensor in _TENSORS.get(name, ())}
    if unknown or not parts or needed != set(state):
        raise ArtefactError(f"{where}: {sorted(state)} are not the tensors of a score of {parts}")
    return Scorer(tuple(parts), state)


def fit_scorer(
    head: RouterHead,
    outside: tuple[Tensor, Tensor] | None,
    temperature: float,
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    seed: int = 0,
) -> Scorer:
    """Everything that a score may be made of; ``only`` picks from it.

    Args:
        outside: weight (1, width) and bias (1,) of the class out of scope, on the head's last
            hidden states; None if there is none.
        train: features (n, features) and labels (n,) that class means and covariance are of.
        val: of which the samples in scope say what is usual.
    """
    inside = train[1] != OUT_OF_SCOPE
    tensors = _statistics(train[0][inside], train[1][inside], seed)
    tensors["temperature"] = torch.tensor(temperature)
    parts = [name for name in _TENSORS if name != "outside"]
    if outside is not None:
        parts.append("outside")
        tensors["outside"], tensors["outside_bias"] = outside
    scorer = Scorer(tuple(parts), tensors)
    with torch.inference_mode():
        values = scorer.values(head, val[0][val[1] != OUT_OF_SCOPE])[1].clone()
    scorer.register_buffer("shift", values.mean(0))
    scorer.register_buffer("scale", 1 / (values.std(0, correction=0) + 1e-6))
    return scorer


def _statistics(x: Tensor, labels: Tensor, seed: int) -> dict[str, Tensor]:
    """Of features (n, features) with labels (n,) from 0."""
    centre, spread = x.mean(0), 1 / (x.std(0, correction=0) + 1e-6)
    x = (x - centre) * spread
    classes = int(labels.max()) + 1
    counts = torch.bincount(labels, minlength=classes)
    means = torch.zeros(classes, x.shape[1]).index_add_(0, labels, x) / counts[:, None]
    residuals = x - means[labels]
    count = max(1, min(AXES, len(x) - classes, x.shape[1] - 1))
    _, values, axes = randomized_svd(residuals.numpy(), count, random_state=seed % 2**32)
    variances = torch.from_numpy(values).square() / len(x)
    axes = torch.from_numpy(axes.copy()).T  # (features, axes)
    total = residuals.square().sum() / len(x)
    rest = ((total - variances.sum()) / max(1, x.shape[1] - count)).clamp(min=1e-3)
    variances = variances.clamp(min=rest)
    # Whitening: 1/sqrt(rest) in all directions, corrected along the axes.
    whiten = variances.rsqrt() - rest.rsqrt()

    def whitened(columns: Tensor) -> Tensor:
        return columns * rest.rsqrt() + axes @ (whiten[:, None] * (axes.T @ columns))

    shares = (counts / counts.sum()).sqrt()
    basis, spans, _ = torch.linalg.svd(whitened(means.T) * shares, full_matrices=False)
    rank = max(1, min(classes - 1, x.shape[1]))
    between = whitened(basis[:, :rank])  # (features, rank)
    return {
        "centre": centre,
        "spread": spread,
        "means": functional.normalize(means, dim=-1),
        "between": between,
        "between_means": means @ between,
        # Over all of training the variance there is 1 within classes, and that of their means.
        "between_weights": 1 / (1 + spans[:rank].square()),
        "axes": axes,
        "axis_weights": 1 / rest - 1 / variances,
        "rest_weight": 1 / rest,
    }
