"""Regular expressions of a configuration: run in a process of their own before anything else.

PEFT matches them with the model's paths wherever it places an adapter. Python's matcher may need
exponential time, cannot be interrupted and holds all threads of its process.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

SECONDS = 1
"""CPU time that all expressions of a configuration may take; real ones take milliseconds."""
_MEGABYTES = 512
# Without repeats, groups and alternatives the time is linear.
_PLAIN = re.compile(r"(?:[\w.^$-]|\\.)*")
_END, _WHOLE = r"(.*\.)?({})$", r"(?:{})\Z"
# How PEFT matches each option: its `check_target_module_exists` and `get_pattern_key`.
_FORMS = {
    "target_modules": _WHOLE,
    "exclude_modules": _WHOLE,
    "feedforward_modules": _WHOLE,
    "modules_to_save": r"(^|.*\.){}($|\..*)",
    "layers_pattern": r"(?:^|.*?\.){}\.(?P<idx>\d+)\.",
}
_NAMES = ("target_modules", "exclude_modules", "feedforward_modules")
"""Options whose lists hold names: only a string is an expression."""
_CHILD = """
import json, re, resource, sys
limits, expressions, paths = json.load(sys.stdin)
for kind, limit in limits.items():
    resource.setrlimit(getattr(resource, kind), (limit, limit))
for number, expression in enumerate(expressions):
    print(number, flush=True)
    try:
        compiled = re.compile(expression)
    except re.error:
        continue
    for path in paths:
        compiled.match(path)
"""


def check_expressions(config: Mapping[str, Any], paths: Sequence[str]) -> None:
    """Refuses a configuration with an expression that takes too long for a model's paths.

    A wrong expression is not reported here: compiling it will.

    Raises:
        ValueError: an expression takes more than ``SECONDS``, or 512 MB.
    """
    found = [
        (option, expression, _FORMS.get(option, _END).format(expression))
        for option, expression in _expressions(config)
        if not _PLAIN.fullmatch(expression)
    ]
    if not found:
        return
    slow = _first_slow(tuple(matched for _, _, matched in found), tuple(paths))
    if slow is not None:
        option, expression, _ = found[slow]
        raise ValueError(
            f"{option} has the regular expression {expression[:80]!r}, which cannot be "
            f"matched within {SECONDS} s"
        )


def _expressions(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each option that PEFT reads as expressions, with one of them."""
    for option, value in config.items():
        if option not in _FORMS and not option.endswith("_pattern"):
            continue
        values = [value] if isinstance(value, str) else [] if option in _NAMES else value or ()
        for expression in values if isinstance(values, list | dict) else ():
            if isinstance(expression, str):
                yield option, expression


@lru_cache
def _first_slow(expressions: tuple[str, ...], paths: tuple[str, ...]) -> int | None:
    """The first expression that does not end in time."""
    limits = {"RLIMIT_AS": _MEGABYTES * 2**20, "RLIMIT_CPU": SECONDS}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _CHILD],
        input=json.dumps([limits, expressions, paths]),
        capture_output=True,
        text=True,
        check=False,
    )
    return int((done.stdout.split() or ["0"])[-1]) if done.returncode else None
