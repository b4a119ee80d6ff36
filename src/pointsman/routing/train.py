"""Training: a head on cached features, in seconds, with layer and shape chosen by validation."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from pointsman.data.dataset import TRAINED_ON, without_sample
from pointsman.errors import ConfigError, SampleError
from pointsman.files import write_bytes
from pointsman.labels import OUT_OF_SCOPE, LabelMap
from pointsman.models.features import FeatureRecipe
from pointsman.progress import Log, Progress, logging_to
from pointsman.routing.calibration import Calibration
from pointsman.routing.depth_plot import depth_png
from pointsman.routing.drift import spread_of
from pointsman.routing.feature_store import Features, check_finite, read_features
from pointsman.routing.fit_calibration import fit_temperature, with_label_sets
from pointsman.routing.fit_head import TrainSettings, fit_head
from pointsman.routing.fit_scores import fit_scorer, rescaled
from pointsman.routing.head import RouterHead
from pointsman.routing.model_selection import (
    LEFT_OUT,
    Candidate,
    accurate,
    aurocs_of,
    choose,
    recipes_of,
    select_features,
)
from pointsman.routing.router import Probes, Router, check_place
from pointsman.routing.scores import Parts, Scorer, mean_and_scale
from pointsman.routing.validate import Assembler, folds_of, validate

__all__ = ["TrainSettings", "train_router"]
DEPTHS = "depths.png"
"""The plot in the router's folder: accuracy over depth"""
LOGGED = 10
"""Steps between logged losses"""


def train_router(
    features: str | Path | Features,
    out: str | Path | None = None,
    *,
    adapter_names: Sequence[str] | None = None,
    free_depth: int = 0,
    settings: TrainSettings | None = None,
    log_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> Router:
    """Trains heads on a features folder, and keeps one by the one-standard-error rule.

    Samples out of scope (-1) add an output to the chosen head, which can only make it abstain more,
    see ``scores``. All else is chosen and calibrated on samples in scope. The figures that are
    sealed come from nested validation, see ``validate``.

    Args:
        features: a features folder, or one already read.
        out: where to write the router folder; None writes nothing.
        adapter_names: must agree with the label map of the features, which is the one that is used.
        free_depth: layers up to which routing costs nothing under the plan that the adapters allow,
            see ``engine.loading.free_depth_of``.
        settings: which heads are trained, and how; by default ``TrainSettings()``.
        log_dir: where to write TensorBoard curves.
        progress: called with (heads trained, total heads).

    Raises:
        ArtefactError: the features are incomplete, or ``out`` holds something else or cannot be
            written.
        ConfigError: the features lack a layer, or the prior is invalid.
        MismatchError: ``adapter_names`` contradict the features, or ``out`` holds a router with
            other labels.
        SampleError: a class has no training samples, or a split is empty.
    """
    settings = settings or TrainSettings()
    features = features if isinstance(features, Features) else read_features(features)
    _check_names(features, adapter_names)
    if out is not None:
        check_place(Path(out), features.labels)
    for split in TRAINED_ON:
        _check_split(features, split)
    recipes = recipes_of(features.recipe, _layers(features, settings))
    assembler = Assembler(features, settings, _log_prior(features, settings))
    with logging_to(None if log_dir is None else Path(log_dir)) as log:
        candidates = _candidates(recipes, features, settings, free_depth, log, progress)
    router = _seal(candidates, assembler, free_depth)
    if out is not None:
        router.save(out)
        tried = router.training
        write_bytes(Path(out) / DEPTHS, depth_png(tried["candidates"], tried["chosen"], free_depth))
    return router


def _check_names(features: Features, adapter_names: Sequence[str] | None) -> None:
    if adapter_names is not None:
        LabelMap(tuple(adapter_names)).check_same(
            features.labels,
            "--adapter-names",
            str(features.path),
            "leave the option out: the names are read from the features",
        )


def _layers(features: Features, settings: TrainSettings) -> tuple[int, ...]:
    """Depths to choose from. Raises ``ConfigError`` on one that the features lack."""
    stored = features.recipe.layers
    layers = settings.layers or stored
    if missing := [layer for layer in layers if layer not in stored]:
        raise ConfigError(f"layer {missing[0]} is not among the features' {list(stored)}")
    return layers


def _candidates(
    recipes: Sequence[FeatureRecipe],
    features: Features,
    settings: TrainSettings,
    free: int,
    log: Log | None,
    progress: Progress | None,
) -> list[Candidate]:
    """A trained head for each recipe and shape, with its validation results."""
    shapes = [(recipe, size) for recipe in recipes for size in settings.mlp_sizes]
    found: list[Candidate] = []
    for number, (recipe, mlp_size) in enumerate(shapes, 1):
        found.append(_train_candidate(recipe, mlp_size, features, settings, free, log))
        if progress:
            progress(number, len(shapes))
    if len(features.labels) < LEFT_OUT:
        return found
    # Each of these may be chosen, with all of validation or without a fold of it.
    choosers = [None, *(fold.chooses for fold in folds_of(features.splits["val"][1]))]
    left = {id(candidate) for rows in choosers for candidate, _ in accurate(found, rows)}
    return [_holdout_candidate(c, features, settings) if id(c) in left else c for c in found]


def _train_candidate(
    recipe: FeatureRecipe,
    mlp_size: int,
    features: Features,
    settings: TrainSettings,
    free: int,
    log: Log | None,
) -> Candidate:
    values, labels = features.splits["train"]
    val, val_labels = features.splits["val"]
    x, x_val = (select_features(recipe, features.recipe, v) for v in (values, val))
    inside = labels != OUT_OF_SCOPE
    x, labels = x[inside], labels[inside]
    inside = val_labels != OUT_OF_SCOPE
    x_val, val_labels = x_val[inside], val_labels[inside]
    classes, depths = len(features.labels), "+".join(map(str, recipe.layers))
    tag = f"layer{depths}-{'+'.join(recipe.poolings)}-mlp{mlp_size}"
    mean, scale = mean_and_scale(x)

    def watch(step: int, head: RouterHead, loss: Tensor) -> None:
        if log and step % LOGGED == 0:
            head.eval()
            with torch.inference_mode():
                logits = head((x_val - mean) / scale)
            head.train()
            val_loss = functional.cross_entropy(logits, val_labels)
            log.add_scalar(f"{tag}/train_loss", float(loss), step)
            log.add_scalar(f"{tag}/val_loss", float(val_loss), step)

    head = fit_head(x, labels, classes, mlp_size, settings, watch)
    with torch.inference_mode():
        logits = head(x_val)
    cost = recipe.layers[-1] / features.depth if recipe.layers[-1] > free else 0.0
    return Candidate(recipe, mlp_size, head, logits.clone(), val_labels, cost)


def _holdout_candidate(
    candidate: Candidate, features: Features, settings: TrainSettings
) -> Candidate:
    """The candidate with the AUROC of each score against classes that were left out.

    A third of the classes at a time is left out of a head like the candidate's. Their validation
    samples stand for requests that are out of scope and yet similar.
    """
    classes = len(features.labels)
    temperature = fit_temperature(candidate.logits, candidate.truth)
    sums: dict[Parts, float] = {}
    for fold in range(LEFT_OUT):
        kept = torch.arange(classes) % LEFT_OUT != fold
        number = torch.where(kept, kept.cumsum(0) - 1, OUT_OF_SCOPE)
        (x, labels), val = (
            (select_features(candidate.recipe, features.recipe, values[y >= 0]), number[y[y >= 0]])
            for values, y in (features.splits["train"], features.splits["val"])
        )
        x, labels = x[labels >= 0], labels[labels >= 0]
        head = fit_head(x, labels, int(kept.sum()), candidate.mlp_size, settings)
        scorer = rescaled(fit_scorer(temperature, (x, labels), settings.seed), head, val)
        for parts, auroc in aurocs_of(scorer, head, val).items():
            sums[parts] = sums.get(parts, 0.0) + auroc / LEFT_OUT
    return replace(candidate, left_out=sums)


def _check_split(features: Features, split: str) -> None:
    values, labels = features.splits.get(split, (torch.empty(0), torch.empty(0).long()))
    if missing := without_sample(features.labels, set(labels.tolist())):
        raise SampleError(
            f"{features.path}: the {split} split has no sample of {missing[0]!r}; "
            "add some and run `pointsman data generate` and `pointsman preprocess` again"
        )
    check_finite(values, features.path, split)


def _seal(candidates: list[Candidate], assembler: Assembler, free: int) -> Router:
    features, settings = assembler.features, assembler.settings
    best, why = choose(candidates)
    if free:
        why += f"; with these adapters up to {free} layers cost nothing"
    head, scorer, calibration = assembler.assemble(best)
    validated = validate(candidates, assembler)
    if settings.conformal is not None:
        calibration = with_label_sets(calibration, validated.probability, settings.conformal)
    probes = select_features(best.recipe, features.recipe, features.probes)
    with torch.inference_mode():
        expected = Probes(probes, *scorer(head, probes))
    return Router(
        labels=features.labels,
        head=head,
        scorer=scorer,
        recipe=best.recipe,
        origin=features.origin,
        calibration=calibration,
        probes=expected,
        best_loss=validated.loss,
        best_acc=float(validated.right.float().mean()),
        training={
            "seed": settings.seed,
            "n_train": len(features.splits["train"][1]),
            "n_val": len(features.splits["val"][1]),
            "settings": asdict(settings),
            "candidates": [candidate.to_json() for candidate in candidates],
            "chosen": candidates.index(best),
            "free_depth": free,
            "why": why,
            "validated": validated.to_json(),
            "spreads": _spreads(assembler.values(best, "val"), head, scorer, calibration),
        },
    )


def _spreads(
    val: tuple[Tensor, Tensor], head: RouterHead, scorer: Scorer, calibration: Calibration
) -> dict[str, list[float]]:
    """How the decisions on validation in scope are spread, so that drift is seen; see ``drift``."""
    values, labels = val
    with torch.inference_mode():
        evidence = scorer(head, values[labels != OUT_OF_SCOPE])
    routed = evidence.scores >= calibration.threshold
    confidence = calibration.probabilities(evidence.logits).amax(-1)
    return {
        "confidence": spread_of(confidence[routed]),
        "score": spread_of(evidence.scores[routed]),
    }


def _log_prior(features: Features, settings: TrainSettings) -> tuple[float, ...]:
    """The shift of the logits for the stated prior; empty if none is stated.

    The head has learnt the prior of its training, which is uniform with class weights.
    """
    if not settings.prior:
        return ()
    names, stated = list(features.labels), dict(settings.prior)
    for name in stated:
        features.labels.label(name)  # raises; the message lists the known names
    rest = 1 - sum(stated.values())
    others = len(names) - len(stated)
    if not (rest > 1e-9 if others else abs(rest) <= 1e-9):
        raise ConfigError(
            f"--prior: {sum(stated.values()):g} in all leaves {rest:g} to {others} other adapters; "
            "give shares that add up to 1, or leave some to the others"
        )
    labels = features.splits["train"][1]
    counts = torch.bincount(labels[labels != OUT_OF_SCOPE], minlength=len(names)).double()
    trained = (
        torch.full_like(counts, 1 / len(names)) if settings.class_weights else counts / counts.sum()
    )
    wanted = [stated.get(name, rest / max(1, others)) for name in names]
    return tuple((torch.tensor(wanted).double() / trained).log().tolist())
