"""Expressions that hang Python's matcher are refused in about the time of the limit."""

import time
from typing import Any

import pytest

from pointsman.adapters.expressions import check_expressions
from pointsman.adapters.layout import Layout
from pointsman.models.base import Base

HANGS = [
    {"rank_pattern": {r"((\w|\.)+)+!": 4}},
    {"alpha_pattern": {"q_proj": 8, r"(\w|\w\w|\.)*!": 4}},
    {"target_modules": r"(.*)*!"},
    {"target_modules": r"(?=((\w|\.)+)+!).*"},
    {"target_modules": ".*" * 9 + "!"},
    {"target_modules": r"(\w?\.?)" * 40 + "!"},
    {"target_modules": "(" * 9000 + ")" * 9000},
    {"exclude_modules": r"(\w+\.?)+!"},
    {"layers_pattern": [r"([^!]+)+!"], "layers_to_transform": [1]},
    {"modules_to_save": [r"([^!]+)+!"]},
    {"block_size_pattern": {r"([^!]+)+!": 4}, "peft_type": "C3A"},
    {"feedforward_modules": r"([^!]+)+!", "peft_type": "IA3"},
]
FINE: list[dict[str, Any]] = [
    {"target_modules": ["(a+)+!"], "rank_pattern": None},
    {"target_modules": "all-linear", "exclude_modules": []},
    {"target_modules": r"^(?!.*visual).*\.(?:q|v)_proj$"},
    {"target_modules": "(", "rank_pattern": {"[": 3}, "layers_pattern": "layers"},
    {"rank_pattern": {rf"layers\.{layer}\.self_attn.q_proj": 4 for layer in range(400)}},
]


@pytest.mark.parametrize("config", HANGS, ids=lambda config: next(iter(config)))
def test_an_expression_that_hangs_is_refused(config: dict[str, Any], tiny_base: Base) -> None:
    begun = time.monotonic()
    with pytest.raises(ValueError, match=next(iter(config))) as refusal:
        check_expressions(config, Layout.of(tiny_base.model).modules)
    assert "has the regular expression" in str(refusal.value)
    assert len(str(refusal.value)) < 200
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("config", FINE)
def test_others_are_not(config: dict[str, Any], tiny_base: Base) -> None:
    check_expressions(config, Layout.of(tiny_base.model).modules)
