"""Training: a head on cached features, in seconds, with layer and shape picked by validation."""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from pointsman.calibrate import calibrate
from pointsman.errors import ArtefactError, ConfigError, MissingDependency, SampleError
from pointsman.features import Features, Place, read_features
from pointsman.head import RouterHead, build_router_head
from pointsman.labels import OUT_OF_SCOPE, LabelMap
from pointsman.router import Probes, Router

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainSettings:
    """How a head is trained.

    Raises:
        ConfigError: a value out of its range.
    """

    layers: tuple[int, ...] | None = None
    """Depths to choose from; by default every depth that the features hold."""
    mlp_sizes: tuple[int, ...] = (0, 128)
    """Head shapes to choose from; 0 is the linear head."""
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    steps: int = 600
    """Full-batch steps at most."""
    patience: int = 60
    """Steps without a lower validation loss after which training stops."""
    class_weights: bool = True
    """Weigh classes by the inverse of their frequency."""
    coverage: float = 0.95
    """Share of in-scope validation samples that the abstention threshold keeps."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "steps", "patience"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; give more than 0")
        if not self.weight_decay >= 0:
            raise ConfigError(f"weight_decay is {self.weight_decay}; give 0 or more")
        if not 0 < self.coverage <= 1:
            raise ConfigError(f"coverage is {self.coverage}; give more than 0 and at most 1")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed is {self.seed}; give 0 or more, below 2**63")
        if not self.mlp_sizes or min(self.mlp_sizes) < 0:
            raise ConfigError(f"mlp_sizes {self.mlp_sizes}: give sizes, 0 for the linear head")


class Log(Protocol):
    """What training needs of a TensorBoard ``SummaryWriter``."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...


@dataclass(frozen=True)
class _Candidate:
    place: Place
    mlp_size: int
    loss: float
    """Validation loss that it was chosen by, out-of-scope term included"""
    best_loss: float
    """Validation cross-entropy in scope"""
    best_acc: float
    head: RouterHead


def train_router(
    features: Path | Features,
    out: Path | None = None,
    *,
    adapter_names: Sequence[str] | None = None,
    settings: TrainSettings | None = None,
    log_dir: Path | None = None,
    progress: Progress | None = None,
) -> Router:
    """Trains heads on the features' places and keeps the one of least validation loss.

    Samples out of scope (-1) teach the head to spread its probability where no adapter fits
    (outlier exposure, Hendrycks et al., ICLR 2019); without any the term vanishes.

    Args:
        features: a features folder, or one already read.
        out: where to write the router folder; None writes nothing.
        adapter_names: must agree with the features' label map, which is what counts.
        log_dir: where to write TensorBoard curves.
        progress: called with (heads trained, heads in all).

    Raises:
        MismatchError: ``adapter_names`` contradict the features.
        SampleError: a class without training samples, or an empty split.
    """
    settings = settings or TrainSettings()
    if isinstance(features, Path):
        features = read_features(features)
    if adapter_names is not None:
        LabelMap(tuple(adapter_names)).check_same(
            features.labels,
            "--adapter-names",
            str(features.path),
            "leave the option out: the names are read from the features",
        )
    train, val = _split(features, "train"), _split(features, "val")
    layers = settings.layers or features.recipe.layers
    if missing := [layer for layer in layers if layer not in features.recipe.layers]:
        raise ConfigError(
            f"layer {missing[0]} is not among the features' {list(features.recipe.layers)}"
        )
    places = [place for place in features.recipe.places if place.layer in layers]
    shapes = [(place, size) for place in places for size in settings.mlp_sizes]
    candidates = []
    with _logging(log_dir) as log:
        for number, (place, mlp_size) in enumerate(shapes, 1):
            candidates.append(_fit(train, val, place, mlp_size, features, settings, log))
            if progress:
                progress(number, len(shapes))
    best = min(candidates, key=lambda candidate: candidate.loss)
    router = _seal(best, candidates, features, settings)
    if out is not None:
        router.save(out)
    return router


def _fit(
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    place: Place,
    mlp_size: int,
    features: Features,
    settings: TrainSettings,
    log: Log | None,
) -> _Candidate:
    at = features.recipe.places.index(place)
    tag = f"layer{place.layer}-{place.pooling}-mlp{mlp_size}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        head = build_router_head(features.hidden_size, len(features.labels), mlp_size)
        mean, scale = train[0][:, at].mean(0), train[0][:, at].std(0) + 1e-6
        x, x_val = (train[0][:, at] - mean) / scale, (val[0][:, at] - mean) / scale
        weights = class_weights(train[1], len(features.labels)) if settings.class_weights else None
        optimiser = torch.optim.AdamW(
            head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        lowest, since, kept = float("inf"), 0, head.state_dict()
        for step in range(settings.steps):
            head.train()
            optimiser.zero_grad()
            loss = router_loss(head(x), train[1], weights)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            head.eval()
            with torch.inference_mode():
                val_loss = float(router_loss(head(x_val), val[1], weights))
            if log:
                log.add_scalar(f"{tag}/train_loss", float(loss.detach()), step)
                log.add_scalar(f"{tag}/val_loss", val_loss, step)
            if val_loss < lowest:
                lowest, since, kept = val_loss, 0, copy.deepcopy(head.state_dict())
            else:
                since += 1
            if since >= settings.patience:
                break
        head.load_state_dict(kept)
    head = _folded(head.eval(), mean, scale)
    with torch.inference_mode():
        inside = val[1] != OUT_OF_SCOPE
        logits, labels = head(val[0][inside, at]), val[1][inside]
        cross_entropy = float(functional.cross_entropy(logits, labels))
        accuracy = float((logits.argmax(-1) == labels).float().mean())
    return _Candidate(place, mlp_size, lowest, cross_entropy, accuracy, head)


def router_loss(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Cross-entropy of logits (n, labels); samples out of scope are to be spread over labels."""
    inside = labels != OUT_OF_SCOPE
    loss = functional.cross_entropy(logits[inside], labels[inside], weights)
    if bool(inside.all()):
        return loss
    # Cross-entropy to the uniform distribution; 0.5 is the paper's weight.
    return loss - 0.5 * functional.log_softmax(logits[~inside], -1).mean()


def _folded(head: RouterHead, mean: Tensor, scale: Tensor) -> RouterHead:
    """The same head on raw features: (x - mean) / scale is moved into the first layer."""
    first = head.first
    with torch.no_grad():
        weight = first.weight / scale
        first.bias.copy_(first.bias - (weight.double() @ mean.double()).float())
        first.weight.copy_(weight)
    return head


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Inverse frequencies (classes,), such that samples in scope weigh 1 on average."""
    counts = torch.bincount(labels[labels != OUT_OF_SCOPE], minlength=classes).float()
    return counts.sum() / (classes * counts)


def _split(features: Features, split: str) -> tuple[Tensor, Tensor]:
    values, labels = features.splits.get(split, (torch.empty(0), torch.empty(0).long()))
    present = set(labels.tolist())
    if missing := [n for label, n in enumerate(features.labels) if label not in present]:
        raise SampleError(
            f"{features.path}: the {split} split has no sample of {missing[0]!r}; "
            "add some and run `pointsman data generate` and `pointsman preprocess` again"
        )
    if not bool(values.isfinite().all()):
        raise SampleError(f"{features.path}: the {split} features hold NaN or infinite values")
    return values, labels


def _seal(
    best: _Candidate, candidates: list[_Candidate], features: Features, settings: TrainSettings
) -> Router:
    at = features.recipe.places.index(best.place)
    val, val_labels = features.splits["val"]
    with torch.inference_mode():
        calibration = calibrate(best.head(val[:, at]), val_labels, settings.coverage)
        probes = Probes(features.probes[:, at], best.head(features.probes[:, at]))
    table = [
        {
            "layer": candidate.place.layer,
            "pooling": candidate.place.pooling,
            "mlp_size": candidate.mlp_size,
            "val_loss": candidate.best_loss,
            "val_acc": candidate.best_acc,
        }
        for candidate in candidates
    ]
    return Router(
        labels=features.labels,
        head=best.head,
        recipe=replace(features.recipe, layers=(best.place.layer,), poolings=(best.place.pooling,)),
        origin=features.origin,
        calibration=calibration,
        probes=probes,
        best_loss=best.best_loss,
        best_acc=best.best_acc,
        training={
            "seed": settings.seed,
            "n_train": len(features.splits["train"][1]),
            "n_val": len(val_labels),
            "settings": asdict(settings),
            "candidates": table,
        },
    )


def summary_writer(log_dir: Path) -> Any:
    """A TensorBoard ``SummaryWriter``.

    Raises:
        ArtefactError: ``log_dir`` cannot be written.
        MissingDependency: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingDependency(
            "--log-dir needs TensorBoard: pip install 'pointsman[tensorboard]'"
        ) from None
    try:
        return SummaryWriter(log_dir)
    except OSError as error:
        raise ArtefactError(
            f"{log_dir}: cannot be written ({error.strerror}); choose another --log-dir"
        ) from None


def _logging(log_dir: Path | None) -> AbstractContextManager[Any]:
    writer: AbstractContextManager[Any]
    writer = nullcontext() if log_dir is None else summary_writer(log_dir)
    return writer
