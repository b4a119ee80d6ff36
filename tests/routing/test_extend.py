"""Growing a router: new labels are appended, and nothing else about the old ones moves."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pointsman.adapters.seal import seal_adapters
from pointsman.data.generate import generate_dataset
from pointsman.engine.engine import Engine
from pointsman.errors import ConfigError, LabelError, MismatchError, PointsmanError, SampleError
from pointsman.labels import LabelMap
from pointsman.models.base import Base
from pointsman.models.features import FeatureRecipe
from pointsman.project import Project
from pointsman.routing.extend import extend_router
from pointsman.routing.feature_store import Features, preprocess
from pointsman.routing.model_selection import select_features
from pointsman.routing.router import Router
from pointsman.routing.train import TrainSettings, train_router
from support.commands import refused, succeeds
from support.tiny import ADAPTERS, make_adapter, make_image


def made(
    like: Features,
    names: Sequence[str],
    centres: Sequence[int],
    counts: dict[str, int],
    *,
    seed: int = 0,
    out_of_scope: int = 0,
) -> Features:
    """Features of the tiny base's shape: each label has a direction of its own."""
    chance = torch.Generator().manual_seed(seed)
    splits = {}
    for split, n in counts.items():
        labels = torch.arange(n) % len(names)
        where = torch.tensor(list(centres))[labels]
        if out_of_scope:
            labels = torch.cat([labels, torch.full((out_of_scope,), -1)])
            where = torch.cat([where, torch.full((out_of_scope,), 30)])
        values = torch.randn(len(labels), 3, like.hidden_size, generator=chance) * 5 + 40
        values += torch.eye(like.hidden_size)[where][:, None] * 30
        splits[split] = (values, labels)
    return replace(like, labels=LabelMap(tuple(names)), splits=splits)


OLD = {"train": 120, "val": 60, "test": 60}


@pytest.fixture
def old(tiny_features: Features) -> Features:
    return made(tiny_features, ADAPTERS, (0, 1, 2), OLD, out_of_scope=20)


@pytest.fixture(params=[0, 16], ids=["linear", "mlp"])
def router(old: Features, request: pytest.FixtureRequest) -> Router:
    return train_router(old, settings=TrainSettings(layers=(2,), mlp_sizes=(request.param,)))


def new_ones(like: Features, names: Sequence[str] = ("notes",), n: int = 10) -> Features:
    places = range(3, 3 + len(names))
    return made(like, names, places, {"train": n * len(names), "test": 60}, seed=7)


def tops(router: Router, features: Features, split: str = "test") -> torch.Tensor:
    values = select_features(router.recipe, features.recipe, features.splits[split][0])
    return router.head(values).argmax(-1)


@pytest.mark.parametrize("names", [("notes",), ("notes", "mail")])
def test_ten_samples_do(old: Features, router: Router, names: tuple[str, ...]) -> None:
    new = new_ones(old, names)
    grown = extend_router(router, new, replay=old)
    assert grown.labels.names == (*ADAPTERS, *names)
    found, labels = tops(grown, new), new.splits["test"][1]
    assert float((found == labels + 3).float().mean()) > 0.85
    labels = old.splits["test"][1]
    inside = labels >= 0
    assert float((tops(grown, old) == labels)[inside].float().mean()) > 0.95
    kept = [route.abstained for route in grown.routes(new.splits["test"][0][:, 1])]
    assert sum(kept) < 0.2 * len(kept)
    assert grown.calibration.coverage >= router.calibration.coverage - 0.05


def test_old_logits_stay(old: Features, router: Router) -> None:
    grown = extend_router(router, new_ones(old), replay=old)
    values = old.splits["test"][0][:, 1]
    after, before = grown.head(values).detach()[:, :3], router.head(values).detach()
    assert torch.allclose(after, before, rtol=1e-4, atol=1e-3 * float(before.abs().max()))
    # And once more: rows appended before are old ones now.
    again = extend_router(
        grown,
        made(old, ("mail",), (4,), {"train": 10}, seed=3),
        replay=made(old, (*ADAPTERS, "notes"), (0, 1, 2, 3), OLD, out_of_scope=20),
    )
    assert again.labels.names == (*ADAPTERS, "notes", "mail")
    after, before = again.head(values).detach()[:, :4], grown.head(values).detach()
    assert torch.allclose(after, before, rtol=1e-4, atol=1e-3 * float(before.abs().max()))
    assert [entry["adapters"] for entry in again.training["extended"]] == [["notes"], ["mail"]]


def test_the_report_is_what_happened(old: Features, router: Router, tmp_path: Path) -> None:
    near = made(old, ("notes",), (2,), {"train": 10}, seed=7)  # as provider-select looks
    grown = extend_router(router, near, tmp_path / "grown", replay=old)
    changes = {c["adapter"]: c for c in grown.training["extended"][-1]["changes"]}
    assert list(changes) == [*ADAPTERS, "notes"]
    values, labels = old.splits["val"]
    found = grown.head(values[:, 1]).argmax(-1)
    for label, name in enumerate(ADAPTERS):
        of_it = labels == label
        share = float((found == label)[of_it].float().mean())
        assert changes[name]["right"] == pytest.approx(share)
        assert changes[name]["samples"] == int(of_it.sum())
        assert changes[name]["right_before"] > 0.8
    lost = {name: c["right_before"] - c["right"] for name, c in changes.items() if name != "notes"}
    assert max(lost, key=lambda name: lost[name]) == "provider-select"
    assert lost["provider-select"] > 0.05 > lost["calendar"]
    assert changes["notes"]["right_before"] is None
    assert changes["notes"]["samples"] == 10
    # It is sealed with the router.
    sealed = Router.load(tmp_path / "grown")
    assert sealed.training["extended"] == grown.training["extended"]


def test_features_that_hold_all_labels(old: Features, router: Router) -> None:
    """A dataset generated anew with the longer project is its own replay."""
    names = (*ADAPTERS, "notes")
    both = made(old, names, range(4), {"train": 160, "val": 80, "test": 80})
    grown = extend_router(router, both)
    assert grown.labels.names == names
    assert float((tops(grown, both) == both.splits["test"][1]).float().mean()) > 0.95
    with pytest.raises(ConfigError, match="leave --replay out"):
        extend_router(router, both, replay=old)


def test_out_of_scope_samples_of_the_new_features_count(old: Features, router: Router) -> None:
    """Screens that are like the new adapter's in part, and are said to be out of scope."""

    def confidence(new: Features) -> float:
        grown = extend_router(router, new, replay=old)
        return float(grown.calibration.probabilities(grown.head(asked).detach())[:, 3].mean())

    new = new_ones(old)
    chance = torch.Generator().manual_seed(5)
    like = torch.randn(40, 3, old.hidden_size, generator=chance) * 5 + 40
    like[..., 3] += 20
    like[..., 29] += 30
    asked, told = like[:20, 1], like[20:]
    values, labels = new.splits["train"]
    more = (torch.cat([values, told]), torch.cat([labels, torch.full((20,), -1)]))
    assert confidence(replace(new, splits={"train": more})) < 0.7 * confidence(new)


@pytest.mark.parametrize(
    ("change", "error", "line"),
    [
        (lambda f: {"features": f}, ConfigError, "holds no samples of .* as --replay"),
        (
            lambda f: {"features": f, "replay": replace(f, labels=LabelMap(("x",)))},
            MismatchError,
            "give features of its labels",
        ),
        (
            lambda f: {"features": replace(f, labels=LabelMap(("calendar",)))},
            MismatchError,
            "'calendar' is known already",
        ),
        (
            lambda f: {
                "features": replace(f, labels=LabelMap(("notes", *ADAPTERS[1:], ADAPTERS[0])))
            },
            MismatchError,
            "labels are only appended",
        ),
        (
            lambda f: {"features": replace(f, recipe=FeatureRecipe((1, 3, 4)))},
            MismatchError,
            r"but the router reads layer 2 \(last\); preprocess that place too",
        ),
        (
            lambda f: {"features": replace(f, recipe=replace(f.recipe, history="last-user"))},
            MismatchError,
            "preprocess with that history",
        ),
        (
            lambda f: {"features": replace(f, labels=LabelMap(("Calendar",)))},
            LabelError,
            "the same name",
        ),
        (lambda f: {"features": f, "coverage": 1.5}, ConfigError, "coverage is 1.5"),
        (
            lambda f: {"features": replace(f, probes=1.2 * f.probes)},
            MismatchError,
            "has features that differ by 20.0%.*use the same dtype",
        ),
    ],
)
def test_what_does_not_belong_is_refused(
    old: Features, change: Any, error: type[PointsmanError], line: str
) -> None:
    router = train_router(old, settings=TrainSettings(layers=(2,), mlp_sizes=(0,)))
    arguments = change(new_ones(old))
    if error not in (ConfigError,) and "replay" not in arguments:
        arguments["replay"] = old
    with pytest.raises(error, match=line):
        extend_router(router, **arguments)


def test_too_few_samples(old: Features) -> None:
    router = train_router(old, settings=TrainSettings(layers=(2,), mlp_sizes=(0,)))
    with pytest.raises(SampleError, match="notes: 1 samples in train and val, at least 2"):
        extend_router(router, new_ones(old, n=1), replay=old)
    less = replace(old, splits={"train": old.splits["train"]})
    with pytest.raises(SampleError, match="calendar: 0 samples in val"):
        extend_router(router, new_ones(old), replay=less)
    broken = new_ones(old)
    broken.splits["train"][0][3] = float("nan")
    with pytest.raises(SampleError, match="NaN"):
        extend_router(router, broken, replay=old)


@pytest.fixture(scope="module")
def notes(tiny_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Features:
    """Real features of ten screens of a fourth adapter."""
    folder = tmp_path_factory.mktemp("notes")
    lines = []
    for number in range(10):
        make_image(folder / f"images/{number}.png", 9000 + number)
        turns = [
            {"from": "human", "value": f"<image>\nWrite a note no. {number}, and file it"},
            {"from": "gpt", "value": "Done."},
        ]
        lines.append(json.dumps({"conversations": turns, "image": f"images/{number}.png"}))
    (folder / "notes.jsonl").write_text("\n".join(lines))
    data = generate_dataset(
        {"notes": [str(folder / "notes.jsonl")]}, folder / "dataset", val=0.0, test=0.0
    )
    return preprocess(data, tiny_base, folder / "features", FeatureRecipe((1, 2, 3)))


def test_the_command_and_an_engine_of_four(
    notes: Features,
    tiny_features: Features,
    tiny_project: Project,
    tiny_base_folder: Path,
    tmp_path: Path,
) -> None:
    old, grown = Path(str(tiny_project.router)), tmp_path / "grown"
    before = (old / "config.json").read_bytes()
    command = ("train", notes.path, "--extend", old, "--replay", tiny_features.path)
    shown = succeeds(*command, "--out", grown)
    assert "3=notes" in shown.out
    assert "new -> " in shown.out
    result = json.loads(succeeds(*command, "--out", tmp_path / "again", "--json").out)
    assert [change["adapter"] for change in result["changes"]] == [*ADAPTERS, "notes"]
    assert (old / "config.json").read_bytes() == before
    assert "choose another folder" in refused(*command, "--out", old)
    adapters = tiny_project.adapters | {
        "notes": str(make_adapter(tiny_base_folder, tmp_path / "adapters/notes", 44))
    }
    project = Project(tiny_project.base, adapters, str(grown))
    assert list(seal_adapters(grown, project)) == [*ADAPTERS, "notes"]
    with Engine.from_project(project, "pointsman.toml") as engine:
        route = engine.route(notes_image(notes), "Write a note no. 99, and file it")
        assert list(route.probabilities) == [*ADAPTERS, "notes"]
        assert max(route.probabilities, key=route.probabilities.__getitem__) == "notes"


def notes_image(notes: Features) -> Path:
    return next((notes.path.parent / "images").glob("*.png"))


def test_options_of_the_command(notes: Features, tiny_router: Path, tmp_path: Path) -> None:
    train = ("train", notes.path, "--out", tmp_path / "out")
    line = refused(*train, "--replay", notes.path)
    assert f"--replay {notes.path} goes with --extend" in line
    line = refused(*train, "--extend", tiny_router, "--layers", "2")
    assert "leave out --adapter-names, --config, --layers, --conformal, --prior and" in line
    assert "as --replay" in refused(*train, "--extend", tiny_router)
    assert "coverage is 0" in refused(*train, "--extend", tiny_router, "--coverage", "0")
    assert not (tmp_path / "out").exists()


def test_a_stated_coverage_places_the_threshold(
    old: Features, notes: Features, tmp_path: Path
) -> None:
    settings = TrainSettings(layers=(2,), mlp_sizes=(0,), coverage=0.9)
    train_router(old, tmp_path / "router", settings=settings)
    command = ("train", notes.path, "--extend", tmp_path / "router", "--replay", old.path)
    succeeds(*command, "--out", tmp_path / "own")
    assert 0 < Router.load(tmp_path / "own").calibration.coverage <= 1
    succeeds(*command, "--out", tmp_path / "other", "--coverage", "0.8")
    assert Router.load(tmp_path / "other").calibration.coverage == 0.8


def test_sealed_adapters_are_carried_over(
    old: Features, tiny_project: Project, tmp_path: Path
) -> None:
    router = train_router(
        old, tmp_path / "router", settings=TrainSettings(layers=(2,), mlp_sizes=(0,))
    )
    assert router.unsealed == list(ADAPTERS)
    seal_adapters(tmp_path / "router", tiny_project)
    grown = extend_router(tmp_path / "router", new_ones(old), replay=old)
    assert grown.unsealed == ["notes"]
