"""What is told of an adapter without PEFT against what PEFT makes of the same configuration."""

import copy
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModelForCausalLM, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from pointsman.adapters.check.check import check_adapter
from pointsman.adapters.check.structure import Fit, fit_plain
from pointsman.adapters.files import CONFIG, WEIGHTS, AdapterFile
from pointsman.adapters.layout import PROJECTIONS, Layout, key_of
from pointsman.adapters.load import Adapter, fit_adapter, open_adapter
from pointsman.adapters.peft import attach
from pointsman.adapters.weights import Lora
from pointsman.errors import ArtefactError, MismatchError
from pointsman.models.base import Base, load_base
from support.adapter_faults import FAULTS, FULL_PATHS, HANGS, LAYOUTS, UNDER_LLM, plant
from support.real_adapters import REAL, write_real
from support.tiny import make_adapter

# PEFT's own remarks while the fixtures are made.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*"),
]
ALL = list(PROJECTIONS)
NOT_VISUAL = r".*visual.*"
CONFIGS: dict[str, dict[str, Any]] = {
    **LAYOUTS,
    "one layer": {"layers_to_transform": 1},
    "some layers": {"layers_to_transform": [2, 3], "layers_pattern": "layers"},
    "layers by several patterns": {
        "layers_to_transform": [0, 1],
        "layers_pattern": ["blocks", "layers"],
    },
    "paths, and layers that do not hold them": {
        "target_modules": [FULL_PATHS[0], "up_proj"],
        "layers_to_transform": [3],
    },
    "no layers named": {"layers_to_transform": [], "layers_pattern": None},
    "layers that are not there": {"layers_to_transform": [9]},
    "a pattern of nothing": {"layers_to_transform": [1], "layers_pattern": "blocks"},
    "a pattern without layers": {"layers_pattern": "layers"},
    "an empty pattern": {"layers_to_transform": [1], "layers_pattern": ""},
    "regular expression": {"target_modules": r".*layers\.[13]\..*\.(q|v)_proj"},
    "a part of a path is no match": {"target_modules": r"q_proj"},
    "paths": {"target_modules": FULL_PATHS[:5]},
    "ends of paths": {"target_modules": ["self_attn.q_proj", "1.mlp.up_proj"]},
    "half a name is no match": {"target_modules": ["up", "p_proj"]},
    "one of two": {"target_modules": ["q_proj", "c_attn"]},
    "none": {"target_modules": ["c_attn"]},
    "excluded": {"exclude_modules": ["up_proj", "layers.0.self_attn.q_proj"]},
    "excluded by expression": {"exclude_modules": r".*layers\.[01]\..*"},
    "all excluded": {"exclude_modules": ALL},
    "all-linear": {"target_modules": "all-linear"},
    "all-linear, no tower": {"target_modules": "all-linear", "exclude_modules": NOT_VISUAL},
    "All-Linear in capitals": {"target_modules": "ALL-LINEAR", "exclude_modules": NOT_VISUAL},
    "ranks": {"rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.up_proj": 7, "up_proj": 3}},
    "ranks of full paths": {"rank_pattern": {FULL_PATHS[0]: 2, "^" + FULL_PATHS[1]: 3}},
    "alphas": {"alpha_pattern": {"q_proj": 2, r".*\.0\.mlp\..*": 5.5}},
    "ranks, alphas, rank-stabilised": {
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {"v_proj": 3},
        "use_rslora": True,
    },
    "rank-stabilised": {"use_rslora": True, "r": 3, "lora_alpha": 7},
    "a float for alpha, as ms-swift has it": {"lora_alpha": 32.0},
    "alpha below 1": {"lora_alpha": 0.5},
    "alpha below 0": {"lora_alpha": -8},
    "activated": {"alora_invocation_tokens": [3, 4]},
    "no initial values": {"init_lora_weights": False, "lora_dropout": 0.1},
    "gaussian": {"init_lora_weights": "gaussian"},
    "tied": {"ensure_weight_tying": True},
    "fan in": {"fan_in_fan_out": True},
    "other task": {"task_type": "SEQ_CLS"},
    "no targets": {"target_modules": None},
    "a rank of 0": {"rank_pattern": {"q_proj": 0}},
    "a rank that is text": {"rank_pattern": {"q_proj": "2"}},
    "an alpha that is text": {"alpha_pattern": {"q_proj": "2"}},
    "a broken expression": {"target_modules": "("},
    "a broken pattern": {"rank_pattern": {"(": 2}},
    "an expression and layers": {"target_modules": UNDER_LLM, "layers_to_transform": [1]},
    "an expression and no layers": {"target_modules": UNDER_LLM, "layers_to_transform": []},
    "an expression and a pattern": {"target_modules": UNDER_LLM, "layers_pattern": "layers"},
}
OBSTACLES: dict[str, dict[str, Any]] = {
    "the tower": {"target_modules": [*ALL, "qkv"]},
    "the head": {"target_modules": ["q_proj", "lm_head"]},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "a whole layer": {"target_modules": ["mlp"]},
    "DoRA": {"use_dora": True},
    "biases": {"bias": "all"},
    "whole modules": {"modules_to_save": ["norm"]},
    "other parameters": {"target_parameters": ["mlp.up_proj.weight"]},
    "another kind": {"peft_type": "IA3"},
    "an unknown option": {"use_something_new": True},
}


def config_of(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 16,
        "target_modules": ALL,
    } | options


def fit_of(config: dict[str, Any], base: Base) -> Fit:
    return fit_plain(AdapterFile(Path("adapter"), config, {}), Layout.of(base.model))


def read(name: str, folder: str | Path, base: Base) -> Adapter:
    return fit_adapter(name, open_adapter(name, folder), base, Layout.of(base.model))


def _skeleton(base: Base) -> Any:
    with torch.device("meta"):
        return type(base.model)(copy.deepcopy(base.model.config))


def by_peft(config: dict[str, Any], base: Base) -> tuple[dict[str, torch.Size], dict[str, float]]:
    """Keys with their shapes, and the scale of each module, as PEFT has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = json.loads(json.dumps(config)) | {"inference_mode": True}
        model = PeftModelForCausalLM(
            _skeleton(base),
            PeftConfig.from_peft_type(**PeftConfig.check_kwargs(**options)),
            adapter_name="a",
            low_cpu_mem_usage=True,
        )
        state = get_peft_model_state_dict(model, adapter_name="a", save_embedding_layers=False)
    scales = {
        path: module.scaling["a"]
        for path, module in model.get_base_model().named_modules()
        if isinstance(module, LoraLayer)
    }
    return {key: tensor.shape for key, tensor in state.items()}, scales


def check_same(config: dict[str, Any], base: Base) -> Fit:
    """PEFT's answer is ours: the same keys, shapes and scales in its order, or both refuse."""
    fit = fit_of(config, base)
    if fit.obstacle is not None:
        return fit
    if fit.refusal:
        with pytest.raises((TypeError, ValueError, re.error)):
            by_peft(config, base)
        return fit
    shapes, scales = by_peft(config, base)
    assert list(fit.expected.items()) == list(shapes.items())
    assert fit.plain is not None
    assert list(fit.plain.scales.items()) == list(scales.items())
    return fit


@pytest.mark.parametrize("name", CONFIGS)
def test_placed_as_by_peft(name: str, tiny_base: Base) -> None:
    fit = check_same(config_of(CONFIGS[name]), tiny_base)
    # These two hit the tower, which PEFT is left to place.
    assert (fit.obstacle is None) == (name not in ("unsloth", "all-linear"))


@pytest.mark.parametrize("name", OBSTACLES)
def test_obstacles_are_left_to_peft(name: str, tiny_base: Base) -> None:
    fit = fit_of(config_of(OBSTACLES[name]), tiny_base)
    assert fit.obstacle is not None
    assert "\n" not in fit.obstacle
    assert not fit.expected


def test_every_option_of_a_trainer_is_known(tiny_base: Base) -> None:
    """All that PEFT itself writes for a plain adapter, with its defaults."""
    config = LoraConfig(r=4, target_modules=ALL, task_type="CAUSAL_LM").to_dict()
    config |= {"peft_type": "LORA", "target_modules": ALL}
    assert check_same(json.loads(json.dumps(config, default=str)), tiny_base).obstacle is None


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_adapters_are_placed_as_by_peft(
    fault: str, tiny_base_folder: Path, tiny_base: Base, tmp_path: Path
) -> None:
    folder = plant(fault, tiny_base_folder, tmp_path / "a")
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError):
        return
    if fault == HANGS:
        refusal = fit_of(config, tiny_base).refusal
        assert refusal is not None
        assert "cannot be matched within 1 s" in refusal
    elif (
        isinstance(config, dict)
        and config.get("peft_type")
        and config["r"]
        and config["lora_alpha"]
    ):
        check_same(config | {"init_lora_weights": False}, tiny_base)


@pytest.mark.parametrize("trainer", REAL)
def test_real_trainers_adapters(trainer: str, tiny_base: Base, tmp_path: Path) -> None:
    folder = write_real(trainer, tiny_base, tmp_path / "a")
    config = json.loads((folder / CONFIG).read_text())
    fit = check_same(config | {"init_lora_weights": True}, tiny_base)
    assert fit.refusal is None
    assert (fit.obstacle is not None) == ("peft-only" in REAL[trainer].warnings)
    if fit.obstacle is None and not REAL[trainer].errors:
        assert set(fit.expected) == set(load_file(folder / WEIGHTS))


SAME_BITS = [
    *(
        (name, "float32", "float32")
        for name in (
            *("pointsman", "ms-swift", "llama-factory", "some layers", "ranks", "alphas"),
            *("a float for alpha, as ms-swift has it", "activated", "rank-stabilised"),
            "ranks, alphas, rank-stabilised",
        )
    ),
    *(
        ("ranks", dtype, base_dtype)
        for dtype in ("float32", "bfloat16", "float16", "float64")
        for base_dtype in ("float32", "bfloat16")
    ),
]


@pytest.mark.parametrize(("name", "dtype", "base_dtype"), SAME_BITS)
def test_the_same_bits_as_by_peft(
    name: str, dtype: str, base_dtype: Any, tiny_base_folder: Path, tmp_path: Path
) -> None:
    folder = make_adapter(tiny_base_folder, tmp_path / "a", 1, **CONFIGS[name])
    tensors = load_file(folder / WEIGHTS)
    save_file({k: t.to(getattr(torch, dtype)) for k, t in tensors.items()}, folder / WEIGHTS)
    base = load_base(str(tiny_base_folder), dtype=base_dtype)
    lora = read("a", folder, base).lora
    assert isinstance(lora, Lora)
    model = attach(base, "a", folder).model
    assert list(model.peft_config["a"].alora_invocation_tokens or ()) == list(lora.invocation)
    loaded = {
        key_of(path): (m.lora_A["a"].weight, m.lora_B["a"].weight * m.scaling["a"])
        for path, m in model.get_base_model().named_modules()
        if isinstance(m, LoraLayer)
    }
    assert list(lora.weights) == list(loaded)
    for key, pair in lora.weights.items():
        for found, expected in zip(pair, loaded[key], strict=True):
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)


def test_read_the_same_beside_other_adapters(
    tiny_base_folder: Path, tiny_adapters: dict[str, str]
) -> None:
    base = load_base(str(tiny_base_folder))
    alone = read("claim-window", tiny_adapters["claim-window"], base)
    wrapped = attach(base, "calendar", tiny_adapters["calendar"])
    beside = read("claim-window", tiny_adapters["claim-window"], wrapped)
    assert isinstance(alone.lora, Lora)
    assert isinstance(beside.lora, Lora)
    for key, pair in alone.lora.weights.items():
        assert all(map(torch.equal, pair, beside.lora.weights[key]))
    assert alone.file.digests == beside.file.digests


@pytest.mark.parametrize("fault", FAULTS)
def test_loading_refuses_with_the_line_of_the_check(
    fault: str, tiny_base_folder: Path, tiny_base: Base, tmp_path: Path
) -> None:
    """Except what the probe, the template or PEFT itself must find."""
    folder = plant(fault, tiny_base_folder, tmp_path / "a")
    errors = check_adapter(folder, tiny_base).errors
    probed = (
        *("too small to change a logit", "infinite logits", "tokens that are never there"),
        *("an option of a newer PEFT", "a kind of a newer PEFT"),
    )
    if not errors or fault in probed:
        read("a", folder, tiny_base)
        return
    with pytest.raises((ArtefactError, MismatchError)) as refusal:
        read("a", folder, tiny_base)
    line = str(refusal.value)
    assert "\n" not in line
    assert line == str(errors[0]).replace(f"error: {folder}", f"adapter a: {folder}")


def test_loading_needs_no_peft(tiny_base_folder: Path, tiny_adapters: dict[str, str]) -> None:
    """In a process of its own, as this one has imported it."""
    code = """
import sys
from pointsman.adapters.layout import Layout
from pointsman.adapters.load import fit_adapter, open_adapter
from pointsman.models.base import load_base
base = load_base(sys.argv[1])
file = open_adapter("calendar", sys.argv[2])
assert fit_adapter("calendar", file, base, Layout.of(base.model)).lora.weights
assert "peft" not in sys.modules
"""
    folders = (str(tiny_base_folder), tiny_adapters["calendar"])
    subprocess.run([sys.executable, "-c", code, *folders], check=True)
