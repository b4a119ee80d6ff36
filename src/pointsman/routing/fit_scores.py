"""Fits the score that separates requests in scope from others."""

import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor
from torch.nn import functional

from pointsman.labels import OUT_OF_SCOPE
from pointsman.routing.fit_calibration import fit_threshold, fit_veto
from pointsman.routing.head import RouterHead
from pointsman.routing.scores import AXES, OUTSIDE, TENSORS, Outside, Scorer, mean_and_scale


def fit_scorer(temperature: float, train: tuple[Tensor, Tensor], seed: int = 0) -> Scorer:
    """Fits all parts of a score, each on its own scale; ``only`` selects from them.

    Args:
        train: features (n, features) and labels (n,) for the class means and the covariance.
    """
    inside = train[1] != OUT_OF_SCOPE
    tensors = _statistics(train[0][inside], train[1][inside], seed)
    tensors["temperature"] = torch.tensor(temperature)
    parts = tuple(name for name in TENSORS if name != OUTSIDE)
    tensors |= {"shift": torch.zeros(len(parts)), "scale": torch.ones(len(parts))}
    return Scorer(parts, tensors)


def rescaled(scorer: Scorer, head: RouterHead, val: tuple[Tensor, Tensor]) -> Scorer:
    """The score with its parts scaled by the in-scope samples of ``val``."""
    with torch.inference_mode():
        values = scorer.values(head, val[0][val[1] != OUT_OF_SCOPE])[1].clone()
    shift, scale = mean_and_scale(values)
    tensors = dict(scorer.named_buffers()) | {"shift": shift, "scale": 1 / scale}
    return Scorer(scorer.parts, tensors)


def add_veto(
    scorer: Scorer, head: RouterHead, outside: Outside, val: tuple[Tensor, Tensor], coverage: float
) -> Scorer:
    """The score with a veto, placed so that one threshold, ``fit_threshold``'s, serves both.

    In scope, the veto rejects at most half as many validation samples as the threshold does: none
    of those that it keeps, unless more samples out of scope are rejected for it.
    """
    free = scorer.with_veto(outside, 0.0, 1.0)
    with torch.inference_mode():
        values = free.scaled(free.values(head, val[0])[1])
    score, veto = values[:, :-1].mean(-1), values[:, -1]
    inside = val[1] != OUT_OF_SCOPE
    threshold = fit_threshold(score[inside], coverage)
    kept = score >= threshold
    limit = fit_veto(veto[inside & kept], veto[~inside & kept], (1 + coverage) / 2)
    spread = float(veto[inside].std(correction=0)) + 1e-6
    return scorer.with_veto(outside, limit - threshold * spread, 1 / spread)


def _statistics(x: Tensor, labels: Tensor, seed: int) -> dict[str, Tensor]:
    """Fits class statistics on features (n, features) with labels (n,) from 0."""
    centre, scale = mean_and_scale(x)
    spread = 1 / scale
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
