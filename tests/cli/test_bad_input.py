"""Whatever is wrong with the input: one clear line, status 1, nothing lost or half-written."""

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from pointsman.project import Project
from pointsman.routing import feature_store as features_module
from support.canary import Canary
from support.commands import refused, run, succeeds
from support.processes import ended, start
from support.sources import tree
from support.tiny import ADAPTERS, make_base
from test_images import header_only

IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such image"),
    "empty": (lambda path: path.touch(), "the image file is empty"),
    "corrupt": (lambda path: path.write_bytes(b"\x89PNG junk" * 9), "not an image that Pillow"),
    "truncated": (
        lambda path: (
            Image.effect_noise((64, 64), 99).save(path),
            path.write_bytes(path.read_bytes()[:900]),
        ),
        "corrupt or cut off",
    ),
    "huge": (lambda path: path.write_bytes(header_only(60_000, 60_000)), "huge; scale it down"),
    "one pixel": (lambda path: Image.new("RGB", (1, 1)).save(path), "1x1 pixels; each side needs"),
    "200 to 1": (lambda path: Image.new("RGB", (1600, 8)).save(path), "1600x8 pixels is 200"),
}


@pytest.fixture
def config(tiny_project: Project, tmp_path: Path) -> Path:
    return write_config(tmp_path / "pointsman.toml", tiny_project)


@pytest.fixture
def dataset(tiny_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dataset, tmp_path / "dataset"))


@pytest.fixture
def features(tiny_features: features_module.Features, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_features.path, tmp_path / "features"))


@pytest.fixture
def router(tiny_router: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_router, tmp_path / "router"))


def write_config(path: Path, project: Project, **changes: Any) -> Path:
    values = vars(project) | changes
    lines = [f'base = "{values["base"]}"']
    lines += [f'router = "{values["router"]}"'] if values["router"] else []
    lines += ["[adapters]", *(f'"{k}" = "{v}"' for k, v in values["adapters"].items())]
    path.write_text("\n".join(lines))
    return path


def write_samples(path: Path, **changes: Any) -> Path:
    turns = [{"from": "human", "value": "Pick day 3"}, {"from": "gpt", "value": "ok"}]
    sample = {"conversations": turns, "label": 0, "adapter": "calendar"} | changes
    path.write_text(json.dumps({k: v for k, v in sample.items() if v is not ...}) + "\n")
    return path


# Images


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_to_route(kind: str, config: Path, tmp_path: Path) -> None:
    make, message = IMAGES[kind]
    make(tmp_path / "shot.png")
    line = refused("route", tmp_path / "shot.png", "Pick day 3", "--config", config)
    assert line.startswith(f"{tmp_path / 'shot.png'}: ")
    assert message in line


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_of_a_training_set(kind: str, tmp_path: Path) -> None:
    make, message = IMAGES[kind]
    make(tmp_path / "shot.png")
    source = write_samples(tmp_path / "a.jsonl", image="shot.png")
    line = refused("data", "generate", f"--source=calendar={source}", "--out", tmp_path / "out")
    assert line.startswith(f"{source}:1: ")
    assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_of_a_dataset(
    kind: str, dataset: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    make, message = IMAGES[kind]
    image = sorted((dataset / "images").iterdir())[0]
    image.unlink()
    make(image)
    line = refused("preprocess", dataset, "--out", tmp_path / "out", "--base", tiny_base_folder)
    assert message in line
    assert image.name in line
    assert not list(tmp_path.rglob("*.partial"))
    assert not (tmp_path / "out" / "metadata.json").exists()


# Samples and datasets


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": ...}, "has no 'label'"),
        ({"adapter": ...}, "has no 'adapter'"),
        ({"label": ..., "adapter": ...}, "has no 'label' and no 'adapter'"),
        ({"label": 3}, "label 3 is out of range; the label map is [0=calendar, 1=claim-window"),
        ({"label": "0"}, "label '0' is not an integer"),
        ({"label": 1}, "label 1 means 'claim-window' but adapter says 'calendar'"),
        ({"adapter": "nobody"}, "label 0 means 'calendar' but adapter says 'nobody'"),
        ({"label": -1}, "label -1 means None but adapter says 'calendar'"),
        ({"conversations": []}, "needs 'conversations' or 'messages'"),
        ({"bbox": [3, 3, 1, 1]}, "bbox [3, 3, 1, 1] is not [x0, y0, x1, y1]"),
        ({"conversations": [{"from": "human", "value": "x\ud800"}]}, "half a character"),
    ],
)
def test_a_sample_to_evaluate(
    changes: dict[str, Any], message: str, config: Path, tmp_path: Path
) -> None:
    path = write_samples(tmp_path / "samples.jsonl", **changes)
    assert message in refused("evaluate", "--data", path, "--config", config)


def test_a_sample_of_a_dataset_that_was_edited(
    dataset: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    file = dataset / "train.jsonl"
    file.write_text(file.read_text().replace('"label": 0', '"label": 1', 1))
    line = refused("preprocess", dataset, "--out", tmp_path / "out", "--base", tiny_base_folder)
    assert f"{file}: its SHA-256 starts with" in line
    assert "generate the dataset again" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["calendar={a}", "Calendar={a}"], "'calendar' and 'Calendar' are the same name"),
        (["a.b={a}"], "adapter name 'a.b' is not legal"),
        (["base={a}"], "adapter name 'base' is reserved"),
        (["{a}"], "give NAME=PATH"),
        (["calendar={empty}"], "empty.jsonl: holds no samples"),
        (["calendar={none}"], "none.jsonl: no such file"),
        (
            ["calendar={a}", "claim-window={a}"],
            "given for 'claim-window', the sample says",
        ),
        (["nobody={a}", "--config={config}"], "source 'nobody': no such adapter in [0=calendar"),
        (["calendar={a}", "--config={config}"], "no source for claim-window, provider-select"),
        (["calendar={a}", "--val=0.6", "--test=0.4"], "val 0.6 and test 0.4: give shares"),
        (["calendar={a}", "--val=nan"], "val nan"),
        (["calendar={a}", "--balance=odd"], "balance 'odd' is not"),
        (["calendar={a}", "--cap=0"], "cap 0"),
    ],
)
def test_sources(sources: list[str], message: str, config: Path, tmp_path: Path) -> None:
    write_samples(tmp_path / "a.jsonl")
    (tmp_path / "empty.jsonl").touch()
    names = {name: tmp_path / f"{name}.jsonl" for name in ("a", "empty", "none")}
    arguments = [s.format(config=config, **names) for s in sources]
    arguments = [a if a.startswith("--") else f"--source={a}" for a in arguments]
    line = refused("data", "generate", *arguments, "--out", tmp_path / "out")
    assert message in line
    assert not (tmp_path / "out").exists()


def test_an_empty_dataset_and_a_class_without_samples(
    dataset: Path, features: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    from pointsman.data.dataset import read_dataset, seal, write_files

    data = read_dataset(dataset)
    base, out = ("--base", tiny_base_folder), ("--out", tmp_path / "out")
    write_files(dataset, seal(data.labels, {}, [], {}))
    assert "the dataset is empty; add samples" in refused("preprocess", dataset, *base, *out)
    rest = {"train": [s for s in data.splits["train"] if s.adapter != "claim-window"]}
    write_files(dataset, seal(data.labels, rest, [], {}))
    line = refused("preprocess", dataset, *base, *out)
    assert "train has no sample of claim-window" in line
    # Features whose validation lacks a class.
    lacking = data.splits | {"val": rest["train"][:2]}
    write_files(dataset, seal(data.labels, lacking, [], {}))
    succeeds("preprocess", dataset, *base, *out)
    line = refused("train", tmp_path / "out", "--out", tmp_path / "router")
    assert "the val split has no sample of 'claim-window'" in line
    assert not (tmp_path / "router").exists()


def test_an_empty_test_split_is_no_fault(
    dataset: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    from pointsman.data.dataset import read_dataset, seal, write_files

    data = read_dataset(dataset)
    write_files(dataset, seal(data.labels, data.splits | {"test": []}, [], {}))
    succeeds("preprocess", dataset, "--base", tiny_base_folder, "--out", tmp_path / "out")
    succeeds("train", tmp_path / "out", "--out", tmp_path / "router", "--layers", "3")


# Things that do not belong together


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


def shot(folder: Path) -> Path:
    Image.effect_noise((64, 64), 50).save(folder / "shot.png")
    return folder / "shot.png"


def test_adapters_that_do_not_fit(tiny_project: Project, tmp_path: Path) -> None:
    config, image = tmp_path / "pointsman.toml", shot(tmp_path)

    def line(**adapters: object) -> str:
        chosen = tiny_project.adapters | {k.replace("_", "-"): str(v) for k, v in adapters.items()}
        write_config(config, tiny_project, adapters=chosen)
        return refused("route", image, "x", "--config", config)

    copy = Path(shutil.copytree(tiny_project.adapters["calendar"], tmp_path / "calendar"))
    assert line(calendar=tmp_path / "none").endswith("none: no such folder")
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
    assert "does not fit the base" in line(calendar=copy)
    weights.unlink()
    assert "pickled weights (*.bin) are never loaded" in line(calendar=copy)


# Broken files


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


# Mixed-up folders


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


# Options and the project file


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--layers abc", "--layers 'abc': give whole numbers, such as 9,18,27"),
        ("--layers 99", "base0 has layers 1 to 4"),
        ("--layers 0", "layers [0]: give ascending depths from 1"),
        ("--pooling first", "position 0 of a causal base or model attends only to itself"),
        ("--pooling odd", "unknown pooling 'odd'; known are last, mean, image-mean"),
        ("--device potato", "device 'potato' is not there; leave it out"),
        ("--device meta", "device 'meta' is not there"),
        ("--max-pixels 10", "max_pixels 10 is less than the least size"),
    ],
)
def test_options_of_preprocess(
    options: str, message: str, dataset: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    given = ("--base", tiny_base_folder, "--out", tmp_path / "out")
    assert message in refused("preprocess", dataset, *given, *options.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--layers abc", "--layers 'abc': give whole numbers"),
        ("--layers 99", "layer 99 is not among the features' [1, 2, 3]"),
        ("--coverage 2", "coverage is 2.0; give more than 0 and at most 1"),
        ("--coverage nan", "coverage is nan; give more than 0"),
        ("--seed 99999999999999999999", "seed is 99999999999999999999; give 0 or more"),
        ("--adapter-names a,b", "--adapter-names has the labels [0=a, 1=b]"),
        ("--log-dir {file}", "choose another --log-dir"),
    ],
)
def test_options_of_train(options: str, message: str, features: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    given = options.format(file=tmp_path / "file").split()
    assert message in refused("train", features, "--out", tmp_path / "out", *given)
    assert not (tmp_path / "out").exists()


def test_options_of_the_engine(config: Path, dataset: Path, tmp_path: Path) -> None:
    asked = (shot(tmp_path), "Pick day 3", "--config", config)
    assert "unknown adapter 'nobody': the label map is [0=calendar" in refused(
        "generate", *asked, "--adapter", "nobody"
    )
    assert "device 'potato' is not there" in refused("route", *asked, "--device", "potato")
    line = refused("evaluate", "--data", dataset, "--config", config, "--by", "nothing")
    assert "no sample has the field 'nothing'; there are adapter, label, stratum" in line
    line = refused("route", tmp_path / "shot.png", "caf\udce9", "--config", config)
    assert "half a character" in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base = ", "not TOML (Invalid value (at "),
        ('bsae = "x"\n', "unknown key 'bsae'; known are base, revision"),
        ('base = "x"\n', "needs [adapters]"),
        ('base = "x"\n[adapters]\n', "[adapters]: a label map needs at least one"),
        ('base = "x"\n[adapters]\ny = "z"\n', 'needs router = "folder"; train one'),
        (None, "no such project file"),
    ],
)
def test_the_project_file(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "pointsman.toml"
    if text is not None:
        path.write_text(text)
    line = refused("route", "shot.png", "x", "--config", path)
    assert line.startswith(f"{path}: ")
    assert message in line


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    code = "from pointsman.cli.app import main; main()"
    command = [sys.executable, "-c", code, "inspect", str(tmp_path / "none")]
    assert refused("inspect", tmp_path / "none") == f"{tmp_path / 'none'}: no such router"
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True)
    assert debug.returncode == 1
    assert debug.stderr.startswith("Traceback (most recent call last)")
    assert debug.stderr.endswith("none: no such router\n")


# Disks and interruptions


def test_places_that_cannot_be_written(
    dataset: Path, features: Path, router: Path, config: Path, tiny_base_folder: Path
) -> None:
    file = dataset.parent / "file"
    file.write_text("mine")
    source = write_samples(dataset.parent / "a.jsonl")
    base = ("--base", tiny_base_folder, "--layers", "1")
    evaluate = ("evaluate", "--data", dataset, "--config", config, "--no-task")
    for out in (file, file / "deep"):
        for command in (
            ("data", "generate", f"--source=calendar={source}"),
            ("preprocess", dataset, *base),
            ("train", features),
            evaluate,
        ):
            assert "cannot be written" in refused(*command, "--out", out)
    assert "cannot be written" in refused("export", router, "--out", dataset)
    assert "give the name of a file" in refused("export", router, "--out", "/")
    assert file.read_text() == "mine"


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file can grow beyond ``size``: the system refuses to write more, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_is_cut_off_leaves_nothing_behind(
    dataset: Path, features: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    again = ("preprocess", dataset, "--base", tiny_base_folder, "--layers", "1,2,3")
    out = tmp_path / "out"
    with file_size_limit(5000):
        line = refused(*again, "--out", out)
    assert f"{out / 'train-00000.safetensors'}: cannot be written (File too large)" in line
    assert list(out.iterdir()) == []
    succeeds(*again, "--out", out)
    assert tree(out) == tree(features)
    with file_size_limit(200):
        line = refused("train", features, "--out", tmp_path / "router", "--layers", "3")
    assert "cannot be written (File too large)" in line
    assert not (tmp_path / "router" / "config.json").exists()
    assert not list(tmp_path.rglob("*.partial"))


def test_an_adapter_that_cannot_be_written(
    dataset: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    train = ("adapters", "train", "calendar", dataset, "--base", tiny_base_folder)
    with file_size_limit(5000):
        line = refused(*train, "--out", tmp_path / "out")
    assert "File too large" in line
    assert "free some space" in line
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    shutil.rmtree(tmp_path / "out" / "checkpoints")
    succeeds(*train, "--out", tmp_path / "out")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 12 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_loses_nothing(
    small_disk: Path, dataset: Path, features: Path, tiny_base_folder: Path
) -> None:
    again = ("preprocess", dataset, "--base", tiny_base_folder, "--layers", "1,2,3")
    out = small_disk / "features"
    line = refused(*again, "--out", out)
    assert "No space left on device); free some space and run the same command again" in line
    kept = tree(out)
    assert kept
    assert kept.items() <= tree(features).items()
    assert "metadata.json" not in kept
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    succeeds(*again, "--out", out)
    assert tree(out) == tree(features)
    router = small_disk / "router"
    train = ("train", out, "--layers", "3")
    succeeds(*train, "--out", router)
    before = tree(router)
    with (small_disk / "ballast").open("wb") as ballast:
        while True:
            try:
                os.write(ballast.fileno(), bytes(4096))
            except OSError:
                break
    for place in (router, small_disk / "other"):
        line = refused(*train, "--out", place, "--seed", "1")
        assert "No space left on device" in line
    assert tree(router) == before
    assert not list(small_disk.glob("other/*"))


def test_an_interrupted_preprocess_goes_on(
    dataset: Path,
    tiny_base_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A shell that starts the tests in the background has them ignore SIGINT, children included.
    code = """
import signal, time
from pointsman.routing import feature_store as features
from pointsman.cli.app import main
signal.signal(signal.SIGINT, signal.default_int_handler)
features.SHARD_SAMPLES = 3
write = features.write_tensors
def slow(*arguments):
    write(*arguments)
    time.sleep(0.3)
features.write_tensors = slow
main()
"""
    out = tmp_path / "out"
    arguments = ["preprocess", str(dataset), "--base", str(tiny_base_folder), "--out", str(out)]
    process = start(*arguments, code=code, shown=tmp_path / "shown")
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.safetensors"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    assert ended(process, 30) == 130
    assert (tmp_path / "shown.out").read_text() == ""
    assert (
        tmp_path / "shown.err"
    ).read_text() == "interrupted; run the same command again to go on\n"
    kept = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert 2 <= len(kept) < 12
    assert not list(out.glob("*.partial"))
    assert "it resumes where it stopped" in refused("train", out, "--out", tmp_path / "router")
    monkeypatch.setattr(features_module, "SHARD_SAMPLES", 3)
    succeeds(*arguments)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert run("train", out, "--out", tmp_path / "router", "--layers", "3").code == 0
