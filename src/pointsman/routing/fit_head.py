"""Fits one head: its settings, its loss, and the standardisation that is folded into it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pointsman.errors import ConfigError
from pointsman.labels import OUT_OF_SCOPE
from pointsman.routing.head import RouterHead, build_router_head, without_last
from pointsman.routing.scores import mean_and_scale


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
) -> tuple[RouterHead, tuple[Tensor, Tensor] | None]:
    """A head on raw features (n, features), and an output for samples out of scope, if any.

    These samples are a class of their own during training, and a part of the score afterwards.

    Args:
        labels: (n,), -1 out of scope.
        watch: called with the step, the head and the loss of its batch.
    """
    has_outside = bool((labels == OUT_OF_SCOPE).any())
    count = classes + has_outside
    targets = torch.where(labels == OUT_OF_SCOPE, classes, labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        head = build_router_head(x.shape[1], count, mlp_size)
        mean, scale = mean_and_scale(x)
        scaled = (x - mean) / scale
        weights = class_weights(targets, count) if settings.class_weights else None
        optimiser = torch.optim.AdamW(
            head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, settings.learning_rate, total_steps=settings.steps
        )
        batches = _batches(len(x), settings)
        for step in range(settings.steps):
            rows = next(batches)
            loss = functional.cross_entropy(
                head(scaled[rows]), targets[rows], weights, label_smoothing=settings.smoothing
            )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if watch:
                watch(step, head, loss.detach())
    head = _folded(head.eval(), mean, scale)
    return without_last(head) if has_outside else (head, None)


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
