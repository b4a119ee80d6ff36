"""Fits one head: its settings, its loss, and the standardisation that is folded into it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pointsman.errors import ConfigError
from pointsman.labels import OUT_OF_SCOPE
from pointsman.routing.head import RouterHead, build_router_head
from pointsman.routing.scores import Outside, mean_and_scale


@dataclass(frozen=True)
class TrainSettings:
    """How a head is trained.

    Raises:
        ConfigError: a value is out of range.
    """

    layers: tuple[int, ...] | None = None
    """Depths to choose from; by default every depth in the features."""
    mlp_sizes: tuple[int, ...] = (0, 256)
    """Head shapes to choose from; 0 is the linear head."""
    learning_rate: float = 1e-2
    """Peak learning rate, reached after about a third of the steps"""
    weight_decay: float = 0.6
    smoothing: float = 0.1
    """Label smoothing of the targets (Szegedy et al., CVPR 2016)"""
    batch_size: int = 512
    steps: int = 600
    class_weights: bool = True
    """Weigh classes by the inverse of their frequency."""
    coverage: float = 0.95
    """Minimum share of in-scope validation samples that the abstention threshold keeps."""
    conformal: float | None = None
    """Share of in-scope requests whose label set contains the right label; None: no label sets."""
    prior: tuple[tuple[str, float], ...] = ()
    """Known share of requests per adapter; the other adapters share the rest evenly."""
    seed: int = 0

    def __post_init__(self) -> None:
        conformal = 0.5 if self.conformal is None else self.conformal
        share = "more than 0 and at most 1"
        ranges = [
            ("learning_rate", self.learning_rate, self.learning_rate > 0, "more than 0"),
            ("steps", self.steps, self.steps > 0, "more than 0"),
            ("batch_size", self.batch_size, self.batch_size > 0, "more than 0"),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more"),
            ("coverage", self.coverage, 0 < self.coverage <= 1, share),
            ("smoothing", self.smoothing, 0 <= self.smoothing < 1, "0 or more, below 1"),
            ("conformal", conformal, 0 < conformal < 1, "more than 0 and less than 1"),
            *((f"prior of {name}", p, 0 < p <= 1, share) for name, p in self.prior),
            ("seed", self.seed, 0 <= self.seed < 2**63, "0 or more, below 2**63"),
        ]
        for name, value, is_right, hint in ranges:
            if not is_right:
                raise ConfigError(f"{name} is {value}; give {hint}")
        if not self.mlp_sizes or min(self.mlp_sizes) < 0:
            raise ConfigError(f"mlp_sizes {self.mlp_sizes}: give sizes, 0 for the linear head")


def fit_head(
    x: Tensor,
    labels: Tensor,
    classes: int,
    mlp_size: int,
    settings: TrainSettings,
    watch: Callable[[int, RouterHead, Tensor], None] | None = None,
) -> RouterHead:
    """A head on raw features (n, features) of samples in scope, with labels (n,).

    Args:
        watch: called with the step, the head and the loss of its batch.
    """
    return _fitted(x, labels, None, classes, mlp_size, settings, watch)


def fit_outside(
    head: RouterHead, x: Tensor, labels: Tensor, settings: TrainSettings
) -> tuple[RouterHead, Outside]:
    """Adds an output for samples out of scope to a head, whose logits stay as they are.

    The output is fitted as one more class beside the fixed logits. It has a hidden layer of its own
    if the head has one.

    Args:
        x, labels: raw features (n, features) and labels (n,), -1 out of scope.

    Returns:
        The head, with more hidden units that its logits do not read, and the output on them.
    """
    with torch.inference_mode():
        known = head(x)
    size = head.first.out_features if len(head) > 1 else 0
    own = _fitted(x, labels, known.clone(), 1, size, settings, None)
    return _beside(head, own)


def _fitted(
    x: Tensor,
    labels: Tensor,
    known: Tensor | None,
    outputs: int,
    mlp_size: int,
    settings: TrainSettings,
    watch: Callable[[int, RouterHead, Tensor], None] | None,
) -> RouterHead:
    """A head with ``outputs``, trained beside fixed logits (n, known) if there are some."""
    classes = outputs if known is None else known.shape[1] + outputs
    targets = torch.where(labels == OUT_OF_SCOPE, classes - 1, labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        head = build_router_head(x.shape[1], outputs, mlp_size)
        mean, scale = mean_and_scale(x)
        scaled = (x - mean) / scale
        weights = class_weights(targets, classes) if settings.class_weights else None
        optimiser = torch.optim.AdamW(
            head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, settings.learning_rate, total_steps=settings.steps
        )
        batches = _batches(len(x), settings)
        for step in range(settings.steps):
            rows = next(batches)
            logits = head(scaled[rows])
            if known is not None:
                logits = torch.cat([known[rows], logits], 1)
            loss = functional.cross_entropy(
                logits, targets[rows], weights, label_smoothing=settings.smoothing
            )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if watch:
                watch(step, head, loss.detach())
    return _folded(head.eval(), mean, scale)


def _beside(head: RouterHead, own: RouterHead) -> tuple[RouterHead, Outside]:
    """Puts the hidden units of ``own``, a head with one output, beside those of ``head``."""
    last, end = head[-1], own[-1]
    assert isinstance(last, nn.Linear)
    assert isinstance(end, nn.Linear)
    weight, bias = end.weight.detach(), end.bias.detach()
    if len(head) == 1:
        return head, (weight, bias)
    size = head.first.out_features
    both = build_router_head(head.hidden_size, last.out_features, size + own.first.out_features)
    into = both[-1]
    assert isinstance(into, nn.Linear)
    with torch.no_grad():
        both.first.weight.copy_(torch.cat([head.first.weight, own.first.weight]))
        both.first.bias.copy_(torch.cat([head.first.bias, own.first.bias]))
        into.weight.zero_()
        into.weight[:, :size] = last.weight
        into.bias.copy_(last.bias)
    return both.eval(), (functional.pad(weight, (size, 0)), bias)


def _batches(n: int, settings: TrainSettings) -> Iterator[Tensor]:
    """Yields the rows of each batch; every sample occurs once before any is repeated."""
    while True:
        yield from torch.split(torch.randperm(n), settings.batch_size)


def _folded(head: RouterHead, mean: Tensor, scale: Tensor) -> RouterHead:
    """The same head on raw features: (x - mean) / scale is moved into the first layer."""
    first = head.first
    with torch.no_grad():
        weight = first.weight / scale
        first.bias.copy_(first.bias - (weight.double() @ mean.double()).float())
        first.weight.copy_(weight)
    return head


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Weights (classes,) inverse to the frequency of labels, 1 on average over the samples."""
    counts = torch.bincount(labels, minlength=classes).float()
    return counts.sum() / (classes * counts)
