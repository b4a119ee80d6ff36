"""Whole runs at toy scale: learning, resuming, evaluating, exporting."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lab.pretrain import checkpoint
from lab.pretrain.__main__ import main as pretrain_command
from lab.pretrain.augment import resized
from lab.pretrain.checkpoint import Progress
from lab.pretrain.config import SHAPES, TOY, TrainConfig
from lab.pretrain.evaluate import _lies_in, answers, fresh_batches
from lab.pretrain.export import export
from lab.pretrain.network import Network
from lab.pretrain.packing import Packer
from lab.pretrain.tokenizer import load_tokenizer
from lab.pretrain.train import train
from pointsman.conversation import Prompt, Turn
from pointsman.errors import ArtefactError, ConfigError, MismatchError
from pointsman.models.base import load_base

QUICK = replace(TOY, log_seconds=0.0, evaluation_screens=4, warm_up_steps=5)


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["event"] == "train"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain") / "trained"
    train(replace(QUICK, steps=60), folder)
    return folder


def test_a_toy_run_learns(trained: Path) -> None:
    curve = losses(trained)
    assert len(curve) == 60
    assert sum(curve[-5:]) / 5 < 0.75 * curve[0]
    assert (trained / "curves.png").read_bytes().startswith(b"\x89PNG")
    last = json.loads((trained / "log.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "evaluation"
    assert set(last["scores"]) == {
        "fresh",
        "held-out phrasings",
        "inverted",
        "JPEG 60",
        "blank image",
    }
    assert all(
        0 <= score["exact"] <= score["inside"] <= 1 for score in last["scores"]["fresh"].values()
    )


def test_a_resumed_run_goes_on_as_if_nothing_had_happened(trained: Path, tmp_path: Path) -> None:
    straight = losses(trained)
    # Stopped in the middle: the schedule looks at all steps, so it must be told of them.
    folder = tmp_path / "resumed"
    halfway = Stopped(replace(QUICK, steps=60), folder, 20)
    halfway.run()
    progress = train(replace(QUICK, steps=60), folder)
    assert (progress.runs, progress.step) == (2, 60)
    resumed = losses(folder)
    assert resumed[:20] == straight[:20]
    assert len(resumed) == 60
    # Weights and momentum were rounded once, so it is close, and no more.
    assert resumed[20:30] == pytest.approx(straight[20:30], rel=0.01)
    assert resumed[30:] == pytest.approx(straight[30:], rel=0.1)


class Stopped:
    """A run that ends, saved, after some of its steps."""

    def __init__(self, settings: TrainConfig, folder: Path, after: int) -> None:
        self._settings, self._folder, self._after = settings, folder, after

    def run(self) -> None:
        from lab.pretrain.feed import Feed
        from lab.pretrain.ranks import Ranks
        from lab.pretrain.train import Trainer

        with Feed(self._settings) as feed:
            trainer = Trainer(self._settings, self._folder, time.monotonic(), Ranks())
            trainer._has_time = lambda end: trainer.progress.step < self._after  # type: ignore[method-assign]
            trainer.train(feed)
            trainer.save()


def test_ranks_train_as_one(tmp_path: Path) -> None:
    """Two processes: half of the screens each, the same weights at every step."""
    code = (
        "import sys, hashlib, torch; from dataclasses import replace; from pathlib import Path\n"
        "import lab.pretrain.train as module\n"
        "from lab.pretrain.config import TOY\n"
        "step = module.Trainer._step\n"
        "def told(self, *args):\n"
        "    step(self, *args)\n"
        "    weights = torch.cat([p.flatten() for p in self._network.parameters()])\n"
        "    digest = hashlib.sha256(weights.detach().numpy().tobytes()).hexdigest()\n"
        "    path = Path(sys.argv[1]) / f'digests-{self._ranks.rank}'\n"
        "    with path.open('a') as file: file.write(digest + chr(10))\n"
        "module.Trainer._step = told\n"
        "module.train(replace(TOY, steps=4, evaluation_screens=4), Path(sys.argv[1]) / 'run')\n"
    )
    script = tmp_path / "ranks.py"
    script.write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2"]
    subprocess.run(
        [*command, str(script), str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
    )
    first, second = ((tmp_path / f"digests-{rank}").read_text().split() for rank in (0, 1))
    assert first == second
    assert len(set(first)) == 4
    progress = json.loads((tmp_path / "run" / "progress.json").read_text())
    alone = train(replace(TOY, steps=8, evaluation_screens=4), tmp_path / "alone")
    # They draw what one process draws in twice the steps.
    assert progress["screens"] == alone.screens


def test_the_command_survives_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    code = (
        "from dataclasses import replace; from pathlib import Path\n"
        "from lab.pretrain.config import TOY\n"
        "from lab.pretrain.train import train\n"
        "settings = replace(TOY, steps=10**6, save_seconds=0.5, log_seconds=0.2)\n"
        f"train(settings, Path({str(folder)!r}))"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 40
    while not (folder / "progress.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.7)  # into or near another checkpoint
    process.send_signal(signal.SIGKILL)
    process.wait()
    network = Network(SHAPES["toy"], Packer(load_tokenizer(), 8))
    progress = checkpoint.load(folder, network, None, "toy", TOY.seed)
    assert progress.step > 0
    done = train(replace(QUICK, steps=progress.step + 3), folder)
    assert done.step == progress.step + 3
    assert done.chunks == progress.chunks + 3
    assert len(list(folder.glob("weights-*"))) == 1


def test_checkpoints_come_in_parts_and_need_no_momentum(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lab.pretrain.optimiser import Optimiser

    monkeypatch.setattr(checkpoint, "PART_BYTES", 60_000)
    packer = Packer(load_tokenizer(), 8)
    network = Network(SHAPES["toy"], packer)
    optimiser = Optimiser(network, 0.02, 1e-3)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step(1.0)
    checkpoint.save(tmp_path, network, optimiser, Progress("toy", 1, step=1))
    parts = sorted(tmp_path.glob("weights-*"))
    assert len(parts) > 2
    # The embedding alone is larger than a part.
    assert sorted(part.stat().st_size for part in parts)[-2] < 70_000
    for path in tmp_path.glob("optimiser-*"):
        path.unlink()
    other = Network(SHAPES["toy"], packer)
    fresh = Optimiser(other, 0.02, 1e-3)
    checkpoint.load(tmp_path, other, fresh, "toy", 1)
    assert fresh.state() == {}
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], atol=1e-2, rtol=1e-2)
    parts[1].unlink()
    with pytest.raises(ArtefactError, match="no such file"):
        checkpoint.load(tmp_path, other, None, "toy", 1)
    with pytest.raises(MismatchError, match="seed 1"):
        checkpoint.load(trained, other, None, "toy", 2)


def test_settings_that_cannot_be_right_are_refused() -> None:
    with pytest.raises(ConfigError, match="'huge'"):
        replace(TOY, shape="huge")
    with pytest.raises(ConfigError, match="leaves no time"):
        replace(TOY, budget_seconds=3.0)
    with pytest.raises(ConfigError, match="too few"):
        TrainConfig(workers=40)


def test_the_exported_base_is_the_trained_network(trained: Path, tmp_path: Path) -> None:
    base = load_base(str(export(trained, tmp_path / "base")))
    packer = Packer(load_tokenizer(), 64)
    network = Network(SHAPES["toy"], packer).eval()
    checkpoint.load(trained, network, None, "toy", TOY.seed)
    batch, _ = next(fresh_batches(packer, replace(QUICK, evaluation_screens=1)))
    images = resized(batch.pixels, batch.canvas)
    with torch.no_grad():
        given = answers(network, packer, batch, images)[0]
    from PIL import Image

    image = Image.fromarray(batch.pixels[0].numpy())
    for item, tokens in list(zip(batch.items[0], given, strict=True))[::3]:
        text = packer.text(item.prompt[: -len(packer.tail)])
        encoded = base.encode([Prompt((Turn("user", (None, text)),), (image,))])
        length = encoded["input_ids"].shape[1]
        room = max(len(item.answer), 8) if item.box else len(item.answer)
        inputs = base.stock_inputs(encoded)
        output = base.model.generate(**inputs, max_new_tokens=room, do_sample=False)
        assert output[0, length:].tolist() == tokens


def test_training_goes_on_from_an_exported_base(trained: Path, tmp_path: Path) -> None:
    base = export(trained, tmp_path / "base")
    train(replace(QUICK, steps=3, base=base), tmp_path / "on")
    train(replace(QUICK, steps=3), tmp_path / "from-nothing")
    assert losses(tmp_path / "on")[0] < 0.8 * losses(tmp_path / "from-nothing")[0]
    with pytest.raises(MismatchError, match="has another shape; choose its --shape"):
        train(replace(QUICK, shape="small", base=base), tmp_path / "small")
    (base / "tokenizer.json").write_text("{}")
    with pytest.raises(MismatchError, match="has another vocabulary"):
        train(replace(QUICK, base=base), tmp_path / "other")


def test_a_trained_folder_is_not_overwritten_by_an_export(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no such file"):
        export(tmp_path / "nothing", tmp_path / "base")


def test_the_command_trains_and_refuses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def command(*arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", ["pretrain", *arguments])
        with pytest.raises(SystemExit) as stop:
            pretrain_command()
        return stop.value.code

    out = str(tmp_path / "out")
    assert command("--toy", "--steps", "2", "--budget-seconds", "20", "--out", out) == 0
    assert json.loads((tmp_path / "out" / "progress.json").read_text())["step"] == 2
    capfd.readouterr()
    assert command("--toy", "--steps", "2", "--seed", "7", "--out", out) == 1
    message = capfd.readouterr().err
    assert message.startswith("error: ")
    assert "asked for were toy and 7" in message
    assert message.count("\n") == 1


def test_points_are_right_anywhere_in_their_box() -> None:
    packer = Packer(load_tokenizer(), 8)
    box = (0.4, 0.1, 0.5, 0.2)
    for text, inside in (("450,150", True), ("400,199", True), ("399,150", False), ("450", False)):
        assert _lies_in(packer, [*packer.ids(text), packer.end], box) is inside
    assert not _lies_in(packer, packer.ids("a,b"), box)
