"""Attention is the same with every kernel."""

from types import SimpleNamespace

import pytest
import torch

from pointsman.models import attention as kernels
from pointsman.models.attention import NAME, attention
from pointsman.models.base import Base

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


@pytest.mark.parametrize("length", [32, 33, 193])
@pytest.mark.parametrize("device", DEVICES)
def test_one_key_head_with_a_mask(device: str, length: int) -> None:
    query = torch.randn(2, 2, length, 16, device=device)
    key, value = torch.randn(2, 2, 1, length, 16, device=device)
    mask = torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None]

    module = SimpleNamespace(num_key_value_groups=2, is_causal=True, training=False)
    found, _ = attention(module, query, key, value, mask)

    scores = (query.double() @ key.double().mT) / 4
    shares = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    expected = (shares @ value.double()).transpose(1, 2)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("lengths", [(512, 512), (1037, 301), (2000, 900)])
def test_long_images_on_a_cpu(lengths: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever computes it, and however many queries at a time, to float32's precision."""
    queries, keys = lengths
    query = torch.randn(2, queries, 3, 64).transpose(1, 2)
    key, value = torch.randn(2, 2, keys, 3, 64).transpose(2, 3)
    module = SimpleNamespace(num_key_value_groups=1, is_causal=False, training=False)
    shares = (0.125 * query.double() @ key.double().mT).softmax(-1)
    expected = (shares @ value.double()).transpose(1, 2)
    monkeypatch.setattr(kernels, "_BLOCK", 300_000)
    for mode in (torch.no_grad, torch.enable_grad):
        with mode():
            found, _ = attention(module, query, key, value, None, is_causal=False, scaling=0.125)
        assert (found - expected).abs().max() < 3e-6


def test_the_tower_uses_it(tiny_base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    blocks = kernels._by_blocks
    monkeypatch.setattr(kernels, "_LONG", 1)
    monkeypatch.setattr(
        kernels, "_by_blocks", lambda *parts: called.append(parts[0].shape[2]) or blocks(*parts)
    )
    tower = tiny_base.core.visual
    assert tower.config._attn_implementation == NAME
    values = torch.randn(16, tower.config.in_channels * 2 * tower.config.patch_size**2)
    with torch.no_grad():
        tower(values, grid_thw=torch.tensor([[1, 4, 4]]))
        expected = [16] * tower.config.depth if kernels.by_onednn(values, values) else []
    assert called == expected
