"""Label noise: samples whose features contradict their label.

Confident learning (Northcutt, Jiang and Chuang, JAIR 2021): a classifier that has not seen a sample
gives it probabilities. A class is confident of the sample if its probability exceeds the average of
that class over its own samples. A sample is suspect if the most confident class is not its own.
"""

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pointsman.data.dataset import SPLITS, Dataset, read_dataset
from pointsman.errors import MismatchError, PointsmanError, SampleError
from pointsman.files import read_object
from pointsman.findings import Finding
from pointsman.labels import OUT_OF_SCOPE
from pointsman.progress import Progress, no_progress
from pointsman.routing.feature_store import Features, read_features
from pointsman.sample import RoutingSample

FOLDS = 5
_STRENGTH = 0.1
"""Inverse of the regularisation: weaker regularisation would fit wrong labels too"""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Suspect(Finding):
    """A sample whose label may be wrong."""

    split: str
    row: int
    """Index in the split, from 0"""
    instruction: str
    given: str | None
    """The adapter that it is labelled with; None: out of scope"""
    suggested: str | None
    probability: float
    """Probability of the suggested label"""


def check_labels(
    path: str | Path, features_path: str | Path, progress: Progress | None = None
) -> list[Finding]:
    """Suspects of a dataset folder, found by its features; a failed search is a finding too.

    Args:
        progress: called with the number of feature places that are done.
    """
    path, features_path = Path(path), Path(features_path)
    try:
        dataset, features = read_dataset(path), read_features(features_path)
        made_of = read_object(features_path / "metadata.json").get("dataset_fingerprint")
        if made_of != dataset.fingerprint:
            raise MismatchError(
                "made of another dataset, or of this one before it was changed; "
                f"run `pointsman preprocess {path}` again"
            )
        return list(find_suspects(dataset, features, progress))
    except PointsmanError as error:
        reason = str(error).removeprefix(f"{features_path}: ")
        return [Finding("error", "features", str(features_path), f"labels not checked: {reason}")]


def find_suspects(
    dataset: Dataset, features: Features, progress: Progress | None = None
) -> list[Suspect]:
    """Samples of every split whose label may be wrong, the clearest first.

    Out of scope is a class too. Of all places in the base that the features come from, the one that
    separates the classes best is used. Samples of one picture are held out together.

    Args:
        features: features of this dataset, hence in its order.

    Raises:
        SampleError: a class has too few pictures to hold some out.
    """
    at = [(split, row) for split in SPLITS for row in range(len(dataset.splits[split]))]
    samples = [dataset.splits[split][row] for split, row in at]
    filled = [features.splits[split] for split in SPLITS if dataset.splits[split]]
    values = np.concatenate([part.numpy() for part, _ in filled])
    labels = np.concatenate([part.numpy() for _, part in filled])
    classes = np.unique(labels)
    if len(classes) < 2:
        raise SampleError("all samples have the same label; there is none to suggest")
    probabilities = _held_out(values, labels, samples, progress or no_progress)
    return [
        _suspect(dataset, *at[row], int(classes[suggested]), float(probabilities[row, suggested]))
        for row, suggested in _contradicted(probabilities, np.searchsorted(classes, labels))
    ]


def _contradicted(probabilities: Array, given: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Rows of probabilities (n, classes) that contradict their class (n,), and better classes."""
    count = probabilities.shape[1]
    thresholds = [probabilities[given == label, label].mean() for label in range(count)]
    confident = np.where(probabilities >= thresholds, probabilities, -1)
    best = confident.argmax(1)
    rows = np.flatnonzero((confident.max(1) >= 0) & (best != given))
    margin = probabilities[rows, best[rows]] - probabilities[rows, given[rows]]
    return [(int(row), int(best[row])) for row in rows[np.argsort(-margin, kind="stable")]]


def _held_out(
    values: Array,
    labels: NDArray[np.int64],
    samples: Sequence[RoutingSample],
    progress: Progress,
) -> Array:
    """Probabilities (n, classes) by classifiers that have not seen the sample.

    Args:
        values: (n, places, hidden) features.
    """
    shown = [sample.picture for sample in samples]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(shown))}
    groups = np.array([numbers[key] for key in shown])
    pictures = [len(np.unique(groups[labels == label])) for label in np.unique(labels)]
    folds = min(FOLDS, *pictures)
    if folds < 2:
        raise SampleError("a class has a single picture, which cannot be held out; add some")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    cuts = list(splitter.split(values, labels, groups))
    found = []
    for place in range(values.shape[1]):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=500))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # near enough for a suspicion
            found.append(
                cross_val_predict(model, values[:, place], labels, cv=cuts, method="predict_proba")
            )
        progress(place + 1, values.shape[1], "labels")
    return np.asarray(min(found, key=lambda probabilities: log_loss(labels, probabilities)))


def _suspect(dataset: Dataset, split: str, row: int, suggested: int, probability: float) -> Suspect:
    sample = dataset.splits[split][row]
    name = None if suggested == OUT_OF_SCOPE else dataset.labels.names[suggested]
    instruction = textwrap.shorten(sample.instruction, 60)
    return Suspect(
        level="warning",
        kind="label-noise",
        where=f"{dataset.path / split}.jsonl:{row + 1}",
        message=f"labelled {sample.adapter or 'out of scope'}, but its features say "
        f"{name or 'out of scope'} ({probability:.0%}): {instruction!r}",
        split=split,
        row=row,
        instruction=sample.instruction,
        given=sample.adapter,
        suggested=name,
        probability=probability,
    )
