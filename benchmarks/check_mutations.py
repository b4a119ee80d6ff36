"""Mutations that would silently break the mapping or leak the label: do tests fail?

Each is made in a copy of the repository; the tests named must pass without it and fail with it.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from common import ROOT, report


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path}: {old!r} occurs {text.count(old)} times"
    path.write_text(text.replace(old, new))


def drop_the_filter(root: Path) -> None:
    edit(
        root / "src/pointsman/conversation.py",
        'seen = [(turn, shown) for turn, shown in pairs if turn.role != "assistant"]',
        "seen = list(pairs)",
    )


def route_over_answers(root: Path) -> None:
    edit(
        root / "src/pointsman/engine/scheduler.py",
        "return self._reader is self.base and seen == turns",
        "return self._reader is self.base",
    )


def swap_two_names(root: Path) -> None:
    path = root / "src/pointsman/pocket/model/router/config.json"
    config = json.loads(path.read_text())
    names = config["adapters"]
    names[0], names[1] = names[1], names[0]
    path.write_text(json.dumps(config, indent=2))


def shuffle_class_names(root: Path) -> None:
    edit(
        root / "src/pointsman/routing/feature_store.py",
        "        list(dataset.labels),\n",
        "        list(reversed(list(dataset.labels))),\n",
    )


MUTATIONS: dict[str, tuple[Callable[[Path], None], str]] = {
    "assistant turns are not filtered": (drop_the_filter, "tests/routing/test_feature_store.py"),
    "earlier answers are routed on": (route_over_answers, "tests/test_conversation.py"),
    "two names swapped in the router's config": (swap_two_names, "tests/test_pocket.py"),
    "class_names written in another order": (
        shuffle_class_names,
        "tests/routing/test_feature_store.py",
    ),
}


def tests(root: Path, path: str) -> list[str]:
    """The tests of ``path`` that do not pass, in a copy of the repository."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        path,
        "-k",
        "not killed",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        command,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    bad = [line.split(" - ")[0] for line in lines if line.startswith(("FAILED", "ERROR"))]
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return bad


def main() -> None:
    result = {}
    for name, (mutate, path) in MUTATIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "repository"
            shutil.copytree(
                ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", "*-out", "__pycache__")
            )
            assert tests(copy, path) == [], "the tests fail without the mutation"
            mutate(copy)
            failed = tests(copy, path)
        assert failed, f"no test noticed: {name}"
        result[name] = {"failing": len(failed), "such_as": failed[0]}
    report("mutations", {"mutations": result})


if __name__ == "__main__":
    main()
