"""Broken files and folders given for one another: one line, status 1, nothing half-written."""

import pickle
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pointsman.project import Project
from support.canary import Canary
from support.commands import refused, succeeds
from support.inputs import shot, write_config
from support.sources import tree


@pytest.mark.parametrize("damage", ["truncated", "empty", "pickle"])
@pytest.mark.parametrize("what", ["base", "adapter", "router", "probes", "features", "pt"])
def test_weights(
    what: str, damage: str, features: Path, router: Path, tiny_project: Project, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_project.base, tmp_path / "base"))
    adapter = Path(shutil.copytree(tiny_project.adapters["calendar"], tmp_path / "calendar"))
    adapters = tiny_project.adapters | {"calendar": str(adapter)}
    config = write_config(
        tmp_path / "pointsman.toml",
        tiny_project,
        base=str(base),
        adapters=adapters,
        router=str(router),
    )
    succeeds("export", router, "--out", tmp_path / "head.pt")
    file = {
        "base": base / "model.safetensors",
        "adapter": adapter / "adapter_model.safetensors",
        "router": router / "router.safetensors",
        "probes": router / "probes.safetensors",
        "features": features / "train-00000.safetensors",
        "pt": tmp_path / "head.pt",
    }[what]
    canary = tmp_path / "canary"
    content = file.read_bytes()
    broken = {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "pickle": pickle.dumps({"state_dict": Canary(canary), "adapters": ["a"]}, 2),
    }
    file.write_bytes(broken[damage])
    command = {
        "features": ("train", features, "--out", tmp_path / "out"),
        "pt": ("inspect", file),
    }.get(what, ("route", shot(tmp_path), "x", "--config", config))
    line = refused(*command)
    assert str(file if what != "base" else base) in line
    assert not canary.exists()
    assert not (tmp_path / "out").exists()


def test_a_broken_chat_template(dataset: Path, tiny_base_folder: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_base_folder, tmp_path / "base"))
    (base / "chat_template.jinja").write_text("{% for m in")
    line = refused("preprocess", dataset, "--base", base, "--out", tmp_path / "out")
    assert line.startswith(f"{base}: the checkpoint cannot be loaded (")


def test_a_deleted_shard_is_made_again(
    dataset: Path, features: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    before = tree(features)
    (features / "val-00000.safetensors").unlink()
    line = refused("train", features, "--out", tmp_path / "out")
    assert "rerun the same `pointsman preprocess` command, it rebuilds them" in line
    again = ("preprocess", dataset, "--base", tiny_base_folder, "--layers", "1,2,3")
    succeeds(*again, "--out", features)
    assert tree(features) == before


def test_a_checkpoint_without_names(router: Path, tmp_path: Path) -> None:
    import torch

    torch.save({"state_dict": load_file(router / "router.safetensors")}, tmp_path / "old.pt")
    line = refused("inspect", tmp_path / "old.pt")
    assert "has no 'adapters', so label 0 means nothing" in line
    assert "pointsman adopt" in line
    adopt = ("adopt", tmp_path / "old.pt", "--out", tmp_path / "new.pt", "--adapter-names")
    assert "3 outputs" in refused(*adopt, "a,b")
    assert "'a' and 'a' are the same name" in refused(*adopt, "a,a,b")
    assert "adapter name '' is not legal" in refused(*adopt, "a,,b")
    assert not (tmp_path / "new.pt").exists()


def test_folders_given_for_one_another(
    dataset: Path, features: Path, router: Path, config: Path, tiny_project: Project, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_project.base, tmp_path / "base"))
    adapter = Path(shutil.copytree(tiny_project.adapters["calendar"], tmp_path / "calendar"))
    folders = {
        "a dataset": dataset,
        "features": features,
        "a router": router,
        "a base": base,
        "an adapter": adapter,
    }
    before = {kind: tree(folder) for kind, folder in folders.items()}
    out = ("--out", tmp_path / "out")
    for kind, folder in folders.items():
        if kind != "a dataset":
            assert "no dataset.json in it" in refused("preprocess", folder, *out)
            assert "no dataset.json" in refused("evaluate", "--data", folder, "--config", config)
        if kind != "features":
            assert "not a complete features folder" in refused("train", folder, *out)
            line = refused("preprocess", dataset, "--base", base, "--out", folder)
            assert line == f"{folder}: holds {kind}, not features; choose another --out"
        if kind != "a router":
            assert "router" in refused("inspect", folder)
            line = refused("train", features, "--out", folder)
            assert line == f"{folder}: holds {kind}, not a router; choose another --out"
        if kind != "a base":
            line = refused("preprocess", dataset, *out, "--base", folder)
            assert "no config.json in it" in line or "a checkpoint of type None" in line
        line = refused("adapters", "train", "calendar", dataset, "--base", base, "--out", folder)
        assert line.startswith(f"{folder}: holds ")
        line = refused("evaluate", "--data", "nowhere", "--config", config, "--out", folder)
        assert line == f"{folder}: holds {kind}, not an evaluation; choose another --out"
    assert "a folder, not a .pt" in refused("adopt", router, "--adapter-names", "a", *out)
    assert "no such folder; give a dataset" in refused("preprocess", dataset / "train.jsonl", *out)
    assert {kind: tree(folder) for kind, folder in folders.items()} == before
    assert not (tmp_path / "out").exists()
