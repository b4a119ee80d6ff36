import json
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from pointsman.conversation import Prompt, Turn, user_turn
from pointsman.data.dataset import Dataset, read_dataset, seal, write_files
from pointsman.data.generate import generate_dataset
from pointsman.errors import ArtefactError, ConfigError, ImageError, MismatchError, SampleError
from pointsman.files import digest_bytes, sole_run
from pointsman.models.base import Base, load_base
from pointsman.models.features import FeatureRecipe, Pooling, extract, probe_features
from pointsman.routing.feature_store import Features, preprocess, read_features
from pointsman.sample import load_prompt, read_samples
from support.processes import ended, start
from support.tiny import ADAPTERS, make_base, make_image

RECIPE = FeatureRecipe((1, 2, 3))


def prompt(text: str, color: int = 90) -> Prompt:
    return Prompt((user_turn(text),), (Image.new("RGB", (64, 64), (color, 20, 200)),))


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_first_pooling_is_refused_with_the_reason(
    tiny_data: Dataset, tiny_base: Base, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"position 0 of a causal .* attends only to itself"):
        preprocess(tiny_data, tiny_base, tmp_path / "out", FeatureRecipe((2,), ("first",)))


@pytest.mark.parametrize("layers", [(), (0, 1), (2, 1), (1, 1)])
def test_recipe_refuses_impossible_layers(layers: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="ascending depths"):
        FeatureRecipe(layers)


def test_recipe_refuses_unknown_pooling() -> None:
    with pytest.raises(ConfigError, match="unknown pooling 'max'"):
        FeatureRecipe((1,), ("max",))  # type: ignore[arg-type]


@pytest.mark.parametrize("poolings", [(), ("last", "last")])
def test_recipe_refuses_no_and_double_poolings(poolings: tuple[Pooling, ...]) -> None:
    with pytest.raises(ConfigError, match="give one or more of last, mean, image-mean"):
        FeatureRecipe((1,), poolings)


def test_default_recipe_is_quarters_of_the_depth(tiny_base: Base) -> None:
    assert FeatureRecipe.default(tiny_base) == FeatureRecipe((1, 2, 3), ("last",), "conversation")


def test_extract_equals_the_naive_full_forward(tiny_base: Base) -> None:
    """Batched, stopped early, padded on either side: the same as one full forward each."""
    prompts = [prompt("Pick day 3"), prompt("Go", 10), prompt("Book with doctor 14", 200)]
    recipe = FeatureRecipe((2, 3), ("image-mean", "last", "mean"))
    assert [str(place) for place in recipe.places[:2]] == ["layer 2 (image-mean)", "layer 2 (last)"]
    with torch.inference_mode():
        for side in ("left", "right"):
            encoded = tiny_base.encode(prompts, padding_side=side)  # type: ignore[arg-type]
            batched = extract(tiny_base, encoded, recipe)
            for row, single in enumerate(prompts):
                alone = tiny_base.encode([single])
                states = tiny_base.core(
                    **tiny_base.stock_inputs(alone), output_hidden_states=True
                ).hidden_states
                for column, (depth, pooling) in enumerate(recipe.places):
                    state = states[depth][0]
                    if pooling == "last":
                        expected = state[-1]
                    elif pooling == "mean":
                        expected = state.mean(0)
                    else:
                        expected = state[alone["mm_token_type_ids"][0].bool()].mean(0)
                    assert torch.allclose(batched[row, column], expected, atol=1e-4)


def test_image_mean_needs_an_image(tiny_base: Base) -> None:
    encoded = tiny_base.encode([Prompt((user_turn("Go", 0),), ())])
    with pytest.raises(SampleError, match="'image-mean' needs an image"):
        extract(tiny_base, encoded, FeatureRecipe((1,), ("image-mean",)))


def test_the_answer_never_reaches_the_router(tiny_data: Dataset, tiny_base: Base) -> None:
    """Remove the filter of assistant turns in ``sample.routed_part`` and this fails."""
    sample = tiny_data.splits["train"][0]
    assert sample.answer is not None
    read = load_prompt(sample)
    assert all(turn.role != "assistant" for turn in read.turns)
    assert sample.answer not in tiny_base.render(read.turns)
    silent = Prompt(tuple(turn for turn in sample.turns if turn.role == "user"), read.images)
    loud = type(sample)(
        (*silent.turns, Turn("assistant", ("I am the calendar adapter",))), sample.images, 0, "x"
    )
    with torch.inference_mode():
        without = extract(tiny_base, tiny_base.encode([silent]), RECIPE)
        assert torch.equal(
            extract(tiny_base, tiny_base.encode([load_prompt(loud)]), RECIPE), without
        )


def test_features_come_back_in_dataset_order(
    tiny_features: Features, tiny_data: Dataset, tiny_base: Base
) -> None:
    for split, samples in tiny_data.splits.items():
        values, labels = tiny_features.splits[split]
        assert labels.tolist() == [sample.label for sample in samples]
        for row in (0, len(samples) - 1):
            with torch.inference_mode():
                encoded = tiny_base.encode([load_prompt(samples[row])])
                expected = extract(tiny_base, encoded, RECIPE)[0]
            assert torch.allclose(values[row], expected, atol=1e-4)


def test_metadata_carries_the_label_map(tiny_features: Features) -> None:
    metadata = json.loads((tiny_features.path / "metadata.json").read_text())
    assert metadata["num_classes"] == 3
    assert metadata["class_names"] == list(ADAPTERS)
    assert metadata["recipe"] == {
        "layers": [1, 2, 3],
        "poolings": ["last"],
        "history": "conversation",
    }


def altered(features: Features, tmp_path: Path, **changes: object) -> Path:
    for path in features.path.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    (tmp_path / "metadata.json").write_text(json.dumps(metadata | changes))
    return tmp_path


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": ["provider-select", "claim-window", "calendar"]},
        {"recipe": {"layers": [1, 2, 3], "poolings": ["mean"]}},
        {"hidden_size": 64},
    ],
)
def test_changed_metadata_is_refused(
    tiny_features: Features, tmp_path: Path, changes: dict[str, object]
) -> None:
    folder = altered(tiny_features, tmp_path, **changes)
    with pytest.raises(MismatchError, match="do not belong together"):
        read_features(folder)


def test_incomplete_features_say_how_to_go_on(tiny_features: Features, tmp_path: Path) -> None:
    folder = altered(tiny_features, tmp_path)
    (folder / "metadata.json").unlink()
    with pytest.raises(ArtefactError, match="resumes where it stopped"):
        read_features(folder)


def test_truncated_shard_is_refused(tiny_features: Features, tmp_path: Path) -> None:
    folder = altered(tiny_features, tmp_path)
    shard = folder / "train-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(ArtefactError, match=r"train-00000\.safetensors: not a safetensors file"):
        read_features(folder)


def test_a_finished_folder_is_not_made_again(
    tiny_features: Features, tiny_data: Dataset, tiny_base: Base
) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_features.path.iterdir()}
    preprocess(tiny_data, tiny_base, tiny_features.path, RECIPE)
    assert before == {path: path.stat().st_mtime_ns for path in tiny_features.path.iterdir()}


def test_another_request_for_the_same_folder_is_refused(
    tiny_features: Features, tiny_data: Dataset, tiny_base: Base, tmp_path: Path
) -> None:
    with pytest.raises(MismatchError, match="of another recipe"):
        preprocess(tiny_data, tiny_base, tiny_features.path, FeatureRecipe((1, 2)))
    other = load_base(str(make_base(tmp_path / "other", seed=9)))
    with pytest.raises(MismatchError, match="of another base or encoder"):
        preprocess(tiny_data, other, tiny_features.path, RECIPE)


def test_a_layer_that_the_base_has_not(tiny_data: Dataset, tiny_base: Base, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"layer 9: .* has layers 1 to 4"):
        preprocess(tiny_data, tiny_base, tmp_path / "out", FeatureRecipe((9,)))


def test_probes_tell_bases_apart(tiny_base: Base, tmp_path: Path) -> None:
    other = load_base(str(make_base(tmp_path / "other", seed=9)))
    mine, again = probe_features(tiny_base, RECIPE), probe_features(tiny_base, RECIPE)
    assert mine.shape == (3, 3, tiny_base.hidden_size)
    assert torch.equal(mine, again)
    assert not torch.allclose(mine, probe_features(other, RECIPE), atol=0.1)


def test_an_image_that_went_missing_is_named(
    tiny_sources: dict[str, list[str]], tiny_base: Base, tmp_path: Path
) -> None:
    dataset = generate_dataset(tiny_sources, tmp_path / "data", val=0.2, test=0.2)
    victim = Path(dataset.splits["train"][0].images[0])
    victim.unlink()
    with pytest.raises(ImageError, match=f"{victim.name}: no such image"):
        preprocess(read_dataset(tmp_path / "data"), tiny_base, tmp_path / "out", RECIPE)


def test_an_image_replaced_after_generation_is_noticed(
    tiny_sources: dict[str, list[str]], tiny_base: Base, tmp_path: Path
) -> None:
    """By a first run, by one that resumes, and where the features are finished."""
    dataset = generate_dataset(tiny_sources, tmp_path / "data", val=0.2, test=0.2)
    preprocess(dataset, tiny_base, tmp_path / "finished", RECIPE)
    (tmp_path / "resumed").mkdir()
    for shard in (tmp_path / "finished").glob("train-*"):
        (tmp_path / "resumed" / shard.name).write_bytes(shard.read_bytes())
    before = folder_bytes(tmp_path / "resumed")
    victim = Path(dataset.splits["train"][0].images[0])
    content = victim.read_bytes()
    make_image(victim, 12345, (64, 64))
    for out in ("first", "resumed", "finished"):
        with pytest.raises(MismatchError, match=f"{victim.name}: was changed after the dataset"):
            preprocess(read_dataset(tmp_path / "data"), tiny_base, tmp_path / out, RECIPE)
    assert not (tmp_path / "first").exists()
    assert folder_bytes(tmp_path / "resumed") == before
    victim.write_bytes(content)
    preprocess(read_dataset(tmp_path / "data"), tiny_base, tmp_path / "resumed", RECIPE)
    assert folder_bytes(tmp_path / "resumed") == folder_bytes(tmp_path / "finished")


def test_an_image_replaced_while_features_are_made_is_noticed(
    many: Path, tiny_base: Base, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(many, tmp_path / "data"))
    dataset = read_dataset(data)
    images = [Path(sample.images[0]) for sample in dataset.splits["val"]]

    def swap(done: int, total: int | None = None, step: str = "") -> None:
        if not step:  # a shard is done
            for image in images:
                make_image(image, 12345, (64, 32))

    with pytest.raises(MismatchError, match=r"png: was changed after the dataset"):
        preprocess(dataset, tiny_base, tmp_path / "out", RECIPE, progress=swap)


def test_an_image_of_any_name_is_compared(
    tiny_data: Dataset, tiny_base: Base, tmp_path: Path
) -> None:
    shutil.copytree(tiny_data.path, tmp_path / "data")
    old = min((tmp_path / "data/images").iterdir())
    digests = {path.read_bytes() for path in (tmp_path / "data/images").iterdir()}
    new = old.rename(old.with_name("shot.png"))
    splits = {
        name: [
            replace(s, images=tuple(i.replace(old.name, new.name) for i in s.images))
            for s in read_samples(tiny_data.path / f"{name}.jsonl", tiny_data.labels)
        ]
        for name in tiny_data.splits
    }
    splits = {
        name: [replace(s, images=tuple(f"images/{Path(i).name}" for i in s.images)) for s in kept]
        for name, kept in splits.items()
    }
    sealed = seal(tiny_data.labels, splits, map(digest_bytes, digests), {})
    write_files(tmp_path / "data", sealed)
    preprocess(read_dataset(tmp_path / "data"), tiny_base, tmp_path / "out", RECIPE)
    make_image(new, 12345, (64, 64))
    with pytest.raises(MismatchError, match=r"images: was changed after the dataset was made"):
        preprocess(read_dataset(tmp_path / "data"), tiny_base, tmp_path / "out", RECIPE)


def test_two_runs_into_one_folder(tiny_data: Dataset, tiny_base: Base, tmp_path: Path) -> None:
    with (
        sole_run(tmp_path / "out"),
        pytest.raises(ArtefactError, match="out: another run is writing to it"),
    ):
        preprocess(tiny_data, tiny_base, tmp_path / "out", RECIPE)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough samples for several shards."""
    folder = tmp_path_factory.mktemp("many")
    sources = {}
    for label, adapter in enumerate(ADAPTERS):
        lines = []
        for number in range(110):
            name = f"images/{label}-{number}.png"
            make_image(folder / name, label * 1000 + number, (64, 32))
            turns = [{"from": "human", "value": f"<image>\n{adapter} {number}"}]
            lines.append(json.dumps({"conversations": turns, "image": name}))
        (folder / f"{adapter}.jsonl").write_text("\n".join(lines))
        sources[adapter] = [str(folder / f"{adapter}.jsonl")]
    generate_dataset(sources, folder / "dataset", val=0.2, test=0.2)
    return folder / "dataset"


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(
    many: Path, tiny_base: Base, tiny_base_folder: Path, tmp_path: Path
) -> None:
    """The full measurement, 20 kills, is benchmarks/bench_preprocess_kill.py."""
    whole = tmp_path / "whole"
    preprocess(read_dataset(many), tiny_base, whole, RECIPE)
    command = ["preprocess", many, "--layers", "1,2,3"]
    command += ["--base", tiny_base_folder, "--out", tmp_path / "killed"]
    rng = random.Random(1)
    kills = 0
    while kills < 3:
        process = start(*command)
        shards = len(list((tmp_path / "killed").glob("*.safetensors")))
        deadline = time.monotonic() + 60
        # Past a new shard: earlier the kill would only hit the loading of the base.
        while len(list((tmp_path / "killed").glob("*.safetensors"))) == shards:
            assert process.is_alive(), "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        process.kill()
        ended(process)
        kills += 1
        if (tmp_path / "killed" / "metadata.json").is_file():
            break
    assert ended(start(*command)) == 0
    assert folder_bytes(tmp_path / "killed") == folder_bytes(whole)
