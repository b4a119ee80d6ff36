"""Adapters in a real vLLM: does ``adapters check --target vllm`` come to the same verdict?

It needs the environment that ``make vllm`` makes. The verdicts: vLLM computes what PEFT computes,
it refuses the adapter, or it loads it and its answers deviate from PEFT's.
"""

import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common import report

from pointsman.adapters.check.vllm import VERSION
from support.peft_reference import copied_model
from support.vllm_adapters import FIXTURES, REAL, WITH_OPTIONS, make_fixture, make_real
from support.vllm_verdicts import OPTIONS, served


def verdicts(which: str, place: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Name of each adapter, and both verdicts on it."""
    (place / "vllm").mkdir(parents=True)
    with served(which, place / "vllm") as vllm:
        named = [(name, make_fixture) for name in (FIXTURES, WITH_OPTIONS)[which == "tower"]]
        for name, make in [*named, *((name, make_real) for name in REAL)]:
            folder = make(name, copied_model(vllm.base), place / name)
            yield name, {"vllm": vllm.verdict(folder), "lint": vllm.lint(folder)}


def main() -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        found = {which: dict(verdicts(which, Path(place) / which)) for which in OPTIONS}
    rows = [row for adapters in found.values() for row in adapters.values()]
    result = {
        "vllm": VERSION,
        "equal": sum(row["vllm"] == row["lint"] for row in rows),
        "of": len(rows),
        "verdicts": Counter(row["vllm"] for row in rows),
        "options": OPTIONS,
        "adapters": found,
    }
    report("vllm_adapters", result)
    assert result["equal"] == result["of"]


if __name__ == "__main__":
    main()
