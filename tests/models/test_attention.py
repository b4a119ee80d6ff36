"""Attention is the same with every kernel."""

from types import SimpleNamespace

import pytest
import torch

from pointsman.models.attention import attention

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
