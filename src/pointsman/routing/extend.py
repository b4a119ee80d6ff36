"""Growing a router: adapters are appended to one that is trained, from few samples of each.

What the head gives for the old labels stays as it is, to rounding: only rows for the new ones are
added. So an old sample can be lost to a new adapter, and to nothing else; how many are is measured
on old validation samples and sealed with the router.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from pointsman.errors import ConfigError, MismatchError, SampleError
from pointsman.labels import OUT_OF_SCOPE, LabelMap
from pointsman.progress import Progress, no_progress
from pointsman.routing.extend_head import Samples, extended_head
from pointsman.routing.feature_store import Features, check_finite, read_features
from pointsman.routing.fit_calibration import calibrate
from pointsman.routing.fit_scores import fit_scorer
from pointsman.routing.model_selection import best_parts, select_features
from pointsman.routing.router import Probes, Router, check_place
from pointsman.routing.scores import Evidence, Parts
from pointsman.routing.train import TrainSettings

REPLAYED = 500
"""Old training samples of each label that take part; more only cost time"""
FOLDS = 5


@dataclass(frozen=True)
class Change:
    """What growing did to one adapter, on validation samples (new adapters: out of fold)."""

    adapter: str
    samples: int
    right_before: float | None
    """Share whose top label is right; None for a new adapter"""
    right: float
    routed_before: float | None
    """Share that is right and not abstained on"""
    routed: float


def extend_router(
    router: str | Path | Router,
    features: str | Path | Features,
    out: str | Path | None = None,
    *,
    replay: str | Path | Features | None = None,
    coverage: float | None = None,
    progress: Progress | None = None,
) -> Router:
    """Appends one or more adapters to a router, from as few as 10 samples of each.

    A new row is a logistic regression on the features and on the head's own hidden states, with the
    old logits as they are. Old samples of the replay stand against it. The score by which the
    router abstains is refitted. All samples of the new adapters in ``features`` but
    those of the test split are fitted on; what calibration sees of them is cross-validated.

    Args:
        features: samples of the new adapters. Its label map is either the new names alone, or the
            router's with the new ones appended.
        out: where to write the router folder; None writes nothing.
        replay: features of the old labels, such as those that the router was trained on; needed if
            ``features`` has none of them.
        coverage: share of validation samples in scope that is not abstained on; by default the
            router's.
        progress: called with (folds of cross-validation done, folds in all).

    Returns:
        The extended router; ``training["extended"][-1]["changes"]`` has a ``Change`` of each
        adapter.

    Raises:
        ArtefactError: no complete router or features, or ``out`` holds something else or cannot be
            written.
        MismatchError: features of another base or place, or labels that are renamed or reordered,
            or a router of other labels in ``out``.
        ConfigError: no replay where one is needed, one where none is, or an impossible coverage.
        SampleError: a new adapter with fewer than 2 samples, or an old one with none.
    """
    router = router if isinstance(router, Router) else Router.load(router)
    features = features if isinstance(features, Features) else read_features(features)
    if replay is not None and not isinstance(replay, Features):
        replay = read_features(replay)
    if coverage is None:
        coverage = router.calibration.coverage
    TrainSettings(coverage=coverage)  # refuses one that cannot be
    labels = _extended(router.labels, features.labels, features.path)
    if out is not None:
        check_place(Path(out), labels)
    new, train, val = _gathered(router, labels, features, replay)
    grown = _grown(router, labels, train, new, val)
    judged = val.joined(new)
    evidence = _evidence(router, grown, train, new, val, progress or no_progress)
    calibration = calibrate(
        evidence,
        judged.labels,
        coverage,
        log_prior=_extended_prior(router.calibration.log_prior, len(labels)),
        conformal=router.calibration.conformal,
    )
    inside = judged.labels != OUT_OF_SCOPE
    logits, truth = evidence.logits[inside], judged.labels[inside]
    grown = replace(
        grown,
        calibration=calibration,
        best_loss=float(functional.cross_entropy(logits, truth)),
        best_acc=float((logits.argmax(-1) == truth).float().mean()),
    )
    record = {
        "adapters": list(labels)[len(router.labels) :],
        "n_replayed": len(train.labels),
        "changes": [asdict(change) for change in _changes(router, grown, evidence, judged)],
    }
    earlier = router.training.get("extended", [])
    grown = replace(grown, training=router.training | {"extended": [*earlier, record]})
    if out is not None:
        grown.save(out)
    return grown


def _extended(old: LabelMap, found: LabelMap, where: Path) -> LabelMap:
    """The router's labels with those of the new features appended."""
    if found.names[: len(old)] == old.names and len(found) > len(old):
        return found
    if known := [name for name in found if name in old.names]:
        raise MismatchError(
            f"{where} has the labels {found}, the router {old}; labels are only appended: give "
            f"features of the new adapters alone, or of all in the router's order ({known[0]!r} is "
            "known already)"
        )
    return old.extended(found.names)


def _gathered(
    router: Router, labels: LabelMap, features: Features, replay: Features | None
) -> tuple[Samples, Samples, Samples]:
    """Samples of the new labels, and old ones to fit against and to judge by."""
    old = len(router.labels)
    has_old = len(features.labels) == len(labels)
    _check_replay(router, features, replay, has_old)
    shift = 0 if has_old else old
    train, val = (_samples(features, split, router, shift) for split in ("train", "val"))
    both = train.joined(val)
    new = both.where(both.labels >= old)
    if replay is not None:
        elsewhere = train.where(train.labels == OUT_OF_SCOPE)
        train, val = (_samples(replay, split, router, 0) for split in ("train", "val"))
        train = train.joined(elsewhere)
    train, val = (part.where(part.labels < old) for part in (train, val))
    _check(labels, old, new, train, val)
    return new, train.where(_first_of_each(train.labels, REPLAYED)), val


def _check_replay(
    router: Router, features: Features, replay: Features | None, has_old: bool
) -> None:
    if has_old and replay is not None:
        raise ConfigError(f"{features.path}: holds the old labels itself; leave --replay out")
    if not has_old and replay is None:
        raise ConfigError(
            f"{features.path}: holds no samples of {router.labels}, which new rows are fitted "
            "against; give features of them, such as the router was trained on, as --replay"
        )
    if replay is not None:
        replay.labels.check_same(
            router.labels, str(replay.path), "the router", "give features of its labels"
        )


def _samples(features: Features, split: str, router: Router, shift: int) -> Samples:
    """One split where the router reads it, its labels (but -1) shifted."""
    router.origin.fingerprint.check_same(
        features.origin.fingerprint,
        f"what the router reads with ({router.origin.base_model_id})",
        f"what made {features.path}",
        "preprocess with the router's own",
    )
    if features.recipe.history != router.recipe.history:
        raise MismatchError(
            f"{features.path}: was made with history {features.recipe.history!r}, the router reads "
            f"{router.recipe.history!r}; preprocess with that history"
        )
    stored = features.recipe.places
    if missing := [place for place in router.recipe.places if place not in stored]:
        raise MismatchError(
            f"{features.path}: holds {', '.join(map(str, stored))} but the router reads "
            f"{missing[0]}; preprocess that place too"
        )
    values, labels = features.splits.get(split, (torch.empty(0), torch.empty(0)))
    if not len(labels):
        none = torch.empty(0, router.head.hidden_size)
        return Samples(none, torch.empty(0, dtype=torch.long))
    values = select_features(router.recipe, features.recipe, values)
    check_finite(values, features.path, split)
    return Samples(values, torch.where(labels == OUT_OF_SCOPE, labels, labels + shift))


def _check(labels: LabelMap, old: int, new: Samples, train: Samples, val: Samples) -> None:
    for label, name in enumerate(labels):
        for part, split, least in (
            ((new, "train and val", 2),) if label >= old else ((train, "train", 1), (val, "val", 1))
        ):
            if (found := int((part.labels == label).sum())) < least:
                raise SampleError(
                    f"{name}: {found} samples in {split}, at least {least} needed; add some and "
                    "run `pointsman data generate` and `pointsman preprocess` again"
                )


def _first_of_each(labels: Tensor, most: int) -> Tensor:
    """Rows of at most so many samples of each label."""
    rows = [(labels == label).nonzero()[:most, 0] for label in sorted(set(labels.tolist()))]
    return torch.cat(rows).sort().values


def _grown(
    router: Router,
    labels: LabelMap,
    train: Samples,
    new: Samples,
    val: Samples,
    parts: Parts | None = None,
) -> Router:
    """The router with rows and a score for all labels, not yet calibrated.

    Args:
        parts: of the score; by default chosen as ``train_router`` does where samples out of scope
            tell which are best, else as they are.
    """
    head, outside = extended_head(router, train.joined(new), len(labels))
    scorer = fit_scorer(
        head, outside, router.calibration.temperature, train.joined(new), val.joined(new)
    )
    if parts is None:
        parts = router.scorer.parts
        if bool((val.labels == OUT_OF_SCOPE).any()):
            parts, _ = best_parts(scorer, head, val.joined(new))
    scorer = scorer.only(parts)
    with torch.inference_mode():
        probes = Probes(router.probes.features, *scorer(head, router.probes.features))
    return replace(router, labels=labels, head=head, scorer=scorer, probes=probes)


def _extended_prior(log_prior: tuple[float, ...], labels: int) -> tuple[float, ...]:
    """A prior that was stated stays; of new labels none was."""
    return (*log_prior, *[0.0] * (labels - len(log_prior))) if log_prior else ()


def _evidence(
    router: Router,
    grown: Router,
    train: Samples,
    new: Samples,
    val: Samples,
    progress: Progress,
) -> Evidence:
    """On validation and new samples, each of the new ones by a router that was grown without it."""
    with torch.inference_mode():
        known = grown.read(val.features)
    logits = torch.empty(len(new.labels), len(grown.labels))
    scores = torch.empty(len(new.labels))
    folds = torch.empty_like(new.labels)
    for label in set(new.labels.tolist()):
        rows = new.labels == label
        folds[rows] = torch.arange(int(rows.sum())) % FOLDS
    numbers = sorted(set(folds.tolist()))
    for done, fold in enumerate(numbers, 1):
        held = folds == fold
        without = _grown(router, grown.labels, train, new.where(~held), val, grown.scorer.parts)
        with torch.inference_mode():
            logits[held], scores[held] = without.read(new.features[held])
        progress(done, len(numbers))
    return Evidence(torch.cat([known.logits, logits]), torch.cat([known.scores, scores]))


def _changes(before: Router, after: Router, evidence: Evidence, judged: Samples) -> list[Change]:
    """What became of every adapter; ``evidence`` is that of after."""
    truth = judged.labels
    with torch.inference_mode():
        old = before.read(judged.features)
    hits = (
        old.logits.argmax(-1) == truth,
        evidence.logits.argmax(-1) == truth,
        before.labels_of(old) == truth,
        after.labels_of(evidence) == truth,
    )
    changes = []
    for label, name in enumerate(after.labels):
        rows = truth == label
        right_before, right, routed_before, routed = (
            float(hit[rows].float().mean()) for hit in hits
        )
        is_new = label >= len(before.labels)
        changes.append(
            Change(
                adapter=name,
                samples=int(rows.sum()),
                right_before=None if is_new else right_before,
                right=right,
                routed_before=None if is_new else routed_before,
                routed=routed,
            )
        )
    return changes
