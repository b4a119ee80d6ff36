import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pointsman.conversation import Turn, user_turn
from pointsman.data.dataset import (
    SPLITS,
    Dataset,
    fingerprint_of,
    read_dataset,
    read_samples_of,
    seal,
    write_files,
)
from pointsman.errors import ArtefactError, MismatchError, PointsmanError, SampleError
from pointsman.labels import LabelMap
from pointsman.sample import RoutingSample

LABELS = LabelMap(("calendar", "claim-window"))


def sample(text: str, adapter: str | None = "calendar") -> RoutingSample:
    turns = (user_turn(text), Turn("assistant", ("ok",)))
    return RoutingSample(turns, (f"images/{text}.png",)).labelled(LABELS, adapter)


def write(path: Path, **splits: list[RoutingSample]) -> Path:
    write_files(path, seal(LABELS, splits, ["d1", "d2"], {"seed": 0}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(
        tmp_path / "data",
        train=[sample("a"), sample("b", "claim-window"), sample("c", None)],
        val=[sample("d")],
        test=[sample("e", "claim-window")],
    )


def edit(folder: Path, **changes: Any) -> None:
    file = folder / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_dataset_comes_back_as_it_was_written(folder: Path) -> None:
    dataset = read_dataset(folder)
    assert dataset.labels == LABELS
    assert [s.adapter for s in dataset.splits["train"]] == ["calendar", "claim-window", None]
    assert [s.label for s in dataset.splits["train"]] == [0, 1, -1]
    assert dataset.splits["val"][0].images == (str(folder / "images/d.png"),)
    assert tuple(dataset.splits) == SPLITS


def test_the_counts_are_in_dataset_json(folder: Path) -> None:
    manifest = json.loads((folder / "dataset.json").read_text())
    train = manifest["splits"]["train"]
    assert train["n"] == 3
    assert train["adapters"] == {"calendar": 1, "claim-window": 1}
    assert train["out_of_scope"] == 1


def test_the_fingerprint_depends_on_order_samples_and_images(folder: Path) -> None:
    manifest = json.loads((folder / "dataset.json").read_text())
    first = fingerprint_of(manifest)
    turned = fingerprint_of(manifest | {"adapters": ["claim-window", "calendar"]})
    images = fingerprint_of(manifest | {"images": {"sha256": "other"}})
    fewer = json.loads(seal(LABELS, {"train": [sample("a")]}, [], {})["dataset.json"])
    assert len({first, turned, images, fewer["fingerprint"]}) == 4


def test_an_empty_split_is_an_empty_list(tmp_path: Path) -> None:
    path = write(tmp_path / "data", train=[sample("a"), sample("b", "claim-window")])
    assert read_dataset(path).splits["val"] == []


def test_a_changed_split_is_refused(folder: Path) -> None:
    file = folder / "val.jsonl"
    file.write_text(file.read_text().replace("d.png", "x.png"))
    with pytest.raises(MismatchError, match=r"val\.jsonl: its SHA-256 starts with .* changed"):
        read_dataset(folder)


def test_a_reordered_label_map_is_refused(folder: Path) -> None:
    edit(folder, adapters=["claim-window", "calendar"])
    with pytest.raises(MismatchError, match="it was edited"):
        read_dataset(folder)


def test_label_and_adapter_must_agree_even_where_the_digests_do(tmp_path: Path) -> None:
    wrong = RoutingSample((user_turn("a"),), ("a.png",), label=1, adapter="calendar")
    path = write(tmp_path / "data", train=[wrong])
    with pytest.raises(SampleError, match=r"train\.jsonl:1: label 1 means 'claim-window'"):
        read_dataset(path)


def test_an_adapter_without_training_samples_is_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "data", train=[sample("a")], test=[sample("b", "claim-window")])
    with pytest.raises(SampleError, match="train has no sample of claim-window"):
        read_dataset(path)


def test_an_empty_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="the dataset is empty"):
        read_dataset(write(tmp_path / "data"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "dataset.json").unlink(), "no dataset.json in it"),
        (lambda f: (f / "dataset.json").write_text("{"), "not a readable JSON file"),
        (lambda f: (f / "dataset.json").write_text("[]"), "not an object"),
        (lambda f: (f / "test.jsonl").unlink(), "test.jsonl: cannot be read"),
        (lambda f: edit(f, format_version=2), "format_version 2 is not 1"),
        (lambda f: edit(f, splits={}), "lack their sha256"),
        (lambda f: edit(f, splits=[]), "lack their sha256"),
        (lambda f: edit(f, images=None), "lack their sha256"),
        (lambda f: edit(f, adapters="calendar"), "not a list of strings"),
        (lambda f: edit(f, adapters=["a.b"]), "not legal"),
        (lambda f: shutil.rmtree(f), "no such folder"),
    ],
)
def test_a_broken_folder_gets_one_clear_line(folder: Path, damage: Any, message: str) -> None:
    damage(folder)
    with pytest.raises(PointsmanError) as raised:
        read_dataset(folder)
    assert message in str(raised.value)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unfinished_folder_says_so(folder: Path) -> None:
    (folder / "dataset.json").unlink()
    (folder / ".unfinished").touch()
    with pytest.raises(ArtefactError, match="left unfinished; rerun the command"):
        read_dataset(folder)


def test_files_that_have_their_content_are_not_written_again(folder: Path) -> None:
    before = (folder / "train.jsonl").stat().st_mtime_ns
    train = [sample("a"), sample("b", "claim-window"), sample("c", None)]
    write(folder, train=train)
    assert (folder / "train.jsonl").stat().st_mtime_ns == before
    assert read_dataset(folder).splits["val"] == []


def test_samples_to_evaluate_on_are_the_test_split_else_val(folder: Path, tmp_path: Path) -> None:
    assert [s.instruction for s in read_samples_of(folder, LABELS)] == ["e"]
    # An evaluation needs no training samples.
    path = write(tmp_path / "only-val", val=[sample("v")])
    assert [s.instruction for s in read_samples_of(path, LABELS)] == ["v"]


def test_samples_to_evaluate_on_may_be_one_file(folder: Path) -> None:
    assert len(read_samples_of(folder / "train.jsonl", LABELS)) == 3


def test_data_of_another_label_order_is_refused_naming_both(folder: Path) -> None:
    other = LabelMap(("claim-window", "calendar"))
    with pytest.raises(MismatchError) as raised:
        read_samples_of(folder, other)
    assert str(LABELS) in str(raised.value)
    assert str(other) in str(raised.value)
    with pytest.raises(SampleError, match="label 0 means 'claim-window'"):
        read_samples_of(folder / "train.jsonl", other)


def test_a_folder_with_nothing_held_out_cannot_be_evaluated_on(tmp_path: Path) -> None:
    path = write(tmp_path / "data", train=[sample("a")])
    with pytest.raises(SampleError, match="test and val are both empty"):
        read_samples_of(path, LABELS)


def test_what_generate_made_can_be_read(tiny_data: Dataset) -> None:
    assert all(Path(s.images[0]).is_file() for split in tiny_data.splits.values() for s in split)
