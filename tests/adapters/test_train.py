import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pointsman.adapters.files import NOTE, WEIGHTS
from pointsman.adapters.peft import attach, load_base_with_loras
from pointsman.adapters.train import AdapterSettings, train_adapter
from pointsman.adapters.trainer import ByLength, workers_for
from pointsman.conversation import Prompt, Turn, user_turn
from pointsman.data.dataset import Dataset
from pointsman.errors import (
    ArtefactError,
    ConfigError,
    ImageError,
    LabelError,
    MismatchError,
    SampleError,
)
from pointsman.images import load_image
from pointsman.models.base import Base, load_base
from pointsman.progress import Progress
from pointsman.sample import RoutingSample, load_prompt
from support.processes import ended, start
from support.tiny import ADAPTERS, make_adapter, make_base, make_image

# Python 3.12 and later warn of any fork beside threads; the workers use none of them.
FORKS = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture
def copied(tiny_adapters: dict[str, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_adapters["calendar"], tmp_path / "calendar"))


@pytest.fixture
def fresh(tiny_base_folder: Path) -> Base:
    return load_base(str(tiny_base_folder))


def test_every_adapter_is_loaded_and_frozen(
    tiny_base_folder: Path, tiny_adapters: dict[str, str]
) -> None:
    base = load_base_with_loras(str(tiny_base_folder), tiny_adapters)
    assert isinstance(base.model, PeftModel)
    assert list(base.model.peft_config) == list(ADAPTERS)
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    for name, folder in tiny_adapters.items():
        for key, tensor in load_file(Path(folder) / "adapter_model.safetensors").items():
            path = key.removeprefix("base_model.model.").removesuffix(".weight")
            loaded = base.model.get_base_model().get_submodule(path)[name].weight
            assert torch.equal(loaded, tensor)


def test_trained_adapter_is_a_plain_peft_folder(
    fresh: Base, tiny_data: Dataset, tiny_base_folder: Path, tmp_path: Path
) -> None:
    samples = [s for s in tiny_data.splits["train"] if s.adapter == "calendar"]
    before = {name: tensor.clone() for name, tensor in fresh.model.state_dict().items()}
    settings = AdapterSettings(layers_from=2, batch_size=2, rank=4, epochs=4)
    seen: list[tuple[int, int]] = []
    out = train_adapter(
        "calendar", samples, fresh, tmp_path / "out", settings, progress=lambda *at: seen.append(at)
    )
    after = fresh.model.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    files = {"adapter_config.json", "adapter_model.safetensors", "pointsman.json"}
    assert {path.name for path in out.iterdir()} == files
    assert seen[-1][0] == seen[-1][1] == len(seen)
    tensors = load_file(out / "adapter_model.safetensors")
    layers = {int(key.split(".layers.")[1].split(".")[0]) for key in tensors}
    assert layers == {2, 3}
    assert any(float(t.abs().max()) > 0 for key, t in tensors.items() if "lora_B" in key)
    # Any tool can load it: PEFT alone, on a base that Pointsman never saw.
    other = load_base(str(tiny_base_folder)).model
    PeftModel.from_pretrained(other, str(out), adapter_name="calendar")


def test_gradients_stop_at_the_first_adapted_layer(
    fresh: Base, tiny_data: Dataset, tmp_path: Path
) -> None:
    samples = [s for s in tiny_data.splits["train"] if s.adapter == "calendar"][:2]
    language, seen = fresh.core.language_model, []
    for module in (language.rotary_emb, *language.layers):
        module.register_forward_pre_hook(lambda _, args: seen.append(args[0].requires_grad))
    train_adapter(
        "calendar", samples, fresh, tmp_path / "out", AdapterSettings(rank=2, layers_from=2)
    )
    assert seen == [False, False, False, False, True]


def test_training_lowers_the_loss_of_its_answers(
    fresh: Base, tiny_data: Dataset, tmp_path: Path
) -> None:
    samples = [s for s in tiny_data.splits["train"] if s.adapter == "calendar"]
    settings = AdapterSettings(batch_size=4, epochs=40, learning_rate=1e-2)
    out = train_adapter(
        "calendar", samples, fresh, tmp_path / "out", settings, log_dir=tmp_path / "curves"
    )
    events = EventAccumulator(str(tmp_path / "curves")).Reload()
    assert len(events.Scalars("train/loss")) > 2
    losses = [entry["loss"] for entry in json.loads((out / "pointsman.json").read_text())["loss"]]
    assert losses[-1] < losses[0] / 2


def test_killed_training_goes_on(
    tiny_dataset: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["adapters", "train", "calendar", tiny_dataset, "--base", tiny_base_folder]
    command += ["--out", out, "--epochs", "15", "--batch-size", "1", "--rank", "2", "--json"]
    process = start(*command)
    deadline = time.monotonic() + 120
    while not list(out.glob("checkpoints/checkpoint-*/trainer_state.json")):
        assert process.is_alive(), "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    ended(process)
    checkpoint = max(
        int(path.parent.name.split("-")[1])
        for path in out.glob("checkpoints/checkpoint-*/trainer_state.json")
    )
    shown = tmp_path / "shown"
    assert ended(start(*command, shown=shown)) == 0, shown.with_suffix(".err").read_text()
    note = json.loads(shown.with_suffix(".out").read_text())
    steps = [entry["step"] for entry in note["loss"]]
    assert steps == sorted(set(steps)), "a step was trained twice or lost"
    assert checkpoint >= 50
    assert not (out / "checkpoints").exists()


@FORKS
def test_workers_change_no_byte_and_end(
    tiny_base_folder: Path, tiny_data: Dataset, tmp_path: Path
) -> None:
    samples = [s for s in tiny_data.splits["train"] if s.adapter == "calendar"]
    settings = AdapterSettings(batch_size=2, rank=2, epochs=3)
    written = []
    for workers in (0, 2):
        out = tmp_path / str(workers)
        base = load_base(str(tiny_base_folder))
        train_adapter("calendar", samples, base, out, settings, workers=workers)
        written.append([(out / name).read_bytes() for name in (WEIGHTS, NOTE)])
    assert written[0] == written[1]
    assert not multiprocessing.active_children()


@FORKS
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_training_ends_with_the_bytes_of_a_whole_one(
    tiny_base_folder: Path, tiny_data: Dataset, tmp_path: Path, workers: int
) -> None:
    samples = [s for s in tiny_data.splits["train"] if s.adapter == "calendar"]
    settings = AdapterSettings(batch_size=2, rank=2, epochs=3, save_every=2)

    def stop(done: int, total: int) -> None:
        if done == total // 2 + 2:
            raise KeyboardInterrupt

    def run(out: Path, progress: Progress | None = None) -> Path:
        base = load_base(str(tiny_base_folder))
        return train_adapter(
            "calendar", samples, base, out, settings, progress=progress, workers=workers
        )

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", stop)
    assert not multiprocessing.active_children()
    assert list((tmp_path / "stopped/checkpoints").glob("checkpoint-*"))
    stopped, whole = run(tmp_path / "stopped"), run(tmp_path / "whole")
    assert (stopped / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert not multiprocessing.active_children()


@FORKS
@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_one_line_that_names_it(
    fresh: Base, tmp_path: Path, workers: int
) -> None:
    path = make_image(tmp_path / "a.png", 0)
    path.write_bytes(path.read_bytes()[:-2000])  # its header says its size, its pixels are cut off
    turns = (user_turn("Go"), Turn("assistant", ("ok",)))
    samples = [RoutingSample(turns, (str(path),))]
    with pytest.raises(ImageError) as raised:
        train_adapter("calendar", samples, fresh, tmp_path / "out", workers=workers)
    assert str(raised.value).startswith(f"{path}: the image is corrupt or cut off")
    assert "\n" not in str(raised.value)
    assert not multiprocessing.active_children()


def test_batches_are_of_like_length_and_random() -> None:
    lengths = [index * 7 % 40 for index in range(203)]
    samples = [RoutingSample((user_turn("Go"),), (f"{i}.png",)) for i in range(203)]
    order = ByLength(samples, lengths, 4, seed=1)
    epochs = []
    for epoch in range(2):
        order.set_epoch(epoch)
        epochs.append(list(order))
        assert sorted(epochs[-1]) == list(range(203))
        assert list(order) == epochs[-1]
    batches = [[lengths[i] for i in epochs[0][start : start + 4]] for start in range(0, 203, 4)]
    padding = sum(4 * max(batch) for batch in batches[:-1]) / sum(map(sum, batches[:-1]))
    assert padding < 1.1  # 1.6 where batches are random
    assert epochs[0] != epochs[1]
    firsts = [max(batch) for batch in batches]
    assert firsts != sorted(firsts)


def test_samples_of_one_picture_stay_together() -> None:
    samples = [RoutingSample((user_turn("Go"),), (f"{i % 40}.png",)) for i in range(200)]
    order = list(ByLength(samples, [7] * 200, 20, seed=1))
    assert sorted(order) == list(range(200))
    batches = [order[start : start + 20] for start in range(0, 200, 20)]
    assert all(len({index % 40 for index in batch}) == 4 for batch in batches)


def test_a_picture_is_decoded_and_seen_once_in_a_batch(
    fresh: Base, tiny_data: Dataset, tmp_path: Path
) -> None:
    """Whether the tower sees images one by one or together, the states are the same."""
    first, second = (load_image(s.images[0]) for s in tiny_data.splits["train"][:2])
    turns = (user_turn("Go", 1), Turn("assistant", ("ok",)))
    prompts = [Prompt(turns, (image,)) for image in (first, second, first)]
    encoded, _ = fresh.encode_answers(prompts)
    alone = sum(len(fresh.encode([prompt])["pixels"]) for prompt in prompts[:2])
    assert len(encoded["pixels"]) == alone
    assert encoded["image_index"].tolist() == [0, 1, 0]
    with torch.no_grad():
        states = [
            fresh.core(**inputs).last_hidden_state
            for inputs in (
                fresh.model_inputs(encoded),
                fresh.model_inputs(encoded, fresh.image_features_at_once(encoded)),
                fresh.stock_inputs(encoded),
            )
        ]
    assert torch.allclose(states[0], states[1], atol=1e-5)
    assert torch.allclose(states[0], states[2], atol=1e-5)
    assert not torch.allclose(states[0][0], states[0][1], atol=1e-2)


def test_workers_fit_cores_memory_and_batches(fresh: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    assert workers_for(fresh, 8, [100] * 800) == 0  # on the CPU
    monkeypatch.setattr(Base, "device", torch.device("cuda"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16))
    space = SimpleNamespace(free=2**40)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: space)
    assert workers_for(fresh, 8, [100] * 800) == 12
    assert workers_for(fresh, 8, [100] * 20) == 3
    space.free = 2**26  # the shared memory of a container
    assert workers_for(fresh, 8, [100] * 800) == 6
    assert workers_for(fresh, 64, [450] * 800) == 0
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(1))
    space.free = 2**40
    assert workers_for(fresh, 8, [100] * 800) == 0


def test_an_adapter_is_not_overwritten(fresh: Base, tiny_data: Dataset, copied: Path) -> None:
    with pytest.raises(ArtefactError, match="holds an adapter already"):
        train_adapter("calendar", tiny_data.splits["train"], fresh, copied)


def test_needs_answers(fresh: Base, tmp_path: Path) -> None:
    silent = RoutingSample((user_turn("Go", 0),), ())
    with pytest.raises(SampleError, match="no sample with an assistant turn"):
        train_adapter("calendar", [silent], fresh, tmp_path)


def test_layers_from_must_be_there(fresh: Base, tiny_data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="layers_from 4: the base has 4 layers"):
        train_adapter(
            "calendar",
            tiny_data.splits["train"],
            fresh,
            tmp_path,
            AdapterSettings(layers_from=4),
        )


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"epochs": 0.0}, {"layers_from": -1}])
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        AdapterSettings(**wrong)  # type: ignore[arg-type]


def test_missing_folder(fresh: Base, tiny_base_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"adapter calendar: .*no such folder"):
        load_base_with_loras(str(tiny_base_folder), {"calendar": str(tmp_path / "a/b/absent")})
    with pytest.raises(ArtefactError, match=r"no adapter_config\.json"):
        load_base_with_loras(str(tiny_base_folder), {"calendar": str(tmp_path)})


def test_illegal_name(tiny_base_folder: Path, copied: Path) -> None:
    for name in ("a.b", "__base__", ""):
        with pytest.raises(LabelError):
            load_base_with_loras(str(tiny_base_folder), {name: str(copied)})


def test_pickled_weights_are_never_loaded(tiny_base_folder: Path, copied: Path) -> None:
    (copied / "adapter_model.safetensors").unlink()
    torch.save({}, copied / "adapter_model.bin")
    with pytest.raises(ArtefactError, match="is a pickle, which is never loaded"):
        load_base_with_loras(str(tiny_base_folder), {"calendar": str(copied)})
    torch.save({}, copied / "adapter_model.safetensors")
    with pytest.raises(ArtefactError, match="a pickle under this name is never loaded"):
        load_base_with_loras(str(tiny_base_folder), {"calendar": str(copied)})


def test_truncated_weights(fresh: Base, copied: Path) -> None:
    path = copied / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArtefactError, match="a truncated one"):
        attach(fresh, "calendar", copied)


def test_weights_that_match_nothing(fresh: Base, copied: Path) -> None:
    """A text-only adapter: loads without an exception in PEFT and changes nothing."""
    path = copied / "adapter_model.safetensors"
    renamed = {
        key.replace("model.language_model.layers", "model.layers"): tensor
        for key, tensor in load_file(path).items()
    }
    save_file(renamed, path)
    with pytest.raises(ArtefactError, match="match nothing in the base"):
        attach(fresh, "calendar", copied)


def test_half_of_the_weights(fresh: Base, copied: Path) -> None:
    path = copied / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({key: t for key, t in tensors.items() if ".layers.0." not in key}, path)
    with pytest.raises(ArtefactError, match="14 are missing"):
        attach(fresh, "calendar", copied)


def test_base_of_another_shape(copied: Path, tmp_path: Path) -> None:
    base = load_base(str(make_base(tmp_path / "deeper", layers=6)))
    with pytest.raises(ArtefactError, match="are missing"):
        attach(base, "calendar", copied)


def test_base_of_another_hub_id(fresh: Base, copied: Path) -> None:
    config = json.loads((copied / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "Qwen/Qwen3-VL-8B-Instruct"
    (copied / "adapter_config.json").write_text(json.dumps(config))
    other = Base(**(vars(fresh) | {"id": "Qwen/Qwen3-VL-4B-Instruct"}))
    with pytest.raises(MismatchError, match=r"made for Qwen/Qwen3-VL-8B-Instruct, not for"):
        attach(other, "calendar", copied)


def test_base_of_the_same_shape_but_other_weights(
    fresh: Base, tiny_data: Dataset, tmp_path: Path
) -> None:
    """Silent in PEFT; the note that train_adapter writes tells."""
    samples = [s for s in tiny_data.splits["train"] if s.adapter == "calendar"][:2]
    out = train_adapter("calendar", samples, fresh, tmp_path / "out", AdapterSettings(rank=2))
    other = load_base(str(make_base(tmp_path / "other", seed=9)))
    with pytest.raises(MismatchError, match="differ in their weights"):
        attach(other, "calendar", out)


def test_adapters_change_answers(
    tiny_base_folder: Path, tiny_adapters: dict[str, str], tiny_data: Dataset, tmp_path: Path
) -> None:
    extra = make_adapter(
        tiny_base_folder, tmp_path / "upper", 7, layers_to_transform=[2, 3], layers_pattern="layers"
    )
    base = load_base_with_loras(str(tiny_base_folder), tiny_adapters | {"upper": str(extra)})
    encoded = base.encode([load_prompt(tiny_data.splits["train"][0])])
    logits = []
    with torch.inference_mode():
        for name in base.model.peft_config:
            base.model.set_adapter(name, inference_mode=True)
            logits.append(base.model(**base.model_inputs(encoded)).logits[0, -1])
        with base.model.disable_adapter():
            logits.append(base.model(**base.model_inputs(encoded)).logits[0, -1])
    for index, row in enumerate(logits):
        assert not any(torch.allclose(row, other, atol=1e-3) for other in logits[:index])
