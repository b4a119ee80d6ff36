"""Pointsman against vLLM: the same checkpoint folder, adapters and PNG files, in one run.

Each side is a process of its own, one after the other. Ours routes (``auto``), vLLM is told the
adapter. Times begin with a picture's bytes. Each request changes some pixels of its picture, so
that no cache can know it. Every figure is in the results as soon as it is measured.

``--device cuda`` serves random weights in the shape of Qwen3-VL-8B: start, first requests, first
token, steps, bursts, 1 to 64 clients, stalls, memory. ``--device cpu`` serves the pocket, and its
third side is the original's way (a full forward of the base, a head, ``set_adapter``,
``generate``; it needs the environment that ``make vllm`` makes). WORK is made, unless it is there,
and is not kept if it is not named. vLLM and Pointsman may need different versions of
transformers: ``--ours-path`` and ``--vllm-path`` are put on the PYTHONPATH of their processes.
``--fp8`` measures our side with the same base in FP8, as a plan of its own; vLLM's stays in bf16.

    python benchmarks/bench_against_vllm.py WORK --device cuda [--plan two-pass] [--fp8]
    python benchmarks/bench_against_vllm.py WORK --device cuda --shape toy --sides ours
    python benchmarks/bench_against_vllm.py [WORK]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from against_phases import ratios
from against_side import MARK
from common import RESULTS, ROOT

HERE = Path(__file__).parent
SIDES = ("ours", "vllm", "original")
SCRIPTS = {
    "ours": "against_ours.py",
    "vllm": "against_theirs.py",
    "original": "against_original.py",
}
START = ("engine_start", "process_start", "first_request", "tenth_request", "first_over_tenth")
"""Figures that a second start has too"""
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_PLUGINS": "",  # plain vLLM, even where Pointsman's plugin is installed
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
}


class Result:
    """The results' file, of which one plan is measured, our side perhaps in FP8."""

    def __init__(
        self, path: Path, made: dict[str, Any], plan: str, is_fp8: bool, settings: dict[str, Any]
    ):
        self._path, self._plan = path, f"{plan}, fp8" if is_fp8 else plan
        before = json.loads(path.read_text()) if path.is_file() else {}
        # What was measured on another machine or another checkpoint does not belong here.
        plans = before.get("plans", {}) if before.get("made") == made else {}
        self._content = {"benchmark": path.stem, "made": made, "plans": plans}
        section = plans.get(self._plan, {})
        sides = section.get("sides", {}) if section.get("settings") == settings else {}
        self.sides: dict[str, dict[str, Any]] = sides
        plans[self._plan] = {"settings": settings, "sides": sides, "ratios": {}}
        self._others = plans.get(plan, {}).get("sides", {})

    @property
    def ratios(self) -> dict[str, dict[str, float]]:
        return ratios(self._others | self.sides)

    def add(self, side: str, found: dict[str, Any]) -> None:
        """Adds figures and writes the file."""
        self.sides[side] |= found
        self._content["plans"][self._plan]["ratios"] = self.ratios
        self._path.write_text(json.dumps(self._content, indent=2) + "\n")
        print(side, json.dumps(found), flush=True)


@contextmanager
def running(
    command: Sequence[str], environment: dict[str, str], log: TextIO
) -> Iterator[Iterator[str]]:
    """Lines of a process's output, its errors apart; it does not outlive the block."""
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    try:
        yield iter(process.stdout)
        process.wait()
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def run(
    command: Sequence[str],
    environment: dict[str, str],
    log: Path,
    add: Callable[[dict[str, Any]], None],
) -> str | None:
    """Runs a side and adds its figures; returns what went wrong."""
    try:
        with log.open("w") as file, running(command, environment, file) as output:
            for line in output:
                if line.startswith(MARK):
                    add(json.loads(line.removeprefix(MARK)))
                else:
                    file.write(line)
                    file.flush()
    except subprocess.CalledProcessError as error:
        lines = log.read_text(errors="replace").splitlines()
        return f"status {error.returncode}; the end of {log.name}: {' | '.join(lines[-3:])}"
    return None


def environment_of(side: str, options: argparse.Namespace, caches: Path) -> dict[str, str]:
    """The caller's, with the side's folders, and caches that are empty at its first start."""
    environment = dict(os.environ)
    path = options.vllm_path if side == "vllm" else options.ours_path
    if options.device == "cpu" and side == "vllm":
        from support.vllm_server import settings  # it needs pytest, which a GPU machine may lack

        environment = settings()
    here = [] if side == "vllm" else [str(ROOT / "src")]
    paths = [*path.split(os.pathsep), *here, environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if options.threads:
        environment["OMP_NUM_THREADS"] = str(options.threads)
    environment.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    for name, folder in (
        ("XDG_CACHE_HOME", "."),
        ("VLLM_CACHE_ROOT", "vllm"),
        ("TORCHINDUCTOR_CACHE_DIR", "inductor"),
        ("TRITON_CACHE_DIR", "triton"),
    ):
        environment[name] = str(caches / folder)
    return environment | QUIET


def python_of(side: str, device: str) -> str:
    if side == "vllm" and device == "cpu":
        return str(ROOT / ".venv-vllm/bin/python")
    return sys.executable


def prepare(options: argparse.Namespace, environment: dict[str, str]) -> dict[str, Any]:
    """What WORK holds; it is made, unless it is there."""
    made: Path = options.work / "made.json"
    router = options.work / "router-fp8"
    if not made.is_file():
        if options.work.exists():
            raise SystemExit(f"{options.work} was not made completely: remove it, or give another")
        script, shape = "prepare_against_cpu.py", list[str]()
        if options.device == "cuda":
            script, shape = "prepare_vllm_gpu.py", ["--shape", options.shape]
        command = [sys.executable, str(HERE / script), str(options.work), *shape]
        subprocess.run(command, env=environment, check=True)
    if options.fp8 and not router.exists():
        command = [sys.executable, str(HERE / "prepare_vllm_gpu.py"), str(options.work), "--fp8"]
        subprocess.run(command, env=environment, check=True)
    found: dict[str, Any] = json.loads(made.read_text())
    wanted = "pocket" if options.device == "cpu" else options.shape
    if found["shape"] != wanted:
        raise SystemExit(f"{options.work} holds shape {found['shape']}, not {wanted}: give another")
    return found


def measure(options: argparse.Namespace, side: str, result: Result, caches: Path) -> bool:
    """Starts a side twice: in the first start, all is measured. Whether nothing went wrong."""
    command = [python_of(side, options.device), "-W", "ignore", str(HERE / SCRIPTS[side])]
    command += [str(options.work), options.plan, "--slots", str(options.slots)]
    command += ["--rounds", str(options.rounds)] if options.rounds else []
    command += ["--fp8"] if options.fp8 else []
    environment = environment_of(side, options, caches)
    result.sides[side] = {}
    is_fine = True
    # The original has nothing that a second start would find.
    for prefix in ("",) if side == "original" or options.one_start else ("", "second_"):
        again = ["--only-start"] if prefix else []

        def add(found: dict[str, Any], prefix: str = prefix) -> None:
            kept = {prefix + k: v for k, v in found.items() if not prefix or k in START}
            if kept:
                result.add(side, kept)

        error = run(
            [*command, *again, "--spawned", str(time.time())],
            environment,
            options.work / f"{prefix}{side}.log",
            add,
        )
        if error is not None:
            is_fine = False
            result.add(side, {prefix + "error": error})
    return is_fine


def whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, nargs="?", help="a folder; some 20 GB for 8B")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    parser.add_argument("--plan", choices=("in-pass", "two-pass"), default="in-pass")
    parser.add_argument("--shape", choices=("8B", "toy"), default="8B", help="for cuda")
    parser.add_argument(
        "--sides", nargs="+", choices=SIDES, help="default: all; others of the same WORK stay"
    )
    parser.add_argument("--slots", type=whole, help="requests in a batch; default: 32, cpu: 8")
    parser.add_argument("--rounds", type=whole, help="of each phase; default: 3, cpu: 5")
    parser.add_argument("--fp8", action="store_true", help="our side's base in FP8, on cuda")
    parser.add_argument("--one-start", action="store_true", help="leave the second starts out")
    parser.add_argument("--threads", type=whole, help="OMP_NUM_THREADS of each side")
    parser.add_argument("--ours-path", default="", help="folders for our process")
    parser.add_argument("--vllm-path", default="", help="folders for vLLM's process")
    parser.add_argument("--results", type=Path, help="folder; default: benchmarks/results, or WORK")
    options = parser.parse_args()
    is_cpu = options.device == "cpu"
    if is_cpu and options.plan != "in-pass":
        parser.error("--device cpu serves the pocket, whose plan is in-pass; leave --plan out")
    if not is_cpu and "original" in (options.sides or ()):
        parser.error("--sides original is measured on the pocket; give --device cpu")
    if options.fp8 and (is_cpu or options.sides not in (None, ["ours"])):
        parser.error("--fp8 is of our side on a GPU; give --device cuda, and no other side")
    sides = options.sides or SIDES[: 1 if options.fp8 else 3 if is_cpu else 2]
    options.slots = options.slots or (8 if is_cpu else 32)
    with tempfile.TemporaryDirectory() as folder:
        options.work = (options.work or Path(folder) / "work").absolute()
        made = prepare(options, environment_of("ours", options, Path(folder)))
        results = options.results or (options.work if made["shape"] == "toy" else RESULTS)
        settings = {
            "slots": options.slots,
            "threads": options.threads,
            "vllm_multiprocessing": os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING", "0"),
        }
        results.mkdir(parents=True, exist_ok=True)
        path = results / f"against_vllm_{'cpu' if is_cpu else 'gpu'}.json"
        result = Result(path, made, options.plan, options.fp8, settings)
        fine = [measure(options, side, result, Path(folder) / f"caches-{side}") for side in sides]
    print(json.dumps(result.ratios, indent=2))
    raise SystemExit(int(not all(fine)))


if __name__ == "__main__":
    main()
