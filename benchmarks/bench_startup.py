"""What a first `pointsman route` costs: CPU time over that of `import torch`, in one run.

User and system time of whole processes, medians of several, in turn, so that what else the machine
does falls on all alike. The text router is a tiny one that is trained here; the pocket ships.
"""

import os
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from common import report

from pointsman.conversation import user_turn
from pointsman.data.dataset import read_dataset, seal, write_files
from pointsman.labels import LabelMap
from pointsman.models.text_encoder import load_encoder
from pointsman.pocket import pocket_folder
from pointsman.routing.feature_store import preprocess
from pointsman.routing.train import TrainSettings, train_router
from pointsman.sample import RoutingSample
from support.encoders import VERBS, make_encoder

RUNS = 7
COMMAND = (sys.executable, "-m", "pointsman")
MOST = {"text": 1.5, "pocket": 2.5}
"""Times the import of torch that routing may take"""


def cpu_seconds(command: tuple[str, ...]) -> float:
    """User and system time of a process on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {errors.decode()}")
    return usage.ru_utime + usage.ru_stime


def text_router(folder: Path) -> tuple[str, ...]:
    """Options that name a text router, made here from the tiny encoder of the tests."""
    make_encoder(folder / "encoder")
    encoder = load_encoder(str(folder / "encoder"), device="cpu")
    labels = LabelMap(tuple(VERBS))
    samples = [
        RoutingSample((user_turn(f"{words[n % 4]} {n}", 0),), (), label, name)
        for label, (name, words) in enumerate(VERBS.items())
        for n in range(40)
    ]
    splits = {"train": samples[::2], "val": samples[1::4], "test": samples[3::4]}
    write_files(folder / "data", seal(labels, splits, [], {}))
    features = preprocess(read_dataset(folder / "data"), encoder, folder / "features")
    train_router(features, folder / "router", settings=TrainSettings(mlp_sizes=(0,)))
    return ("--router", str(folder / "router"), "--encoder", str(folder / "encoder"))


def main() -> None:
    with TemporaryDirectory() as folder, pocket_folder() as pocket:
        image = sorted((pocket.parent / "screens/images").iterdir())[0]
        commands = {
            "import torch": (sys.executable, "-c", "import torch"),
            "version": (*COMMAND, "--version"),
            "text": (*COMMAND, "route", "pick a date", *text_router(Path(folder))),
            "pocket": (*COMMAND, "route", str(image), "Click the 3rd"),
        }
        for command in commands.values():  # once for what only the first has to read from disk
            cpu_seconds(command)
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(RUNS):
            for name, command in commands.items():
                taken[name].append(cpu_seconds(command))
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    ratios = {name: seconds[name] / seconds["import torch"] for name in MOST}
    report(
        "startup",
        {
            "runs": RUNS,
            "cpu_seconds": {name: round(value, 3) for name, value in seconds.items()},
            "times_import_torch": {name: round(value, 2) for name, value in ratios.items()},
            "at_most": MOST,
        },
    )


if __name__ == "__main__":
    main()
