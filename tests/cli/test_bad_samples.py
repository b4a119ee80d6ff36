"""Samples and datasets that cannot be used: one line, status 1, no half-written file."""

from pathlib import Path
from typing import Any

import pytest

from pointsman.files import digest_file
from pointsman.sample import RoutingSample
from support.commands import refused, succeeds
from support.inputs import write_samples


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


def shown(splits: dict[str, list[RoutingSample]]) -> set[str]:
    """Digests of the images of a dataset."""
    paths = {path for samples in splits.values() for s in samples for path in s.images}
    return {digest_file(Path(path)) for path in paths}


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
    write_files(dataset, seal(data.labels, lacking, shown(lacking), {}))
    succeeds("preprocess", dataset, *base, *out)
    line = refused("train", tmp_path / "out", "--out", tmp_path / "router")
    assert "the val split has no sample of 'claim-window'" in line
    assert not (tmp_path / "router").exists()


def test_an_empty_test_split_is_no_fault(
    dataset: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    from pointsman.data.dataset import read_dataset, seal, write_files

    data = read_dataset(dataset)
    kept = data.splits | {"test": []}
    write_files(dataset, seal(data.labels, kept, shown(kept), {}))
    succeeds("preprocess", dataset, "--base", tiny_base_folder, "--out", tmp_path / "out")
    succeeds("train", tmp_path / "out", "--out", tmp_path / "router", "--layers", "3")
