"""The compiled vision tower; that it is the stock one in another form."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from pointsman.conversation import make_prompt
from pointsman.engine.tower import SIZES, CompiledTower, compile_tower
from pointsman.models.base import Base, load_base
from pointsman.models.encoding import Encoded


@pytest.fixture
def base(tiny_base_folder: Path) -> Base:
    return load_base(str(tiny_base_folder), device="cpu")


def encoded(base: Base, *sizes: tuple[int, int]) -> Encoded:
    noise = [Image.effect_noise(size, 60).convert("RGB") for size in sizes]
    return base.encode([make_prompt(image, "Go") for image in noise])


def tensors(features: dict[str, Any]) -> list[Tensor]:
    found = features["image"]
    return [*found.pooler_output, *(each for tap in found.deepstack_features for each in tap)]


def assert_same(mine: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
    for one, other in zip(mine, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_compiled_once_for_all_blocks_and_sizes(base: Base) -> None:
    each = [encoded(base, size) for size in ((96, 64), (64, 64), (128, 96))]
    stock = [tensors(base.image_features(one)) for one in each]
    base.images.clear()
    counter = CompileCounterWithBackend("eager")
    compile_tower(
        base.core.visual,
        lambda block, **options: torch.compile(block, backend=counter, fullgraph=True, **options),
    )
    for one, theirs in zip(each, stock, strict=True):
        assert_same(tensors(base.image_features(one)), theirs)
    assert counter.frame_count == 1


def test_images_of_several_sizes_go_through_it_together(base: Base) -> None:
    together = encoded(base, (96, 64), (64, 64), (64, 96))
    stock = tensors(base.image_features_at_once(together))
    compile_tower(base.core.visual, lambda block, **_: block)
    assert_same(tensors(base.image_features_at_once(together)), stock)


def test_sizes_that_come_again_are_captured(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """A double stands for CUDA graphs: it computes again what a graph would replay."""
    captured: list[tuple[int, ...]] = []

    def capture(function: Callable[..., Any], inputs: Sequence[Tensor]) -> Callable[..., Any]:
        captured.append(tuple(inputs[0].shape))
        return function

    monkeypatch.setattr("pointsman.engine.cuda_graphs.Graph", capture)
    monkeypatch.setattr("pointsman.engine.tower.can_use_cudnn_attention", lambda _: False)
    images = [encoded(base, (32 * (2 + index), 64)) for index in range(SIZES + 1)]
    stock = [tensors(base.image_features(image)) for image in images]
    compile_tower(base.core.visual, lambda block, **_: block)
    tower = base.core.visual.forward
    assert isinstance(tower, CompiledTower)
    monkeypatch.setattr(tower, "_is_cuda", True)

    def seen(index: int) -> None:
        base.images.clear()
        assert_same(tensors(base.image_features(images[index])), stock[index])

    for _ in range(3):
        seen(0)
    assert len(captured) == 1  # the second time
    seen(1)
    assert len(captured) == 1
    for index in range(1, SIZES + 1):  # as many others as it keeps
        seen(index)
    assert len(captured) == 2
    seen(0)
    assert len(captured) == 2
    seen(0)
    assert len(captured) == 3
    assert captured[0] == captured[2] != captured[1]
