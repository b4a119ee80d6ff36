"""Scores: how much a request resembles those that the adapters are for.

A score is computed from the head's logits and the features. It is higher in scope. It is the mean
of parts on the same scale, which validation selects, see ``train``. It takes only a few products
with small matrices on the features' device, and nothing waits for it.

- ``probability``: the largest calibrated probability (Hendrycks & Gimpel, ICLR 2017)
- ``energy``: log-sum-exp of the logits (Liu et al., NeurIPS 2020)
- ``max-logit``: the largest logit (Hendrycks et al., ICML 2022)
- ``cosine``: to the nearest class mean
- ``mahalanobis``: minus the distance to the nearest class mean (Lee et al., NeurIPS 2018)
- ``relative-mahalanobis``: the same, relative to the distance to all of training (Ren et al., 2021)

``outside`` is a veto: the log odds against a class for samples out of scope, if training had any.
The score is never above it, so these samples only ever make a router stricter.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from pointsman.errors import ArtefactError
from pointsman.routing.head import RouterHead

Parts = tuple[str, ...]
DEFAULT: Parts = ("max-logit", "mahalanobis", "relative-mahalanobis")
"""Used if validation cannot select the parts"""
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
"""The scores that are compared, the simplest first"""
OUTSIDE = "outside"
"""The veto, last among the parts"""
Outside = tuple[Tensor, Tensor]
"""Weight (1, width) and bias (1,) of the class out of scope, on the head's last hidden states"""
AXES = 64
"""Number of directions with a full within-class covariance; all others share one variance"""


def mean_and_scale(values: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and scale that standardise values (n, ...): (x - mean) / scale."""
    return values.mean(0), values.std(0, correction=0) + 1e-6


class Evidence(NamedTuple):
    """What the router knows about a batch, on the device of its features."""

    logits: Tensor
    """(B, labels)"""
    scores: Tensor
    """(B,), higher in scope"""


class Scorer(nn.Module):
    """Scores (B,) of features (B, features) and the head's logits for them.

    The covariance within classes is that of probabilistic PCA (Tipping & Bishop, 1999) over
    standardised features: ``AXES`` directions and one variance for the rest, so few samples are
    enough and no matrix is features x features. The relative distance needs only the directions
    between class means (as in linear discriminant analysis). There are fewer of them than labels;
    in all other directions the two distances are the same.

    Args:
        parts: names of the parts, see the module.
        tensors: in the form of ``state_dict``.
    """

    def __init__(self, parts: Parts, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.parts = parts
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, head: RouterHead, features: Tensor) -> Evidence:
        logits, values = self.values(head, features)
        return Evidence(logits, self.combined(self.scaled(values)))

    def combined(self, scaled: Tensor) -> Tensor:
        """Scores (B,) from all scaled parts (B, parts)."""
        if OUTSIDE not in self.parts:
            return scaled.mean(-1)
        veto = scaled[:, -1]
        return veto if len(self.parts) == 1 else torch.minimum(scaled[:, :-1].mean(-1), veto)

    def scaled(self, values: Tensor) -> Tensor:
        """All parts (B, parts), on the same scale."""
        return (values - self.get_buffer("shift")) * self.get_buffer("scale")

    def values(self, head: RouterHead, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, labels), and all unscaled parts (B, parts)."""
        tensor = self.get_buffer
        hidden = head[:-1](features)
        logits: Tensor = head[-1](hidden)
        found: dict[str, Tensor] = {
            "max-logit": logits.amax(-1),
            "energy": logits.logsumexp(-1),
        }
        if "probability" in self.parts:
            found["probability"] = (logits / tensor("temperature")).log_softmax(-1).amax(-1)
        if OUTSIDE in self.parts:
            outside = functional.linear(hidden, tensor("outside"), tensor("outside_bias"))[:, 0]
            found[OUTSIDE] = logits.logsumexp(-1) - outside
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

    def only(self, parts: Parts) -> Self:
        """The same score with fewer parts and only the tensors that they need."""
        at = [self.parts.index(name) for name in parts]
        kept = {"shift": self.get_buffer("shift")[at], "scale": self.get_buffer("scale")[at]}
        needed = {name for part in parts for name in TENSORS[part]}
        return type(self)(parts, kept | {name: self.get_buffer(name) for name in sorted(needed)})

    def with_veto(self, outside: Outside, shift: float, scale: float) -> Self:
        """The same score, never above (outside - ``shift``) * ``scale``."""
        tensors = dict(self.named_buffers())
        weight, bias = outside
        tensors["shift"] = torch.cat([tensors["shift"], torch.tensor([shift])])
        tensors["scale"] = torch.cat([tensors["scale"], torch.tensor([scale])])
        tensors |= {"outside": weight, "outside_bias": bias}
        return type(self)((*self.parts, OUTSIDE), tensors)


_DISTANCE = ("centre", "spread", "between", "between_means", "between_weights")
TENSORS: dict[str, tuple[str, ...]] = {
    "probability": ("temperature",),
    "energy": (),
    "max-logit": (),
    "cosine": ("centre", "spread", "means"),
    "mahalanobis": (*_DISTANCE, "axes", "axis_weights", "rest_weight"),
    "relative-mahalanobis": _DISTANCE,
    OUTSIDE: ("outside", "outside_bias"),
}


def scorer_from_state(parts: Sequence[str], state: dict[str, Tensor], where: str) -> Scorer:
    """Rebuilds a scorer. Raises ``ArtefactError`` if parts and tensors do not form a scorer."""
    unknown = [name for name in parts if name not in TENSORS]
    needed = {"shift", "scale"} | {tensor for name in parts for tensor in TENSORS.get(name, ())}
    if unknown or not parts or needed != set(state) or OUTSIDE in parts[:-1]:
        raise ArtefactError(f"{where}: {sorted(state)} are not the tensors of a score of {parts}")
    return Scorer(tuple(parts), state)
