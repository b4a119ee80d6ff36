from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from pointsman.engine.engine import Engine
from pointsman.engine.options import EngineOptions
from pointsman.errors import ConfigError, LabelError
from pointsman.project import Project
from support.engines import MIXED


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"slots": 0}, "slots is 0; give 1 or more"),
        ({"max_waiting": 0}, "max_waiting is 0; give 1 or more"),
        ({"kept": -1}, "kept is -1; give 0 or more"),
        ({"image_cache_mb": -1}, "image_cache_mb is -1; give 0 or more"),
        ({"resident": 0}, "resident is 0; give 1 or more"),
        ({"max_rank": 0}, "max_rank is 0; give 1 or more"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; give 1 or more"),
        ({"slots": 2.5}, "slots is 2.5; give a whole number"),
        ({"slots": True}, "slots is True; give a whole number"),
        ({"max_waiting": "9"}, "max_waiting is '9'; give a whole number"),
        ({"slots": None}, "slots is None; give a whole number"),
        ({"hysteresis": 1.5}, "hysteresis is 1.5; give a number from 0 to 1"),
        ({"hysteresis": "0.2"}, "hysteresis is '0.2'; give a number from 0 to 1"),
        ({"plan": "fastest"}, "plan 'fastest' is none of in-pass, activated, two-pass, peft"),
    ],
)
def test_an_option_out_of_its_range(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EngineOptions(**options)
    assert str(caught.value) == line


def test_options_are_frozen_and_none_is_a_choice() -> None:
    options = EngineOptions(resident=None, max_rank=None, kept=0)
    with pytest.raises(FrozenInstanceError):
        options.slots = 3  # type: ignore[misc]
    assert replace(options, slots=3).slots == 3


@pytest.mark.parametrize(
    ("stated", "project", "expected"),
    [
        (EngineOptions(), None, ("base", 0.2)),
        (EngineOptions(), ("error", 0.5), ("error", 0.5)),
        (EngineOptions(), ("error", None), ("error", 0.2)),
        (EngineOptions(fallback="base", hysteresis=0.0), ("error", 0.5), ("base", 0.0)),
    ],
)
def test_what_options_leave_open_is_the_projects(
    stated: EngineOptions, project: tuple[str, float | None] | None, expected: tuple[str, float]
) -> None:
    names = {"calendar": "a"}
    given = project and Project("base", names, fallback=project[0], hysteresis=project[1])
    found = stated.with_defaults(given or None)
    assert (found.fallback, found.hysteresis) == expected
    assert found.with_defaults() == found
    assert replace(found, fallback=None, hysteresis=None) == replace(
        stated, fallback=None, hysteresis=None
    )


def test_an_engine_serves_by_its_options(tiny_project: Project) -> None:
    project = replace(tiny_project, fallback="error", hysteresis=0.7)
    options = EngineOptions(max_new_tokens=2, fallback="calendar")
    with Engine.from_project(
        project, "p", device="cpu", dtype="float32", options=options
    ) as engine:
        assert engine.options.fallback == "calendar"
        assert engine.options.hysteresis == 0.7
        answer = engine.generate_batch([MIXED[0]], adapter="base")[0]
        assert answer.completion_tokens <= 2
        longer = engine.generate_batch([MIXED[0]], adapter="base", max_new_tokens=5)[0]
        assert longer.text.startswith(answer.text[:1])


def test_a_fallback_that_is_no_adapter(tiny_project: Project, tiny_router: Path) -> None:
    with pytest.raises(LabelError, match="unknown adapter 'nobody'"):
        Engine.from_project(tiny_project, "p", options=EngineOptions(fallback="nobody"))
