import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file

from pointsman.adapters.check.check import check_adapter, fix_adapter
from pointsman.adapters.check.vllm import CODES, RANKS
from pointsman.adapters.files import CONFIG, NOTE, WEIGHTS
from pointsman.adapters.peft import attach
from pointsman.adapters.train import AdapterSettings, train_adapter
from pointsman.data.dataset import Dataset
from pointsman.errors import ArtefactError, ConfigError, MismatchError
from pointsman.findings import Report
from pointsman.models.base import Base, load_base, load_skeleton
from support.adapter_faults import (
    FAULTS,
    FULL_PATHS,
    HANGS,
    LAYOUTS,
    OLD,
    UNDER_LLM,
    configure,
    copied,
    filled,
    flat,
    make_layout,
    narrowed,
    outside,
    plant,
    rename,
    without,
)
from support.canary import Canary
from support.commands import refused, run, succeeds
from support.real_adapters import REAL, write_real
from support.tiny import make_adapter, make_base

# PEFT's own remarks while the fixtures are made.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*"),
]


@pytest.fixture(scope="module")
def named_base(tiny_base: Base) -> Base:
    """The tiny base under the name of a checkpoint on the Hub."""
    return replace(tiny_base, id="Qwen/Qwen3-VL-8B-Instruct")


@pytest.fixture(scope="module")
def skeleton(tiny_base_folder: Path) -> Base:
    return load_skeleton(str(tiny_base_folder))


@pytest.fixture
def adapter(tiny_adapters: dict[str, str], tmp_path: Path) -> Path:
    return copied(Path(tiny_adapters["calendar"]), tmp_path / "adapter")


def codes(report: Report) -> set[str]:
    return {finding.kind for finding in report.errors}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(
    fault: str, tiny_base_folder: Path, named_base: Base, tmp_path: Path
) -> None:
    report = check_adapter(plant(fault, tiny_base_folder, tmp_path / "adapter"), named_base)
    assert codes(report) == {FAULTS[fault][0]}
    for finding in report.findings:
        assert "\n" not in str(finding)
        assert "; " in str(finding), "no hint"


@pytest.mark.parametrize("trainer", LAYOUTS)
def test_a_trainers_layout_has_no_errors(
    trainer: str, tiny_base_folder: Path, tiny_base: Base, tmp_path: Path
) -> None:
    report = check_adapter(make_layout(tiny_base_folder, tmp_path / "a", trainer), tiny_base)
    assert not report.errors
    assert report.counts["largest_change"] > 0.1
    expected = {"unsloth": {"peft-only"}, "outside": {"outside-weights"}}
    assert {finding.kind for finding in report.warnings} == expected.get(trainer, set())


@pytest.mark.parametrize("trainer", REAL)
def test_what_real_trainers_wrote(trainer: str, named_base: Base, tmp_path: Path) -> None:
    real = REAL[trainer]
    folder = write_real(trainer, named_base, tmp_path / "a")
    report = check_adapter(folder, named_base)
    assert codes(report) == real.errors, report.findings
    assert {finding.kind for finding in report.warnings} == real.warnings, report.findings
    if "old-layout" in real.errors:
        assert not fix_adapter(folder, named_base, tmp_path / "fixed").errors
    elif not real.errors:
        attach(replace(load_base(str(named_base.folder)), id=named_base.id), "a", folder)


def test_trained_here(
    tiny_base_folder: Path, tiny_data: Dataset, skeleton: Base, tmp_path: Path
) -> None:
    base = load_base(str(tiny_base_folder))
    samples = [s for s in tiny_data.splits["train"] if s.adapter == "calendar"][:2]
    out = tmp_path / "out"
    settings = AdapterSettings(rank=4, activated=True, epochs=3, batch_size=1)
    train_adapter("calendar", samples, base, out, settings)
    assert check_adapter(out, base).findings == []
    assert check_adapter(out, skeleton).findings == []
    other = load_base(str(make_base(tmp_path / "other", seed=9)))
    assert codes(check_adapter(out, other)) == {"other-base"}


def test_the_base_is_left_as_it_was(
    tiny_base_folder: Path, tiny_base: Base, tmp_path: Path
) -> None:
    before = {key: tensor.clone() for key, tensor in tiny_base.model.state_dict().items()}
    for number, options in enumerate(
        ({"bias": "all"}, {"modules_to_save": ["norm"]}, {"target_modules": ["q_proj", "qkv"]})
    ):
        folder = make_adapter(tiny_base_folder, tmp_path / str(number), 1, **options)
        assert not check_adapter(folder, tiny_base).errors
    after = tiny_base.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())


def test_a_skeleton_reads_no_weights(tiny_base_folder: Path, adapter: Path, tmp_path: Path) -> None:
    folder = copied(tiny_base_folder, tmp_path / "base")
    (folder / "model.safetensors").unlink()
    base = load_skeleton(str(folder))
    assert {parameter.device.type for parameter in base.model.parameters()} == {"meta"}
    report = check_adapter(adapter, base)
    assert report.findings == []
    assert report.counts == {"tensors": 56, "modules": 28}


def test_static_faults_need_no_weights(
    tiny_base_folder: Path, skeleton: Base, tmp_path: Path
) -> None:
    probed = {"too small to change a logit", "infinite logits", "the base's own weights"}
    named = replace(skeleton, id="Qwen/Qwen3-VL-8B-Instruct")
    for number, fault in enumerate(FAULTS):
        report = check_adapter(plant(fault, tiny_base_folder, tmp_path / str(number)), named)
        assert codes(report) == (set() if fault in probed else {FAULTS[fault][0]})


def test_all_faults_at_once(adapter: Path, named_base: Base) -> None:
    without(adapter, ".layers.3.")
    without(adapter, "layers.0.mlp.up_proj.lora_B")
    filled(adapter, "layers.1.mlp.up_proj.lora_A", torch.nan)
    rename(adapter, OLD)
    configure(adapter, base_model_name_or_path="Qwen/Qwen3-8B", lora_alpha=0)
    outside(adapter)
    assert codes(check_adapter(adapter, named_base)) == {
        *("missing-keys", "half-loaded", "nan", "old-layout", "other-base", "alpha"),
        "outside-weights",
    }


VLLM: dict[str, tuple[str, dict[str, Any], Callable[[Path], object]]] = {
    "vllm-kind": ("IA3", {}, lambda f: configure(f, peft_type="IA3")),
    "vllm-option": ("tokens is [3]", {"alora_invocation_tokens": [3]}, lambda _: None),
    "vllm-rank": ("--max-lora-rank 32 or more", {"rank_pattern": {"q_proj": 20}}, lambda _: None),
    "vllm-keys": ("lora_A.mine.weight", {}, lambda f: rename(f, ("_A.weight", "_A.mine.weight"))),
    "vllm-half": ("2.mlp.up_proj", {}, lambda f: without(f, "layers.2.mlp.up_proj.lora_B")),
    "vllm-shape": ("28 of its modules", {}, flat),
    "vllm-unread": ("kasa_config", {}, lambda f: configure(f, kasa_config={"beta": 1})),
    "vllm-names": ("such as model.layers.", {}, lambda f: rename(f, OLD)),
    "vllm-tower": (
        "such as model.visual.blocks.",
        {"target_modules": ["q_proj", "qkv"]},
        lambda _: None,
    ),
    "vllm-wrong": ("28 of its modules", {}, narrowed),
}
"""A fault of each code, and words of its message. tests/vllm has many, for a real vLLM."""


@pytest.mark.parametrize("code", CODES)
def test_vllm(code: str, tiny_base_folder: Path, skeleton: Base, tmp_path: Path) -> None:
    words, options, change = VLLM[code]
    folder = make_adapter(tiny_base_folder, tmp_path / "a", 1, **options)
    change(folder)
    [finding] = [
        f for f in check_adapter(folder, skeleton, target="vllm").errors if f.kind in CODES
    ]
    assert finding.kind == code
    assert words in str(finding)
    assert "vLLM 0.32.0" in str(finding) or code == "vllm-rank"
    assert not codes(check_adapter(folder, skeleton)) & set(CODES)


def test_vllm_takes_a_plain_adapter(adapter: Path, skeleton: Base) -> None:
    assert check_adapter(adapter, skeleton, target="vllm").findings == []
    assert check_adapter(adapter, None, target="vllm").findings == []
    report = check_adapter(adapter, skeleton, target="vllm", max_lora_rank=1)
    assert "rank 4 is above --max-lora-rank 1" in report.errors[0].message
    assert "serve with --max-lora-rank 8 or more" in report.errors[0].hint
    with pytest.raises(ConfigError, match="'tgi' is not known"):
        check_adapter(adapter, skeleton, target="tgi")


def test_vllm_has_certain_highest_ranks(adapter: Path, skeleton: Base) -> None:
    for rank in RANKS:
        check_adapter(adapter, skeleton, target="vllm", max_lora_rank=rank)
    with pytest.raises(ConfigError, match=r"--max-lora-rank 20 is not accepted by vLLM .*32, 64"):
        check_adapter(adapter, skeleton, target="vllm", max_lora_rank=20)
    configure(adapter, r=600)
    errors = check_adapter(adapter, None, target="vllm", max_lora_rank=512).errors
    assert [f.hint for f in errors if f.kind == "vllm-rank"] == ["train with a rank of at most 512"]


def test_vllm_with_the_option_for_the_tower(
    tiny_base_folder: Path, skeleton: Base, tmp_path: Path
) -> None:
    folder = make_adapter(tiny_base_folder, tmp_path / "a", 1, target_modules=["q_proj", "qkv"])
    options: dict[str, Any] = {"target": "vllm", "enable_tower_connector_lora": True}
    assert not check_adapter(folder, skeleton, **options).errors


OLD_LAYOUTS: dict[str, tuple[tuple[str, str], ...]] = {
    "earlier transformers and text models": (OLD,),
    "the decoder inside": (("model.language_model.", "language_model.model."),),
    "without the head": (("base_model.model.model.", "base_model.model."),),
    "no prefix": (("base_model.model.", ""),),
    "the adapter's name": ((".weight", ".default.weight"),),
    "wrapped by a trainer": (("base_model.", "module.base_model."),),
    "compiled": (("base_model.model.", "base_model.model._orig_mod."),),
}


@pytest.mark.parametrize("layout", OLD_LAYOUTS)
def test_an_old_layout_is_fixed(
    layout: str, adapter: Path, tiny_base: Base, tmp_path: Path
) -> None:
    original = load_file(adapter / WEIGHTS)
    rename(adapter, *OLD_LAYOUTS[layout])
    report = check_adapter(adapter, tiny_base)
    assert codes(report) == {"old-layout"}
    assert " -> " in report.errors[0].message
    out = tmp_path / "fixed"
    assert fix_adapter(adapter, tiny_base, out).findings == []
    fixed = load_file(out / WEIGHTS)
    assert set(fixed) == set(original)
    assert all(torch.equal(fixed[key], tensor) for key, tensor in original.items())
    attach(load_base(str(tiny_base.folder)), "calendar", out)


@pytest.mark.parametrize("targets", [FULL_PATHS, UNDER_LLM], ids=["paths", "regex"])
def test_the_configuration_is_fixed_too(
    targets: list[str] | str, tiny_base_folder: Path, tiny_base: Base, tmp_path: Path
) -> None:
    """Of an old layout with the tower, its targets by full path or regular expression."""
    folder = make_adapter(
        tiny_base_folder,
        tmp_path / "a",
        1,
        target_modules=BOTH if isinstance(targets, str) else [*FULL_PATHS, TOWER],
        rank_pattern={"model.language_model.layers.1.mlp.up_proj": 2},
    )
    rename(folder, OLD, ("model.model.visual", "model.visual"))
    old = json.loads(json.dumps(BOTH if isinstance(targets, str) else [*FULL_PATHS, TOWER]))
    old = (
        old.replace(r"model\.language_model", "model").replace(r"model\.visual", "visual")
        if isinstance(old, str)
        else [path.replace(*OLD).replace("model.visual", "visual") for path in old]
    )
    configure(folder, target_modules=old, rank_pattern={"model.layers.1.mlp.up_proj": 2})
    assert codes(check_adapter(folder, tiny_base)) == {"old-layout"}
    out = tmp_path / "fixed"
    assert not fix_adapter(folder, tiny_base, out).errors
    config = json.loads((out / CONFIG).read_text())
    assert set(config["target_modules"]) == {*FULL_PATHS, TOWER}
    assert config["rank_pattern"] == {"model.language_model.layers.1.mlp.up_proj": 2}


TOWER = "model.visual.blocks.0.attn.qkv"
BOTH = rf"{UNDER_LLM}|^model\.visual\.blocks\.0\.attn\.qkv$"


def test_fix_refuses_what_names_do_not_fix(adapter: Path, tiny_base: Base, tmp_path: Path) -> None:
    out = tmp_path / "fixed"
    with pytest.raises(ConfigError, match="nothing to fix"):
        fix_adapter(adapter, tiny_base, out)
    rename(adapter, OLD)
    without(adapter, ".layers.3.")
    with pytest.raises(ArtefactError, match=r"not written; renaming alone .*missing-keys"):
        fix_adapter(adapter, tiny_base, out)
    assert not out.exists()


def test_fix_destroys_nothing(adapter: Path, tiny_base: Base, tmp_path: Path) -> None:
    rename(adapter, OLD)
    before = {path.name: path.read_bytes() for path in adapter.iterdir()}
    with pytest.raises(ArtefactError, match="holds an adapter already"):
        fix_adapter(adapter, tiny_base, adapter)
    with pytest.raises(ArtefactError, match="holds a base, not an adapter"):
        fix_adapter(adapter, tiny_base, Path(tiny_base.folder))
    assert {path.name: path.read_bytes() for path in adapter.iterdir()} == before
    assert not (Path(tiny_base.folder) / CONFIG).exists()


def test_fix_keeps_the_note(adapter: Path, skeleton: Base, tmp_path: Path) -> None:
    note = {"fingerprint": vars(skeleton.fingerprint) | {"weights": "0" * 64}}
    (adapter / NOTE).write_text(json.dumps(note))
    rename(adapter, OLD)
    fix_adapter(adapter, skeleton, tmp_path / "fixed")
    assert (tmp_path / "fixed" / NOTE).read_bytes() == (adapter / NOTE).read_bytes()


def test_names_of_bases(adapter: Path, named_base: Base, skeleton: Base) -> None:
    named_skeleton = replace(skeleton, id=named_base.id)
    for name, level in {
        "Qwen/Qwen3-VL-8B-Instruct": None,
        "unsloth/Qwen3-VL-8B-Instruct-unsloth-bnb-4bit": "warning",
        "Qwen/Qwen3-VL-8B-Instruct-FP8": "warning",
        "/models/Qwen3-VL-8B-Instruct": None,
        "/models/Qwen3-VL-8B-Thinking": "warning",
        "/models/tuned": None,
        r"C:\models\Qwen3-VL-8B-Instruct": None,
        "C:/Qwen3-VL-8B-Instruct": None,
        r"D:\models\Qwen3-VL-4B-Instruct\\": "warning",
        "/c/models--Qwen--Qwen3-VL-8B-Instruct/snapshots/0a1b2c": None,
        r"C:\hub\models--Qwen--Qwen3-VL-8B-Instruct\snapshots\0a1b2c": None,
        "/c/models--unsloth--Qwen3-VL-8B-Instruct-bnb-4bit/snapshots/0a1b2c/": "warning",
        "/c/models--Qwen--Qwen2.5-VL-7B-Instruct/snapshots/0a1b2c": "error",
        "someone/Qwen3-VL-8B-Instruct": "error",
        "Qwen/Qwen3-VL-4B-Instruct": "error",
    }.items():
        configure(adapter, base_model_name_or_path=name)
        found = [f.level for f in check_adapter(adapter, named_skeleton).findings]
        assert found == ([level] if level else []), name


def test_a_name_against_the_note(adapter: Path, skeleton: Base) -> None:
    """Digests say which base it was; the name is what other tools load."""
    (adapter / NOTE).write_text(json.dumps({"fingerprint": vars(skeleton.fingerprint)}))
    base = replace(skeleton, id="/models/Qwen3-VL-8B-Instruct")
    for name, level in {
        r"C:\models\Qwen3-VL-8B-Instruct": [],
        "/models/qwen-copy": [],
        "/c/models--Qwen--Qwen2.5-VL-7B-Instruct/snapshots/0a1b2c": ["warning"],
    }.items():
        configure(adapter, base_model_name_or_path=name)
        assert [f.level for f in check_adapter(adapter, base).findings] == level, name


def test_a_base_in_the_hubs_cache_is_compared_by_its_model(adapter: Path, skeleton: Base) -> None:
    cached = replace(skeleton, id="/c/models--Qwen--Qwen3-VL-8B-Instruct/snapshots/0a1b2c")
    for name, level in {
        "Qwen/Qwen3-VL-8B-Instruct": [],
        r"C:\models\Qwen3-VL-8B-Instruct": [],
        "Qwen/Qwen3-VL-4B-Instruct": ["error"],
    }.items():
        configure(adapter, base_model_name_or_path=name)
        assert [f.level for f in check_adapter(adapter, cached).findings] == level, name


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("a folder of checkpoints", "give {folder}/checkpoint-1500"),
        ("a pointer of Git LFS for weights", f"{WEIGHTS}: a Git LFS pointer .*run git lfs pull"),
        ("a pointer of Git LFS for the config", f"{CONFIG}: a Git LFS pointer .*run git lfs pull"),
        ("shards", f"2 shards, adapter_model-00001-of-.*; join the shards: .* {WEIGHTS}"),
        ("8-bit whole numbers", "56 of its 56 tensors are int8 without .*; save it in float32"),
        ("8-bit floats", "tensors are float8_e4m3fn without .*; save it in float32"),
        ("a prefix twice", r"base_model\.model\.base_model\. -> base_model\. .*--fix OUT"),
        ("an option of a newer PEFT", r"option use_quantum_lora .*install PEFT 0\.99\.0"),
        ("a kind of a newer PEFT", "type is 'NEWER', which PEFT .* does not know; install PEFT"),
        (HANGS, r"rank_pattern .*within 1 s.*; name the modules"),
    ],
)
def test_the_fix_of_a_fault(
    fault: str, line: str, tiny_base_folder: Path, tiny_base: Base, tmp_path: Path
) -> None:
    folder = plant(fault, tiny_base_folder, tmp_path / "a")
    [error] = check_adapter(folder, tiny_base).errors
    assert re.search(line.replace("{folder}", str(folder)), str(error)), error
    with pytest.raises(ArtefactError, match=line.replace("{folder}", str(folder))) as refusal:
        attach(load_base(str(tiny_base_folder)), "a", folder)
    assert "\n" not in str(refusal.value)


def test_a_config_edited_by_hand(adapter: Path, tiny_base: Base) -> None:
    """With a byte order mark, and with options of a newer PEFT that are off or numbers."""
    configure(adapter, new_switch=False, new_part=None, new_list=[], new_name="", new_size=16)
    (adapter / CONFIG).write_bytes(b"\xef\xbb\xbf" + (adapter / CONFIG).read_bytes())
    report = check_adapter(adapter, tiny_base)
    assert not report.errors
    assert [f.message for f in report.warnings if f.kind == "unknown-option"] == [
        f"PEFT {peft.__version__} does not know its option new_size and would ignore it: 16"
    ]
    attach(load_base(str(tiny_base.folder)), "calendar", adapter)


def test_the_engine_refuses_what_changes_the_base(
    tiny_base_folder: Path, adapter: Path, tmp_path: Path
) -> None:
    base = load_base(str(tiny_base_folder))
    before = base.model.state_dict()["model.language_model.norm.weight"].clone()
    configure(adapter, init_lora_weights="pissa")
    with pytest.raises(ArtefactError, match="changes the base's own weights"):
        attach(base, "calendar", adapter)
    own = plant("the base's own weights", tiny_base_folder, tmp_path / "own")
    with pytest.raises(ArtefactError, match=r"norm\.weight would replace the base's own"):
        attach(base, "calendar", own)
    assert torch.equal(base.model.state_dict()["model.language_model.norm.weight"], before)


def test_the_engine_takes_a_quantised_copys_adapter(tiny_base_folder: Path, adapter: Path) -> None:
    base = replace(load_base(str(tiny_base_folder)), id="Qwen/Qwen3-VL-8B-Instruct")
    configure(adapter, base_model_name_or_path="unsloth/Qwen3-VL-8B-Instruct-bnb-4bit")
    attach(base, "calendar", adapter)
    configure(adapter, base_model_name_or_path="unsloth/Qwen3-VL-4B-Instruct-bnb-4bit")
    with pytest.raises(MismatchError, match="was made for unsloth"):
        attach(base, "other", adapter)


def test_nothing_is_unpickled(adapter: Path, tiny_base: Base, tmp_path: Path) -> None:
    for name in ("adapter_model.bin", "non_lora_state_dict.bin"):
        torch.save(Canary(tmp_path / "hatched"), adapter / name)
    assert {f.kind for f in check_adapter(adapter, tiny_base).findings} == {
        "pickle",
        "outside-weights",
    }
    (adapter / WEIGHTS).unlink()
    assert codes(check_adapter(adapter, tiny_base)) == {"pickle"}
    assert not (tmp_path / "hatched").exists()


def test_without_a_base(adapter: Path) -> None:
    assert check_adapter(adapter, None).findings == []
    filled(adapter, "lora_B", 0)
    assert codes(check_adapter(adapter, None)) == {"zero-effect"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank_pattern": [1]}, "rank_pattern is [1], not an object"),
        ({"target_modules": 3}, "target_modules is 3, not names"),
        ({"alora_invocation_tokens": "a"}, "alora_invocation_tokens is 'a'"),
        ({"base_model_name_or_path": {}}, "base_model_name_or_path is {}"),
        ({"peft_type": "NEWER"}, "NEWER"),
        ({"target_modules": "("}, "PEFT cannot place it"),
        ({"rank_pattern": {"(": 2}}, "PEFT cannot place it"),
        ({"rank_pattern": {"c_attn": 2}}, "rank_pattern names c_attn, which is none"),
        ({"lora_alpha": "16"}, "lora_alpha is '16'"),
        ({"r": None}, "r is None"),
        ({"r": 4, "lora_alpha": 400}, "scale it by 100"),
        ({"target_modules": ["q_proj", "c_attn"]}, "c_attn"),
        ({"use_dora": True}, "half"),
    ],
)
def test_values_of_the_configuration(
    change: dict[str, object], message: str, adapter: Path, tiny_base: Base
) -> None:
    configure(adapter, **change)
    for target in (None, "vllm"):
        found = [str(f) for f in check_adapter(adapter, tiny_base, target=target).findings]
        assert any(message in line for line in found), found
        assert not any("\n" in line for line in found)


# The command line


def test_command(adapter: Path, tiny_base_folder: Path) -> None:
    done = succeeds("adapters", "check", adapter, "--base", tiny_base_folder)
    assert done.out == f"{adapter}: 0 errors, 0 warnings\n"
    result = json.loads(
        succeeds("adapters", "check", adapter, "--base", tiny_base_folder, "--json").out
    )
    assert result["errors"] == 0
    assert result["counts"]["largest_change"] > 0.1
    configure(adapter, lora_alpha=0)
    done = run("adapters", "check", adapter, "--base", tiny_base_folder, "--json")
    assert done.code == 1
    (finding,) = json.loads(done.out)["findings"]
    assert finding["kind"] == "alpha"
    assert finding["level"] == "error"
    assert finding["hint"]


def test_command_needs_no_weights_without_a_probe(
    adapter: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    folder = copied(tiny_base_folder, tmp_path / "base")
    (folder / "model.safetensors").unlink()
    succeeds("adapters", "check", adapter, "--base", folder, "--no-probe")
    assert "no *.safetensors" in refused("adapters", "check", adapter, "--base", folder)


def test_command_fixes(adapter: Path, tiny_base_folder: Path, tmp_path: Path) -> None:
    rename(adapter, OLD)
    options = ("--base", tiny_base_folder, "--json")
    done = run("adapters", "check", adapter, *options)
    assert done.code == 1
    assert "--fix OUT" in json.loads(done.out)["findings"][0]["hint"]
    done = succeeds("adapters", "check", adapter, *options, "--fix", tmp_path / "fixed")
    assert json.loads(done.out)["path"] == str(tmp_path / "fixed")
    succeeds("adapters", "check", tmp_path / "fixed", *options)
    assert "give --base" in refused("adapters", "check", adapter, "--fix", tmp_path / "other")


def test_command_for_vllm(adapter: Path, tiny_base_folder: Path) -> None:
    options = ("--base", tiny_base_folder, "--target", "vllm", "--json")
    succeeds("adapters", "check", adapter, *options)
    done = run("adapters", "check", adapter, *options, "--max-lora-rank", 1)
    assert done.code == 1
    result = json.loads(done.out)
    assert [finding["kind"] for finding in result["findings"]] == ["vllm-rank"]
    assert result["counts"]["largest_change"] > 0.1, "it is probed all the same"


BAD = [fault for fault, (code, *_) in FAULTS.items() if code in ("config", "weights", "pickle")]


@pytest.mark.parametrize("fault", [*BAD, "missing folder", "a file"])
def test_bad_input_is_one_line(fault: str, tiny_base_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    if fault in FAULTS:
        plant(fault, tiny_base_folder, folder)
    elif fault == "a file":
        folder.write_text("x")
    done = run("adapters", "check", folder, "--base", tiny_base_folder)
    assert done.code == 1
    assert done.err == ""
    lines = done.out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"error: {folder}: [")
    assert lines[1] == f"{folder}: 1 errors, 0 warnings"


def test_a_bad_base_is_refused(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_text('{"model_type": "llama"}')
    line = refused("adapters", "check", adapter, "--base", tmp_path / "base")
    assert "a checkpoint of type 'llama'" in line


def test_a_folder_of_checkpoints(adapter: Path, tmp_path: Path) -> None:
    shutil.move(adapter, tmp_path / "run" / "checkpoint-50")
    report = check_adapter(tmp_path / "run", None)
    assert str(tmp_path / "run" / "checkpoint-50") in str(report.errors[0])
    assert os.fspath(report.path) == str(tmp_path / "run")
