"""Wrong labels are planted in real datasets, and looked for by features of a real tiny base."""

import json
from pathlib import Path

import numpy as np
import pytest

from pointsman.data.dataset import Dataset, read_dataset
from pointsman.data.generate import generate_dataset
from pointsman.errors import SampleError
from pointsman.models.base import Base
from pointsman.models.features import FeatureRecipe
from pointsman.routing.feature_store import Features, preprocess
from pointsman.routing.label_noise import _contradicted, check_labels, find_suspects
from support.commands import run, succeeds
from support.tiny import ADAPTERS, make_image, make_sources


@pytest.fixture(scope="module")
def noisy(
    tiny_base: Base, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Dataset, Features, dict[str, str]]:
    """A dataset with wrong labels, its features, and the right adapter by planted instruction."""
    folder = tmp_path_factory.mktemp("noisy")
    sources = make_sources(folder, per_adapter=60)
    lines = {name: Path(path).read_text().splitlines() for name, [path] in sources.items()}
    planted: dict[str, str] = {}
    for number, name in enumerate(ADAPTERS):
        other = ADAPTERS[(number + 1) % len(ADAPTERS)]
        # Far apart: neighbours that are wrong alike would bear each other out.
        for row in (22, 13, 4):
            moved = lines[name].pop(row + number)
            lines[other].append(moved)
            planted[json.loads(moved)["conversations"][0]["value"].split("\n")[1]] = name
    nowhere = folder / "nowhere.jsonl"
    turns = [[{"from": "human", "value": f"What is the weather {n}?"}] for n in range(20)]
    nowhere.write_text("\n".join(json.dumps({"conversations": turn}) for turn in turns))
    for name, [path] in sources.items():
        Path(path).write_text("\n".join(lines[name]))
    generate_dataset(sources, folder / "data", out_of_scope=[str(nowhere)], val=0.2, test=0.2)
    dataset = read_dataset(folder / "data")
    features = preprocess(dataset, tiny_base, folder / "features", FeatureRecipe((1, 2, 3)))
    return dataset, features, planted


def test_most_planted_labels_are_found_and_nearly_no_others(noisy) -> None:
    dataset, features, planted = noisy
    suspects = find_suspects(dataset, features)
    found = [suspect for suspect in suspects if suspect.instruction.strip() in planted]
    # Of 200 samples; what is left of nine are those that these features do not tell apart.
    assert len(found) >= 6
    assert len(suspects) <= len(found) + 2
    assert suspects[:5] == found[:5]  # the clearest come first
    for suspect in found:
        instruction = suspect.instruction.strip()
        assert suspect.suggested == planted[instruction] != suspect.given
        assert 0.3 < suspect.probability <= 1
        sample = dataset.splits[suspect.split][suspect.row]
        assert (sample.instruction, sample.adapter) == (suspect.instruction, suspect.given)
        line = (
            Path(suspect.where.rpartition(":")[0])
            .read_text()
            .splitlines()[int(suspect.where.rpartition(":")[2]) - 1]
        )
        assert instruction in line


def test_right_labels_are_left_alone(tiny_data: Dataset, tiny_features: Features) -> None:
    assert len(find_suspects(tiny_data, tiny_features)) <= 2


def test_confident_of_another_class_by_hand() -> None:
    probabilities = np.array(
        [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8], [0.4, 0.6], [0.6, 0.4], [0.05, 0.95]]
    )
    given = np.array([0, 0, 0, 1, 1, 1, 1])
    # Class 0 is confident from 2/3 on, class 1 from 0.6875: 0.7 given 0 is a contradiction. 0.6 of
    # class 0, given 1, is not; nor is 0.95 of its own class.
    assert _contradicted(probabilities, given) == [(2, 1)]
    swapped = _contradicted(probabilities[:, ::-1], 1 - given)
    assert swapped == [(2, 0)]


def test_the_clearest_contradiction_comes_first() -> None:
    probabilities = np.array([[0.9, 0.1]] * 6 + [[0.2, 0.8]] * 6)
    probabilities[2], probabilities[8] = [0.01, 0.99], [0.93, 0.07]
    found = _contradicted(probabilities, np.array([0] * 6 + [1] * 6))
    assert found == [(2, 1), (8, 0)]


def test_the_command_lists_them(noisy) -> None:
    dataset, features, _ = noisy
    result = succeeds("data", "check", dataset.path, "--features", features.path)
    suspects = find_suspects(dataset, features)
    for suspect in suspects:
        assert f"warning: {suspect.where}: labelled {suspect.given}, but" in result.out
    report = json.loads(
        succeeds("data", "check", dataset.path, "--features", features.path, "--json").out
    )
    found = [finding for finding in report["findings"] if finding["kind"] == "label-noise"]
    assert [finding["row"] for finding in found] == [suspect.row for suspect in suspects]
    assert set(found[0]) == {
        "level", "kind", "where", "message",
        "split", "row", "instruction", "given", "suggested", "probability",
    }  # fmt: skip
    without = json.loads(succeeds("data", "check", dataset.path, "--json").out)
    assert len(without["findings"]) == len(report["findings"]) - len(found)


def test_features_of_another_dataset_are_an_error(noisy, tiny_dataset: Path) -> None:
    _, features, _ = noisy
    result = run("data", "check", tiny_dataset, "--features", features.path)
    assert result.code == 1
    assert "labels not checked: made of another dataset" in result.out
    assert result.out.startswith("error: ")
    [gone] = check_labels(tiny_dataset, Path("gone"))
    assert (gone.level, gone.where) == ("error", "gone")
    assert "not a complete features folder" in gone.message


def test_a_class_of_one_picture_cannot_be_held_out(tiny_base: Base, tmp_path: Path) -> None:
    sources = {}
    for name, pictures in (("zebra", 1), ("ant", 6)):
        records = []
        for number in range(6):
            image = make_image(tmp_path / f"{name}{number % pictures}.png", number % pictures)
            turns = [{"from": "human", "value": f"<image>\n{name} {number}"}]
            records.append(json.dumps({"conversations": turns, "image": image.name}))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(records))
        sources[name] = [str(tmp_path / f"{name}.jsonl")]
        make_image(tmp_path / "x.png", 99)
    dataset = generate_dataset(sources, tmp_path / "data", val=0, test=0)
    features = preprocess(dataset, tiny_base, tmp_path / "features", FeatureRecipe((1,)))
    with pytest.raises(SampleError, match="a class has a single picture"):
        find_suspects(dataset, features)
