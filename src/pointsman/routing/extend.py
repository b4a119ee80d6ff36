"""Extending a router: appends adapters to a trained router, from few samples of each.

The head's logits for the old labels do not change, except for rounding: only rows for the new
labels are added. An old sample can therefore be lost only to a new adapter. How many are lost is
measured on old validation samples and sealed with the router.
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
from pointsman.routing.fit_calibration import calibrate, just_below, with_label_sets
from pointsman.routing.fit_scores import fit_scorer
from pointsman.routing.model_selection import select_features
from pointsman.routing.router import Probes, Router, check_place
from pointsman.routing.scores import OUTSIDE, Evidence
from pointsman.routing.train import TrainSettings

REPLAYED = 500
"""Maximum number of old training samples per label; more only cost time"""
FOLDS = 5


@dataclass(frozen=True)
class Change:
    """The effect of an extension on one adapter, on validation samples (new ones: out of fold)."""

    adapter: str
    samples: int
    right_before: float | None
    """Share of samples with the right top label; None for a new adapter"""
    right: float
    routed_before: float | None
    """Share of samples that are right and not abstained on"""
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
    old logits fixed. It is fitted against old samples from the replay. The score that decides
    abstention is refitted, on its old scale. Its threshold moves so that as many validation samples
    out of scope are rejected as before or, without any, so that as many old ones in scope are kept.
    All samples of the new adapters in ``features`` are used for fitting, except the test split;
    calibration uses cross-validated outputs for them.

    Args:
        features: samples of the new adapters. Its label map is either the new names alone, or the
            router's labels with the new ones appended.
        out: where to write the router folder; None writes nothing.
        replay: features of the old labels, such as those that the router was trained on; required
            if ``features`` has none of them.
        coverage: share of in-scope validation samples that the threshold keeps, in place of the
            rule above.
        progress: called with (cross-validation folds done, total folds).

    Returns:
        The extended router; ``training["extended"][-1]["changes"]`` has a ``Change`` for each
        adapter.

    Raises:
        ArtefactError: the router or the features are incomplete, or ``out`` holds something else
            or cannot be written.
        MismatchError: the features are from another base or place, labels are renamed or
            reordered, or ``out`` holds a router with other labels.
        ConfigError: a replay is missing or not needed, or the coverage is out of range.
        SampleError: a new adapter has fewer than 2 samples, or an old one has none.
    """
    router = router if isinstance(router, Router) else Router.load(router)
    features = features if isinstance(features, Features) else read_features(features)
    if replay is not None and not isinstance(replay, Features):
        replay = read_features(replay)
    if coverage is not None:
        TrainSettings(coverage=coverage)  # raises if it is out of range
    labels = _extended(router.labels, features.labels, features.path)
    if out is not None:
        check_place(Path(out), labels)
    new, train, val = _gathered(router, labels, features, replay)
    grown = _grown(router, labels, train, new)
    judged = val.joined(new)
    evidence = _evidence(router, grown, train, new, val, progress or no_progress)
    with torch.inference_mode():
        before = router.read(judged.features)
    inside = judged.labels != OUT_OF_SCOPE
    calibration = calibrate(
        evidence,
        judged.labels,
        router.calibration.coverage if coverage is None else coverage,
        log_prior=_extended_prior(router.calibration.log_prior, len(labels)),
    )
    if coverage is None:
        threshold = _held_threshold(router, before, evidence, val.labels)
        kept = float((evidence.scores[inside] >= threshold).float().mean())
        calibration = replace(calibration, threshold=threshold, coverage=max(kept, 1e-6))
    logits, truth = evidence.logits[inside], judged.labels[inside]
    if router.calibration.conformal is not None:
        right = calibration.probabilities(logits).gather(1, truth[:, None])[:, 0]
        calibration = with_label_sets(calibration, right, router.calibration.conformal)
    grown = replace(
        grown,
        calibration=calibration,
        best_loss=float(functional.cross_entropy(logits, truth)),
        best_acc=float((logits.argmax(-1) == truth).float().mean()),
    )
    record = {
        "adapters": list(labels)[len(router.labels) :],
        "n_replayed": len(train.labels),
        "changes": [
            asdict(change) for change in _changes(router, grown, before, evidence, judged.labels)
        ],
        "rejected": _rejected(router, grown, before, evidence, judged.labels),
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
    """Samples of the new labels, and old samples for fitting and evaluation."""
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
    """One split at the places that the router reads, its labels (except -1) shifted."""
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
    # The same files in another dtype make other features.
    probes = select_features(router.recipe, features.recipe, features.probes)
    router.check_probes(
        probes.view(len(probes), len(router.recipe.places), -1),
        f"{features.path}: has",
        "or preprocess again",
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
    """Rows of at most this many samples of each label."""
    rows = [(labels == label).nonzero()[:most, 0] for label in sorted(set(labels.tolist()))]
    return torch.cat(rows).sort().values


def _grown(router: Router, labels: LabelMap, train: Samples, new: Samples) -> Router:
    """The router with rows and a score for all labels, not yet calibrated.

    The score's parts, their scale and the veto stay, so that its values mean what they did.
    """
    head, outside = extended_head(router, train.joined(new), len(labels))
    temperature, old = router.calibration.temperature, router.scorer
    scorer = fit_scorer(temperature, train.joined(new))
    scorer = scorer.only(tuple(part for part in old.parts if part != OUTSIDE))
    shift, scale = old.get_buffer("shift"), old.get_buffer("scale")
    scorer.register_buffer("shift", shift[: len(scorer.parts)])
    scorer.register_buffer("scale", scale[: len(scorer.parts)])
    if outside is not None:
        scorer = scorer.with_veto(outside, float(shift[-1]), float(scale[-1]))
    with torch.inference_mode():
        probes = Probes(router.probes.features, *scorer(head, router.probes.features))
    return replace(router, labels=labels, head=head, scorer=scorer, probes=probes)


def _held_threshold(router: Router, before: Evidence, after: Evidence, old: Tensor) -> float:
    """The threshold that rejects as many old validation samples as the router does.

    Those out of scope count or, without any, those in scope.

    Args:
        before, after: what the router and the extended one make of samples, the old ones first.
        old: labels (n,) of the old ones.
    """
    outside = old == OUT_OF_SCOPE
    judged = outside if bool(outside.any()) else ~outside
    known, scores = (evidence.scores[: len(old)] for evidence in (before, after))
    rejected = int((known[judged] < router.calibration.threshold).sum())
    highest = float(scores[judged].sort().values[max(0, rejected - 1)])
    if rejected:
        return -just_below(-highest, -scores)
    return just_below(highest, scores)


def _extended_prior(log_prior: tuple[float, ...], labels: int) -> tuple[float, ...]:
    """Keeps a stated prior; the new labels have none."""
    return (*log_prior, *[0.0] * (labels - len(log_prior))) if log_prior else ()


def _evidence(
    router: Router,
    grown: Router,
    train: Samples,
    new: Samples,
    val: Samples,
    progress: Progress,
) -> Evidence:
    """Evidence on validation and new samples; each new one is held out of the router's fit."""
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
        without = _grown(router, grown.labels, train, new.where(~held))
        with torch.inference_mode():
            logits[held], scores[held] = without.read(new.features[held])
        progress(done, len(numbers))
    return Evidence(torch.cat([known.logits, logits]), torch.cat([known.scores, scores]))


def _changes(
    router: Router, grown: Router, before: Evidence, after: Evidence, truth: Tensor
) -> list[Change]:
    """The change of every adapter.

    Args:
        before, after: what the router and the extended one make of samples with labels ``truth``.
    """
    hits = (
        before.logits.argmax(-1) == truth,
        after.logits.argmax(-1) == truth,
        router.labels_of(before) == truth,
        grown.labels_of(after) == truth,
    )
    changes = []
    for label, name in enumerate(grown.labels):
        rows = truth == label
        right_before, right, routed_before, routed = (
            float(hit[rows].float().mean()) for hit in hits
        )
        is_new = label >= len(router.labels)
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


def _rejected(
    router: Router, grown: Router, before: Evidence, after: Evidence, truth: Tensor
) -> dict[str, float | int] | None:
    """The share of samples out of scope that are abstained on; None without any."""
    outside = truth == OUT_OF_SCOPE
    if not bool(outside.any()):
        return None
    old, new = (
        float((labels[outside] == OUT_OF_SCOPE).float().mean())
        for labels in (router.labels_of(before), grown.labels_of(after))
    )
    return {"samples": int(outside.sum()), "before": old, "after": new}
