"""The head of an extended router: rows for new labels, fitted with the old ones fixed."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from pointsman.labels import OUT_OF_SCOPE
from pointsman.routing.fit_head import class_weights
from pointsman.routing.head import RouterHead, build_router_head
from pointsman.routing.router import Router
from pointsman.routing.scores import OUTSIDE, Outside, Scorer

RIDGE = 0.1
"""Weight of the squared norm of a new row over standardised features, see bench_extend.py"""
_STEPS = 100


class Samples(NamedTuple):
    """Features (n, hidden) and labels (n,) of the extended label map, -1 out of scope."""

    features: Tensor
    labels: Tensor

    def where(self, rows: Tensor) -> Self:
        return type(self)(self.features[rows], self.labels[rows])

    def joined(self, other: Self) -> Self:
        return type(self)(*(torch.cat(pair) for pair in zip(self, other, strict=True)))


def extended_head(
    router: Router, samples: Samples, labels: int
) -> tuple[RouterHead, Outside | None]:
    """The head with rows for new labels, and its output for samples out of scope if it has one.

    The old rows stay fixed.
    """
    head, outside = router.head, _outside_of(router.scorer)
    old = head.num_labels
    with torch.no_grad():
        hidden = head[:-1](samples.features)
        states = [samples.features, *([hidden] if len(head) > 1 else [])]
        base = head[-1](hidden)
        beyond = None if outside is None else functional.linear(hidden, *outside)
    mean = [state.mean(0) for state in states]
    scale = [state.std(0, correction=0) + 1e-3 * state.std() + 1e-6 for state in states]
    x = torch.cat([(s - m) / d for s, m, d in zip(states, mean, scale, strict=True)], 1)
    weight = torch.zeros(x.shape[1], labels - old, requires_grad=True)
    bias = torch.zeros(labels - old, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=_STEPS, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimiser.zero_grad()
        logits = torch.cat([base, x @ weight + bias], 1)
        loss = _loss(logits, beyond, samples.labels) + RIDGE * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    # On features and states as they come: (x - mean) / scale is moved into the rows.
    rows = weight.detach() / torch.cat(scale)[:, None]
    shift = bias.detach() - torch.cat(mean).double() @ rows.double()
    on_each = torch.split(rows.T, [state.shape[1] for state in states], 1)
    wide = _widened(head, on_each, shift.float())
    if outside is not None and len(head) > 1:  # it does not read the new hidden units
        more = wide.first.out_features - head.first.out_features
        outside = (functional.pad(outside[0], (0, more)), outside[1])
    return wide, outside


def _loss(logits: Tensor, outside: Tensor | None, labels: Tensor) -> Tensor:
    """Cross-entropy of logits (n, labels), with higher weights for rare classes.

    Samples out of scope belong to their own output (n, 1). Without one, their target is the uniform
    distribution over all labels (Hendrycks et al., ICLR 2019, with their weight 0.5).
    """
    inside, count = labels != OUT_OF_SCOPE, logits.shape[1]
    if bool(inside.all()) or outside is None:
        known = labels[inside]
        loss = functional.cross_entropy(logits[inside], known, class_weights(known, count))
        if not bool(inside.all()):
            loss = loss - 0.5 * functional.log_softmax(logits[~inside], -1).mean()
        return loss
    targets = torch.where(inside, labels, count)
    logits = torch.cat([logits, outside], 1)
    return functional.cross_entropy(logits, targets, class_weights(targets, count + 1))


def _outside_of(scorer: Scorer) -> Outside | None:
    """Weight (1, width) and bias (1,) of a head's output for samples out of scope."""
    if OUTSIDE not in scorer.parts:
        return None
    return scorer.get_buffer("outside"), scorer.get_buffer("outside_bias")


def _widened(head: RouterHead, rows: Sequence[Tensor], bias: Tensor) -> RouterHead:
    """The head with more outputs; the old ones do not change.

    Args:
        rows: weights of the new outputs on the features (m, hidden) and, for an MLP, on its own
            hidden states (m, MLP size).
    """
    last, m = head[-1], len(bias)
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        if len(head) == 1:
            new = build_router_head(head.hidden_size, last.out_features + m)
            new.first.weight.copy_(torch.cat([last.weight, rows[0]]))
            new.first.bias.copy_(torch.cat([last.bias, bias]))
            return new.eval()
        first, size = head.first, head.first.out_features
        new = build_router_head(head.hidden_size, last.out_features + m, size + 2 * m)
        end = new[-1]
        assert isinstance(end, nn.Linear)
        # GELU(z) - GELU(-z) is z: two hidden units carry a linear function of the features.
        new.first.weight.copy_(torch.cat([first.weight, rows[0], -rows[0]]))
        new.first.bias.copy_(torch.cat([first.bias, torch.zeros(2 * m)]))
        end.weight.zero_()
        end.weight[:-m, :size] = last.weight
        end.weight[-m:, :size] = rows[1]
        end.weight[-m:, size:] = torch.cat([torch.eye(m), -torch.eye(m)], 1)
        end.bias.copy_(torch.cat([last.bias, bias]))
    return new.eval()
