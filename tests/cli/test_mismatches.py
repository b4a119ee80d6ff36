"""Things that do not belong together: one line, status 1, no half-written file."""

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from pointsman.project import Project
from support.commands import refused
from support.inputs import shot, write_config
from support.sources import tree
from support.tiny import ADAPTERS, make_base


def test_features_of_something_else(
    dataset: Path, features: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    before = tree(features)
    again = ("preprocess", dataset, "--out", features)
    other = make_base(tmp_path / "other", seed=9)
    layers = ("--layers", "1,2,3")
    line = refused(*again, "--base", other, *layers)
    assert "holds features of another base or encoder; choose another --out" in line
    line = refused(*again, "--base", tiny_base_folder, "--layers", "1")
    assert "holds features of another recipe" in line
    assert "[1, 2, 3]" in line
    line = refused(*again, "--base", tiny_base_folder, *layers, "--pooling", "mean")
    assert "holds features of another recipe" in line
    line = refused(*again, "--base", tiny_base_folder, *layers, "--batch-tokens", "100")
    assert "of another batch_tokens (1024, not 100)" in line
    assert tree(features) == before


def test_label_orders_that_disagree(
    config: Path,
    dataset: Path,
    features: Path,
    tiny_project: Project,
    tmp_path: Path,
) -> None:
    swapped = dict(reversed(tiny_project.adapters.items()))
    other = write_config(tmp_path / "other.toml", tiny_project, adapters=swapped)
    out = ("--out", tmp_path / "out")
    both = ("[0=calendar, 1=claim-window, 2=provider-select]", "[0=provider-select, 1=claim-window")
    lines = [
        refused("train", features, "--adapter-names", ",".join(swapped), *out),
        refused("preprocess", dataset, "--config", other, *out),
        refused("evaluate", "--data", dataset, "--config", other),
        refused("route", "shot.png", "x", "--config", other),
    ]
    for line in lines:
        assert all(side in line for side in both), line
    assert not (tmp_path / "out").exists()


def test_a_dataset_of_another_label_order(config: Path, dataset: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from pointsman.data.dataset import read_dataset, seal, write_files
    from pointsman.labels import LabelMap

    labels = LabelMap(tuple(reversed(ADAPTERS)))
    splits = {
        name: [replace(s, label=2 - s.label) for s in samples]  # type: ignore[operator]
        for name, samples in read_dataset(dataset).splits.items()
    }
    write_files(dataset, seal(labels, splits, [], {}))
    line = refused("evaluate", "--data", dataset, "--config", config)
    assert "[0=provider-select" in line
    assert "the router has [0=calendar" in line
    line = refused("evaluate", "--data", dataset / "test.jsonl", "--config", config)
    assert "label" in line
    assert "the label map is [0=calendar" in line


def test_a_router_for_another_base(tiny_project: Project, tmp_path: Path) -> None:
    other = make_base(tmp_path / "other", seed=9)
    config = write_config(tmp_path / "pointsman.toml", tiny_project, base=str(other))
    line = refused("route", shot(tmp_path), "x", "--config", config)
    assert f"the router's base ({tiny_project.base}) and the base in use ({other}) differ" in line
    assert "use that base, or preprocess and train a router on this one" in line


def test_adapters_that_do_not_fit(tiny_project: Project, tmp_path: Path) -> None:
    config, image = tmp_path / "pointsman.toml", shot(tmp_path)

    def line(**adapters: object) -> str:
        chosen = tiny_project.adapters | {k.replace("_", "-"): str(v) for k, v in adapters.items()}
        write_config(config, tiny_project, adapters=chosen)
        return refused("route", image, "x", "--config", config)

    copy = Path(shutil.copytree(tiny_project.adapters["calendar"], tmp_path / "calendar"))
    assert line(calendar=tmp_path / "none").endswith(
        "no such folder; give the folder that holds adapter_config.json"
    )
    assert "no adapter_config.json in it" in line(calendar=tiny_project.router)
    note = {"fingerprint": dict.fromkeys(("weights", "config", "tokenizer"), "0" * 64)}
    note["fingerprint"] |= dict.fromkeys(("template", "image_processor"), "0" * 64)
    (copy / "pointsman.json").write_text(json.dumps(note))
    assert "adapter calendar" in line(calendar=copy)
    assert "differ in their weights" in line(calendar=copy)
    (copy / "pointsman.json").unlink()
    weights = copy / "adapter_model.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor.repeat(1, 2) for name, tensor in tensors.items()}, weights)
    assert f"{copy}: [other-base] 28 of " in line(calendar=copy)
    assert "lora_A.weight is [4, 64], not [4, 32]; use the base that" in line(calendar=copy)
    weights.unlink()
    assert "no adapter_model.safetensors in it; save the adapter again" in line(calendar=copy)
