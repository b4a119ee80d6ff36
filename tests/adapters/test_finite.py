"""Adapters whose finite weights have diverged are refused wherever an adapter is loaded."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pointsman.adapters.check.finite import TEXT, _acting, check_finite, probe_logits
from pointsman.adapters.files import WEIGHTS
from pointsman.adapters.layout import Layout
from pointsman.adapters.load import fit_adapter, open_adapter
from pointsman.adapters.peft import adapter_on, attach, load_base_with_loras
from pointsman.adapters.weights import Lora
from pointsman.errors import ArtefactError
from pointsman.models.base import Base, load_base
from support.engines import ask, make_adapters_for, make_engine
from support.tiny import make_adapter

# PEFT's own remarks while the fixtures are made.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*"),
]
REFUSAL = r"adapter huge: \[nan\] with it the base gives NaN or infinity .*earlier checkpoint"


def diverged(base: Path, folder: Path, **options: object) -> Path:
    """An adapter of finite weights with which values overflow."""
    make_adapter(base, folder, 1, **options)
    tensors = load_file(folder / WEIGHTS)
    huge = {key: t * 1e22 if "v_proj" in key else t for key, t in tensors.items()}
    assert all(bool(tensor.isfinite().all()) for tensor in huge.values())
    save_file(huge, folder / WEIGHTS)
    return folder


def lora_of(name: str, folder: str | Path, base: Base) -> Lora:
    lora = fit_adapter(name, open_adapter(name, folder), base, Layout.of(base.model)).lora
    assert isinstance(lora, Lora)
    return lora


def test_the_diverged_one_of_many_is_named(
    tiny_base_folder: Path, tiny_base: Base, tiny_adapters: dict[str, str], tmp_path: Path
) -> None:
    good = lora_of("calendar", tiny_adapters["calendar"], tiny_base)
    bad = lora_of("huge", diverged(tiny_base_folder, tmp_path / "huge"), tiny_base)
    before = probe_logits(tiny_base)
    check_finite(tiny_base, [])
    check_finite(tiny_base, [good] * 20)
    for loras in ([bad], [good, bad, good], [good] * 9 + [bad]):
        with pytest.raises(ArtefactError, match=REFUSAL):
            check_finite(tiny_base, loras)
    assert torch.equal(probe_logits(tiny_base), before)


@pytest.mark.parametrize("kind", [{}, {"use_dora": True}], ids=["plain", "dora"])
def test_a_diverged_adapter_is_not_loaded_with_others(
    kind: dict[str, object], tiny_base_folder: Path, tiny_adapters: dict[str, str], tmp_path: Path
) -> None:
    paths = {
        "calendar": tiny_adapters["calendar"],
        "huge": diverged(tiny_base_folder, tmp_path / "huge", **kind),
    }
    with pytest.raises(ArtefactError, match=REFUSAL):
        load_base_with_loras(str(tiny_base_folder), paths)


def test_rows_are_answered_as_by_peft(
    tiny_base_folder: Path, tiny_base: Base, tiny_adapters: dict[str, str]
) -> None:
    """The hooks compute what the adapters do, so a finite answer means something."""
    names = ("calendar", "claim-window")
    with _acting(tiny_base, [lora_of(n, tiny_adapters[n], tiny_base) for n in names]):
        rows = probe_logits(tiny_base, [TEXT] * 3)
    for row, name in enumerate(names):
        attached = attach(load_base(str(tiny_base_folder)), name, tiny_adapters[name])
        with adapter_on(attached, name):
            torch.testing.assert_close(
                rows[row], probe_logits(attached, [TEXT])[0], rtol=1e-3, atol=1e-3
            )
    torch.testing.assert_close(rows[2], probe_logits(tiny_base, [TEXT])[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("plan", "kind"), [("two-pass", {}), ("peft", {}), ("peft", {"use_dora": True})]
)
def test_an_engine_refuses_it_and_goes_on(
    plan: str,
    kind: dict[str, object],
    tiny_base: Base,
    tiny_base_folder: Path,
    tiny_router: Path,
    tmp_path: Path,
) -> None:
    adapters = make_adapters_for(plan, tiny_base, tmp_path)
    huge = diverged(tiny_base_folder, tmp_path / "huge", **kind)
    with make_engine(tiny_base_folder, adapters, tiny_router, max_rank=8) as engine:
        names = engine.adapters
        answers = [engine.generate_batch([ask("Pick day 3", 1)] * 2, adapter="calendar")]
        with pytest.raises(ArtefactError, match=REFUSAL):
            engine.add_adapter("huge", huge)
        assert engine.adapters == names
        answers.append(engine.generate_batch([ask("Pick day 3", 1)] * 2, adapter="calendar"))
        engine.add_adapter("huge", adapters["claim-window"])
        named = [
            engine.generate_batch([ask("Pick day 3", 1)], adapter=name, max_new_tokens=8)[0].text
            for name in ("huge", "claim-window")
        ]
        assert named[0] == named[1]
    before, after = ([answer.text for answer in batch] for batch in answers)
    assert before == after
    with pytest.raises(ArtefactError, match=REFUSAL.replace("huge", "calendar")):
        make_engine(tiny_base_folder, {**adapters, "calendar": str(huge)}, tiny_router)
