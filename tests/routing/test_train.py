import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pointsman.engine.loading import free_depth_of
from pointsman.errors import ArtefactError, ConfigError, LabelError, MismatchError, SampleError
from pointsman.labels import LabelMap
from pointsman.models.base import Base
from pointsman.models.features import FeatureRecipe
from pointsman.routing.feature_store import Features
from pointsman.routing.model_selection import select_features
from pointsman.routing.router import Router
from pointsman.routing.train import TrainSettings, train_router
from support.engines import make_adapters_for

SHORT = TrainSettings(steps=100)
"""Enough steps for classes that are as far apart as these"""


def made(features: Features, signal_at: int, *, seed: int = 0, out_of_scope: int = 0) -> Features:
    """Features of the tiny base's shape in which one layer alone tells the classes apart."""
    generator = torch.Generator().manual_seed(seed)
    splits = {}
    for split, n in (("train", 240), ("val", 90), ("test", 90)):
        labels = torch.arange(n) % 3
        if out_of_scope:
            labels[-out_of_scope:] = -1
        values = torch.randn(n, 3, features.hidden_size, generator=generator) * 5 + 40
        centres = torch.eye(features.hidden_size)[:4] * 30
        values[:, signal_at] += centres[labels]
        splits[split] = (values, labels)
    return replace(features, splits=splits)


def test_names_come_from_the_features(tiny_features: Features, tmp_path: Path) -> None:
    router = train_router(tiny_features, tmp_path / "router", settings=SHORT)
    assert router.labels == tiny_features.labels
    assert Router.load(tmp_path / "router").labels == tiny_features.labels


def test_names_that_agree_are_accepted(tiny_features: Features) -> None:
    train_router(tiny_features, adapter_names=list(tiny_features.labels), settings=SHORT)


@pytest.mark.parametrize(
    "names",
    [
        ["claim-window", "calendar", "provider-select"],
        ["calendar", "claim-window"],
        ["calendar", "claim-window", "provider"],
    ],
)
def test_names_that_contradict_are_refused(tiny_features: Features, names: list[str]) -> None:
    with pytest.raises(MismatchError, match="--adapter-names has the labels"):
        train_router(tiny_features, adapter_names=names)


@pytest.mark.parametrize("signal_at", [0, 2])
def test_picks_the_layer_that_tells(tiny_features: Features, signal_at: int) -> None:
    router = train_router(made(tiny_features, signal_at), settings=SHORT)
    assert router.layer == tiny_features.recipe.layers[signal_at]
    assert router.best_acc > 0.95
    tried = [(tuple(c["reads"]), c["mlp_size"]) for c in router.training["candidates"]]
    one, two, three = (f"layer {layer} (last)" for layer in (1, 2, 3))
    reads = [(one,), (two,), (one, two), (three,), (one, two, three)]
    assert tried == [(read, size) for read in reads for size in (0, 256)]
    assert router.training["chosen"] < len(tried)
    assert "within one standard error" in router.training["why"]


def test_a_depth_that_the_plan_shares_costs_nothing(
    tiny_features: Features, tiny_base: Base, tmp_path: Path
) -> None:
    """Of layers that cost nothing the best is kept, of others the cheapest."""
    features = made(tiny_features, 1)  # the second of three tells best
    for values, labels in features.splits.values():
        values[:, 0] += torch.eye(features.hidden_size)[labels] * 26
    high = make_adapters_for("in-pass", tiny_base, tmp_path / "high")
    free = free_depth_of(high, features.labels, features.depth)
    found = {
        name: train_router(features, tmp_path / name, free_depth=depth, settings=SHORT)
        for name, depth in (("none", 0), ("shared", free))
    }
    costs = {
        name: {c["layer"]: c["cost"] for c in router.training["candidates"]}
        for name, router in found.items()
    }
    assert costs == {"none": {1: 0.25, 2: 0.5, 3: 0.75}, "shared": {1: 0, 2: 0, 3: 0.75}}
    assert (found["none"].layer, found["shared"].layer) == (1, 2)
    assert [r.training["free_depth"] for r in found.values()] == [0, 2]
    assert "up to 2 layers cost nothing" in found["shared"].training["why"]
    assert "cost nothing" not in found["none"].training["why"]
    plots = [(tmp_path / name / "depths.png").read_bytes() for name in found]
    assert plots[0] != plots[1]
    del high["claim-window"]
    with pytest.raises(ConfigError, match=r"'claim-window' of the features' label map"):
        free_depth_of(high, features.labels, features.depth)


def test_the_head_reads_raw_features(tiny_features: Features) -> None:
    features = made(tiny_features, 1)
    router = train_router(features, settings=SHORT)
    values, labels = features.splits["test"]
    predicted = router.head(values[:, 1]).argmax(-1)
    assert float((predicted == labels).float().mean()) > 0.9


def test_best_loss_and_accuracy_are_those_of_the_kept_head(tiny_features: Features) -> None:
    features = made(tiny_features, 1)
    router = train_router(features, settings=replace(SHORT, layers=(2,), mlp_sizes=(0,)))
    values, labels = features.splits["val"]
    logits = router.head(select_features(router.recipe, features.recipe, values))
    assert router.best_acc == pytest.approx(float((logits.argmax(-1) == labels).float().mean()))
    loss = float(torch.nn.functional.cross_entropy(logits.detach(), labels))
    assert router.best_loss == pytest.approx(loss, rel=1e-3)


def test_same_seed_same_bytes(tiny_features: Features, tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_router(tiny_features, tmp_path / name, settings=replace(SHORT, seed=5))
    files = {path.name for path in (tmp_path / "a").iterdir()}
    tensors = {f"{name}.safetensors" for name in ("router", "probes", "score")}
    assert files == tensors | {"config.json", "README.md", "depths.png"}
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("there", ["features", "a file", "a router of other labels"])
def test_a_place_that_will_not_do_is_refused_before_any_training(
    there: str, tiny_features: Features, tiny_router: Path, tmp_path: Path
) -> None:
    out, labels = tiny_features.path, tiny_features.labels
    if there == "a file":
        out = tmp_path / "file"
        out.touch()
    if there == "a router of other labels":
        router = Router.load(tiny_router)
        out, other = tmp_path / "router", LabelMap(tuple(reversed(labels.names)))
        replace(router, labels=other).save(out)
    trained: list[int] = []
    with pytest.raises((ArtefactError, MismatchError), match="choose another"):
        train_router(tiny_features, out, progress=lambda done, _: trained.append(done))
    assert not trained


def test_rare_classes_weigh_as_much(tiny_features: Features) -> None:
    """Overlapping classes, one rare: only the weighted head finds the rare one."""
    features = made(tiny_features, 1)
    recalls = {}
    for weighted in (True, False):
        splits = {}
        for split, (values, labels) in features.splits.items():
            noisy = (
                values + torch.randn(values.shape, generator=torch.Generator().manual_seed(1)) * 15
            )
            keep = (labels != 2) | (torch.arange(len(labels)) % 18 == 2)
            splits[split] = (
                noisy[keep] if split == "train" else noisy,
                labels[keep] if split == "train" else labels,
            )
        router = train_router(
            replace(features, splits=splits),
            settings=TrainSettings(class_weights=weighted, mlp_sizes=(0,), layers=(2,)),
        )
        values, labels = splits["test"]
        predicted = router.head(values[:, 1]).argmax(-1)
        recalls[weighted] = float((predicted[labels == 2] == 2).float().mean())
    assert recalls[True] > recalls[False]


def test_out_of_scope_samples_lower_the_score(tiny_features: Features) -> None:
    features = made(tiny_features, 1, out_of_scope=40, seed=1)
    values, labels = features.splits["test"]
    inside, outside = values[labels >= 0, 1], values[labels < 0, 1]
    router = train_router(features, settings=TrainSettings(layers=(2,)))
    assert router.head.num_labels == 3
    kept = [not route.abstained for route in router.routes(inside)]
    rejected = [route.abstained for route in router.routes(outside)]
    assert sum(kept) >= 0.85 * len(kept)
    assert sum(rejected) > 0.95 * len(rejected)
    validated = router.training["validated"]
    assert validated["auroc"] > 0.99
    assert validated["rejected"] > 0.9 * validated["out_of_scope"] > 0


@pytest.mark.parametrize("mlp_size", [0, 16])
def test_easy_samples_out_of_scope_make_a_router_stricter_at_most(
    tiny_features: Features, mlp_size: int
) -> None:
    """However many there are, head and threshold are those of a router without any."""
    features = made(tiny_features, 1)
    settings = replace(SHORT, layers=(2,), mlp_sizes=(mlp_size,))
    without = train_router(features, settings=settings)
    strange = features.splits["test"][0][:, 1].clone()
    strange -= torch.eye(features.hidden_size)[features.splits["test"][1]] * 30
    strange[:, 20] += torch.linspace(0, 60, len(strange))
    seen = torch.cat([strange, features.splits["test"][0][:, 1]])
    for n in (4, 40):
        splits = {}
        for split, (values, labels) in features.splits.items():
            easy = torch.zeros(n, *values.shape[1:])
            easy[..., 30] = 1000.0 + torch.arange(n)[:, None]
            outside = torch.full((n,), -1)
            splits[split] = (torch.cat([values, easy]), torch.cat([labels, outside]))
        router = train_router(replace(features, splits=splits), settings=settings)
        before, after = without.read(seen), router.read(seen)
        assert torch.allclose(before.logits, after.logits, rtol=1e-4, atol=1e-4)
        assert router.calibration.threshold == pytest.approx(without.calibration.threshold)
        assert bool((after.scores <= before.scores + 1e-4).all())
        assert router.training["validated"]["rejected"] == n
        kept = [not route.abstained for route in router.routes(features.splits["test"][0][:, 1])]
        assert sum(kept) > 0.85 * len(kept)


def test_unknown_classes_are_abstained_on(tiny_features: Features) -> None:
    """Nothing out of scope was trained or validated on."""
    features = made(tiny_features, 1)
    splits = features.splits
    router = train_router(features, settings=TrainSettings(layers=(2,)))
    assert router.training["validated"]["auroc"] is None
    assert all(c["auroc_left_out"] > 0.5 for c in router.training["candidates"])
    strange = splits["test"][0][:, 1].clone()
    strange -= torch.eye(features.hidden_size)[splits["test"][1]] * 30
    strange[:, 20] += 60
    abstained = [route.abstained for route in router.routes(strange)]
    assert sum(abstained) > 0.9 * len(abstained)


def test_a_prior_favours_what_is_asked_more_often(tiny_features: Features) -> None:
    features = made(tiny_features, 1)
    noisy = {
        split: (values + torch.randn(values.shape) * 12, labels)
        for split, (values, labels) in features.splits.items()
    }
    features = replace(features, splits=noisy)
    shares = {}
    for prior in ((), (("calendar", 0.9),)):
        settings = TrainSettings(layers=(2,), mlp_sizes=(0,), coverage=1.0, prior=prior)
        router = train_router(features, settings=settings)
        routes = router.routes(features.splits["test"][0][:, 1])
        shares[prior] = sum(r.confidence == r.probabilities["calendar"] for r in routes)
    assert shares[()] < shares[("calendar", 0.9),]


@pytest.mark.parametrize(
    ("prior", "error"),
    [
        ((("calendar", 0.9), ("claim-window", 0.3)), ConfigError),
        ((("calendar", 0.5), ("claim-window", 0.3), ("provider-select", 0.1)), ConfigError),
        ((("inbox", 0.5),), LabelError),
    ],
)
def test_priors_that_cannot_be(
    tiny_features: Features, prior: tuple[tuple[str, float], ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        train_router(tiny_features, settings=TrainSettings(prior=prior))


def test_label_sets_when_asked_for(tiny_features: Features, tmp_path: Path) -> None:
    features = made(tiny_features, 1)
    settings = TrainSettings(layers=(2,), mlp_sizes=(0,), conformal=0.9)
    train_router(features, tmp_path / "router", settings=settings)
    values, labels = features.splits["test"]
    routes = Router.load(tmp_path / "router").routes(values[:, 1])
    names = [features.labels.names[label] for label in labels.tolist()]
    held = [name in (route.candidates or ()) for name, route in zip(names, routes, strict=True)]
    assert sum(held) / len(held) > 0.8
    assert (
        train_router(features, settings=replace(settings, conformal=None))
        .routes(values[:1, 1])[0]
        .candidates
        is None
    )


def test_coverage_sets_the_threshold(tiny_features: Features) -> None:
    features = made(tiny_features, 1)
    values, _ = features.splits["val"]
    for coverage in (0.5, 0.9):
        router = train_router(features, settings=TrainSettings(coverage=coverage, layers=(2,)))
        kept = [not route.abstained for route in router.routes(values[:, 1])]
        assert sum(kept) / len(kept) == pytest.approx(coverage, abs=0.03)


def test_a_class_without_samples_is_named(tiny_features: Features) -> None:
    values, labels = tiny_features.splits["val"]
    splits = tiny_features.splits | {"val": (values[labels != 1], labels[labels != 1])}
    with pytest.raises(SampleError, match="the val split has no sample of 'claim-window'"):
        train_router(replace(tiny_features, splits=splits))


def test_features_that_are_not_numbers_are_refused(tiny_features: Features) -> None:
    values, labels = tiny_features.splits["train"]
    broken = values.clone()
    broken[0, 0, 0] = float("nan")
    splits = tiny_features.splits | {"train": (broken, labels)}
    with pytest.raises(SampleError, match="hold NaN"):
        train_router(replace(tiny_features, splits=splits))


def test_layers_must_be_stored(tiny_features: Features) -> None:
    with pytest.raises(ConfigError, match="layer 7 is not among"):
        train_router(tiny_features, settings=TrainSettings(layers=(7,)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"coverage": 1.5},
        {"steps": 0},
        {"mlp_sizes": ()},
        {"smoothing": 1.0},
        {"conformal": 1.0},
        {"prior": (("calendar", 0.0),)},
    ],
)
def test_settings_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        TrainSettings(**wrong)  # type: ignore[arg-type]


def test_curves_are_logged(tiny_features: Features, tmp_path: Path) -> None:
    settings = TrainSettings(layers=(2,), mlp_sizes=(0,), steps=20)
    train_router(tiny_features, settings=settings, log_dir=tmp_path)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert "layer2-last-mlp0/val_loss" in events.Tags()["scalars"]
    assert len(events.Scalars("layer2-last-mlp0/val_loss")) == 2


def test_recipe_of_the_router_is_one_layer(tiny_features: Features, tmp_path: Path) -> None:
    train_router(tiny_features, tmp_path / "router", settings=TrainSettings(layers=(2,)))
    config = json.loads((tmp_path / "router" / "config.json").read_text())
    assert config["recipe"] == {"layers": [2], "poolings": ["last"], "history": "conversation"}
    assert Router.load(tmp_path / "router").recipe == FeatureRecipe((2,))
