import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pointsman.errors import ArtefactError, LabelError, MismatchError, PointsmanError
from pointsman.files import digest_json
from pointsman.labels import LabelMap
from pointsman.models.base import Base, load_base
from pointsman.routing.calibration import Calibration
from pointsman.routing.feature_store import Features
from pointsman.routing.head import build_router_head
from pointsman.routing.legacy_pt import adopt_pt, load_router_head, read_pt, write_pt
from pointsman.routing.model_selection import select_features
from pointsman.routing.router import Router
from pointsman.routing.seal import router_digest
from support.tiny import ADAPTERS, make_base


@pytest.fixture
def copied(tiny_router: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_router, tmp_path / "router"))


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def test_saved_and_loaded_it_routes_the_same(tiny_router: Path, tiny_features: Features) -> None:
    router = Router.load(tiny_router)
    values, labels = tiny_features.splits["train"]
    routes = router.routes(select_features(router.recipe, tiny_features.recipe, values))
    assert [max(r.probabilities, key=r.probabilities.__getitem__) for r in routes] == [
        ADAPTERS[label] for label in labels.tolist()
    ]
    for route in routes:
        assert sum(route.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert list(route.probabilities) == list(ADAPTERS)


def test_a_router_knows_its_seal_and_a_changed_copy_has_none(
    tiny_router: Path, tiny_features: Features
) -> None:
    router, values = Router.load(tiny_router), tiny_features.splits["train"][0][:1]
    values = select_features(router.recipe, tiny_features.recipe, values)
    moved = router.to(torch.device("cpu"))
    assert router.digest == moved.digest == router_digest(tiny_router)
    assert moved.routes(values)[0].router_digest == router.digest
    changed = replace(router, calibration=Calibration(threshold=1e4))
    assert changed.routes(values)[0].router_digest is None


def test_config_carries_what_the_format_says(tiny_router: Path, tiny_base: Base) -> None:
    config = json.loads((tiny_router / "config.json").read_text())
    assert config["adapters"] == list(ADAPTERS)
    assert config["base_model_id"] == tiny_base.id
    for key in ("base_revision", "recipe", "best_loss", "best_acc", "calibration", "digests"):
        assert key in config
    assert config["format_version"] == 1


def test_abstention_follows_the_threshold(tiny_router: Path, tiny_features: Features) -> None:
    router = Router.load(tiny_router)
    values = tiny_features.splits["train"][0][:1]
    values = select_features(router.recipe, tiny_features.recipe, values)
    for threshold, abstains in ((-1e4, False), (1e4, True)):
        strict = replace(router, calibration=Calibration(1.0, threshold, 0.9))
        route = strict.routes(values)[0]
        assert route.abstained is abstains
        assert (route.label == -1) is abstains
        assert (route.adapter is None) is abstains


def swap_names(config: dict[str, Any]) -> None:
    names = config["adapters"]
    names[0], names[1] = names[1], names[0]


def swap_names_and_their_digest(config: dict[str, Any]) -> None:
    swap_names(config)
    config["digests"]["fields"]["adapters"] = digest_json(config["adapters"])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (swap_names, "not the label map that was sealed"),
        (swap_names_and_their_digest, "was changed after it was sealed"),
        (lambda c: c.update(adapters=["calendar", "calendar", "x"]), "the same name"),
        (lambda c: c.update(adapters=None), "not a list of strings"),
        (lambda c: c["calibration"].update(temperature=3.0), "was changed after it was sealed"),
        (lambda c: c["recipe"].update(poolings=["mean"]), "was changed after it was sealed"),
        (lambda c: c["recipe"].update(layers=[3]), "was changed after it was sealed"),
        (lambda c: c.update(extra=1), "was changed after it was sealed"),
        (lambda c: c.update(format_version=2), "a router of format 2"),
        (lambda c: c.pop("digests"), "a router of format 1"),
        (lambda c: c["digests"].pop("config"), "was changed after it was sealed"),
    ],
)
def test_a_changed_field_is_refused(
    copied: Path, change: Callable[[dict[str, Any]], None], line: str
) -> None:
    edit(copied / "config.json", change)
    with pytest.raises(PointsmanError, match=line):
        Router.load(copied)


@pytest.mark.parametrize("file", ["router.safetensors", "probes.safetensors", "score.safetensors"])
def test_a_changed_file_is_refused(copied: Path, file: str) -> None:
    tensors = load_file(copied / file)
    next(iter(tensors.values())).view(-1)[0] += 0.5
    save_file(tensors, copied / file)
    with pytest.raises(MismatchError, match=f"{file} is not the file that was sealed"):
        Router.load(copied)


def test_missing_and_truncated_files_are_refused(copied: Path) -> None:
    weights = copied / "router.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(MismatchError, match="not the file that was sealed"):
        Router.load(copied)
    weights.unlink()
    with pytest.raises(ArtefactError, match=r"router\.safetensors: cannot be read"):
        Router.load(copied)
    (copied / "config.json").unlink()
    with pytest.raises(ArtefactError, match="not a complete router folder"):
        Router.load(copied)


def test_a_router_of_other_labels_is_not_overwritten(copied: Path) -> None:
    router = Router.load(copied)
    router.save(copied)
    other = replace(router, labels=LabelMap(tuple(reversed(ADAPTERS))))
    with pytest.raises(MismatchError, match="choose another folder"):
        other.save(copied)
    assert Router.load(copied).labels == router.labels


def test_belongs_to_its_base(tiny_router: Path, tiny_base: Base, tmp_path: Path) -> None:
    router = Router.load(tiny_router)
    router.check_base(tiny_base)
    other = load_base(str(make_base(tmp_path / "other", seed=9)))
    with pytest.raises(MismatchError, match="differ in their weights"):
        router.check_base(other)


def test_another_dtype_is_let_through_within_tolerance(
    tiny_router: Path, tiny_base_folder: Path
) -> None:
    Router.load(tiny_router).check_base(load_base(str(tiny_base_folder), dtype="bfloat16"))


def test_probes_are_replayed(tiny_router: Path, tiny_base_folder: Path) -> None:
    """The same files, but a library that computes something else."""
    base = load_base(str(tiny_base_folder))
    with torch.no_grad():
        base.core.language_model.layers[0].mlp.down_proj.weight.mul_(1.5)
    with pytest.raises(MismatchError, match="makes features that differ by"):
        Router.load(tiny_router).check_base(base)


def test_load_router_head_of_a_folder(tiny_router: Path, tiny_base: Base) -> None:
    head, adapters = load_router_head(tiny_router, tiny_base.hidden_size, "cpu")
    assert adapters == list(ADAPTERS)
    assert head(Router.load(tiny_router).probes.features[:2]).shape == (2, 3)


def test_load_router_head_refuses_another_size(tiny_router: Path) -> None:
    with pytest.raises(MismatchError, match="the head reads 32 features but the base has 4096"):
        load_router_head(tiny_router, 4096, "cpu")


def test_pt_round_trip(tiny_router: Path, tiny_base: Base, tmp_path: Path) -> None:
    router = Router.load(tiny_router)
    write_pt(tmp_path / "head.pt", router)
    checkpoint = torch.load(tmp_path / "head.pt", weights_only=True)
    keys = {"state_dict", "adapters", "base_model_id", "best_loss", "best_acc", "reads"}
    assert set(checkpoint) == keys
    head, adapters = load_router_head(tmp_path / "head.pt", tiny_base.hidden_size, "cpu")
    assert adapters == list(ADAPTERS)
    x = router.probes.features
    assert torch.equal(head(x), router.head(x))


def test_pt_without_adapters_is_refused_with_both_mends(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"state_dict": build_router_head(8, 3).state_dict(), "best_acc": 0.9}, path)
    with pytest.raises(ArtefactError) as error:
        load_router_head(path, 8, "cpu")
    assert "label 0 means nothing" in str(error.value)
    assert "pointsman train" in str(error.value)
    assert "pointsman adopt" in str(error.value)


def test_adopt_gives_names(tmp_path: Path) -> None:
    old, new = tmp_path / "old.pt", tmp_path / "new.pt"
    torch.save({"state_dict": torch.nn.Linear(8, 3).state_dict(), "best_acc": 0.9}, old)
    adopt_pt(old, ADAPTERS, new)
    assert read_pt(new)["adapters"] == list(ADAPTERS)
    assert load_router_head(new, 8)[1] == list(ADAPTERS)
    with pytest.raises(MismatchError, match="has 3 outputs"):
        adopt_pt(old, ADAPTERS[:2], new)
    with pytest.raises(LabelError, match="the same name"):
        adopt_pt(old, ["a", "a", "b"], new)
    with pytest.raises(MismatchError, match="has the labels"):
        adopt_pt(new, list(reversed(ADAPTERS)), new)


class Canary:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return Path.touch, (Path("canary-was-executed"),)  # type: ignore[return-value]


def test_a_pickle_is_never_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Canary(), "adapters": ["a"]}, tmp_path / "evil.pt")
    with pytest.raises(ArtefactError, match="anything else in a pickle is refused"):
        load_router_head(tmp_path / "evil.pt", 8)
    assert not (tmp_path / "canary-was-executed").exists()


def test_not_a_router_at_all(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no such router"):
        load_router_head(tmp_path / "absent.pt", 8)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ArtefactError, match="not a router"):
        load_router_head(tmp_path / "text.pt", 8)
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ArtefactError, match="without a 'state_dict'"):
        load_router_head(tmp_path / "other.pt", 8)
    torch.save({"state_dict": {"x": torch.zeros(3)}, "adapters": ["a"]}, tmp_path / "conv.pt")
    with pytest.raises(ArtefactError, match="not the weights of a router head"):
        load_router_head(tmp_path / "conv.pt", 8)
