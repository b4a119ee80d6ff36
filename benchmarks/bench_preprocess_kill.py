"""kill -9 at 20 random moments of `pointsman preprocess`: does it go on to the same bytes?

Each run is a process of its own and is killed at a uniformly random moment between its start and
the time that an undisturbed run takes. A run that ends before its kill is compared with the
undisturbed one, byte by byte, and then started over.
"""

import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import report

from lab.screens import write_screens
from pointsman.data.generate import generate_dataset

KILLS, SAMPLES = 20, 320


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def main() -> None:
    rng = random.Random(7)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_screens(folder / "screens", SAMPLES, seed=5, out_of_scope=0, sizes=[(320, 256)])
        names = ("calendar", "claim-window", "provider-select")
        sources = {name: [str(folder / "screens" / f"{name}.jsonl")] for name in names}
        generate_dataset(sources, folder / "dataset", val=0.2, test=0.2)

        def start(out: str) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "pointsman", "preprocess"]
            command += [str(folder / "dataset"), "--out", str(folder / out)]
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        begun = time.perf_counter()
        assert start("whole").wait() == 0
        undisturbed = time.perf_counter() - begun
        expected = content(folder / "whole")
        kills, resumes, equal, moments = 0, 0, [], []
        while kills < KILLS:
            process, moment = start("killed"), rng.random() * undisturbed
            resumes += (folder / "killed").exists()
            try:
                assert process.wait(moment) == 0
                equal.append(content(folder / "killed") == expected)
                shutil.rmtree(folder / "killed")
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
                found = (folder / "killed").glob("*.safetensors")
                moments.append({"seconds": round(moment, 2), "shards": len(list(found))})
        assert start("killed").wait() == 0
        equal.append(content(folder / "killed") == expected)
    report(
        "preprocess_kill",
        {
            "kills": kills,
            "kills_after_a_shard": resumes,
            "completed": len(equal),
            "bytes_equal": sum(equal),
            "undisturbed_seconds": round(undisturbed, 1),
            "moments": moments,
        },
    )


if __name__ == "__main__":
    main()
