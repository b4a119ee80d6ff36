"""Several adapters on one base through PEFT: any legal names, in any order."""

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from pointsman.adapters.layout import Layout
from pointsman.adapters.load import open_adapter
from pointsman.adapters.peft import adapter_on, attach, load_base_with_loras
from pointsman.errors import ArtefactError, LabelError
from pointsman.models.base import Base, load_base
from support.tiny import make_adapter

# PEFT's own remarks while the fixtures are made.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*"),
]


def logits(base: Base, name: str) -> Tensor:
    with torch.inference_mode(), adapter_on(base, name):
        found: Tensor = base.model(input_ids=torch.tensor([[1, 2, 3]])).logits
    return found


@pytest.mark.parametrize(
    "names",
    [
        ("claim", "claim-window"),
        ("claim-window", "claim"),
        ("model", "b"),
        ("a", "lora_A"),
        ("lora", "lora_"),
        ("weight", "base_layer"),
        ("3", "q_proj"),
        ("q_proj", "3"),
        ("modules_to_save", "original_module"),
        ("visual", "default"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("kind", [{}, {"use_dora": True}, {"target_modules": ["q_proj", "qkv"]}])
def test_any_legal_names_in_any_order(
    names: tuple[str, str],
    kind: dict[str, object],
    tiny_base_folder: Path,
    tiny_adapters: dict[str, str],
    tmp_path: Path,
) -> None:
    folders = [make_adapter(tiny_base_folder, tmp_path / "a", 1, **kind), tiny_adapters["calendar"]]
    paths = dict(zip(names, folders, strict=True))
    loaded = load_base_with_loras(str(tiny_base_folder), paths)
    assert list(loaded.adapters) == list(names)
    for name, path in paths.items():
        alone = attach(load_base(str(tiny_base_folder)), "alone", path)
        assert torch.equal(logits(loaded, name), logits(alone, "alone"))


@pytest.mark.parametrize("names", [("norm", "x"), ("x", "norm")], ids=" ".join)
def test_the_name_of_a_replaced_module_is_refused(
    names: tuple[str, str], tiny_base_folder: Path, tiny_adapters: dict[str, str], tmp_path: Path
) -> None:
    whole = make_adapter(tiny_base_folder, tmp_path / "a", 1, modules_to_save=["norm"])
    paths = dict(zip(names, (tiny_adapters["calendar"], whole), strict=True))
    with pytest.raises(LabelError, match=r"'norm' is the name of a module that .* choose another"):
        load_base_with_loras(str(tiny_base_folder), paths)


def test_the_layout_is_the_bases_whatever_is_attached(
    tiny_base_folder: Path, tmp_path: Path
) -> None:
    base = load_base(str(tiny_base_folder))
    before = Layout.of(base.model)
    for name, options in {
        "base_layer": {"target_modules": ["q_proj", "qkv"]},
        "original_module": {"modules_to_save": ["visual.merger"]},
        "c": {"use_dora": True},
        "d": {"trainable_token_indices": [1, 2]},
    }.items():
        folder = make_adapter(tiny_base_folder, tmp_path / name, 1, **options)
        base = attach(base, name, folder)
        after = Layout.of(base.model)
        assert after.modules == before.modules
        assert after.shapes == before.shapes
        assert after.weights.keys() == before.weights.keys()
        for path, tensor in before.weights.items():
            assert torch.equal(after.weights[path], tensor)


@pytest.mark.parametrize("name", ["train", "keys", "auto", "a.b", ""])
def test_an_unusable_name_is_refused_before_anything_is_read(name: str) -> None:
    with pytest.raises(LabelError, match="adapter name"):
        open_adapter(name, "there/is/no/such/folder")


def test_an_adapter_that_fails_while_it_is_added_leaves_nothing(
    tiny_base_folder: Path, tmp_path: Path
) -> None:
    paths = [make_adapter(tiny_base_folder, tmp_path / str(seed), seed) for seed in (1, 2)]
    base = load_base(str(tiny_base_folder))
    ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        alone = base.model(input_ids=ids).logits
    failing = patch(
        "pointsman.adapters.peft.set_peft_model_state_dict", side_effect=MemoryError("no memory")
    )
    with failing, pytest.raises(ArtefactError, match="no memory"):
        attach(base, "one", paths[0])
    with torch.inference_mode():
        assert torch.equal(base.model(input_ids=ids).logits, alone)
    base = attach(base, "one", paths[0])
    with failing, pytest.raises(ArtefactError, match="no memory"):
        attach(base, "two", paths[1])
    base = attach(base, "two", paths[1])
    right = load_base_with_loras(
        str(tiny_base_folder), {"one": str(paths[0]), "two": str(paths[1])}
    )
    for name in ("one", "two"):
        assert torch.equal(logits(base, name), logits(right, name))
