from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from pointsman.engine.kv_cache import (
    GRAIN,
    KEYS,
    SPARE,
    VALUES,
    CacheView,
    KVCache,
    reach_bias,
    slot_attention,
)
from pointsman.models.base import Base, load_base

HEADS, SHARED, SIZE = 6, 2, 8


class Attention(torch.nn.Module):
    """What an attention module of six heads over two key heads has."""

    scaling = SIZE**-0.5

    def __init__(self) -> None:
        super().__init__()
        for name in (KEYS, VALUES):
            setattr(self, name, torch.zeros(5, SHARED, 32, SIZE))


def parts(batch: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(batch * 100 + tokens)
    return (
        torch.randn(batch, HEADS, tokens, SIZE),
        torch.randn(batch, SHARED, tokens, SIZE),
        torch.randn(batch, SHARED, tokens, SIZE),
    )


def run(module: Attention, view: CacheView, *tensors: Tensor) -> Tensor:
    output, _ = slot_attention(module, *tensors, None, module.scaling, view=view)
    return output


def test_attention_over_slots_is_attention_over_each_prompt() -> None:
    """Prompts of 9, 4 and 6 tokens in slots 4, 0 and 2; then two tokens more, then one."""
    module, places, lengths = Attention(), torch.tensor([4, 0, 2]), torch.tensor([9, 4, 6])
    prompt, tail, step = parts(3, 9), parts(3, 2), parts(3, 1)
    first = run(module, CacheView(places, None), *prompt)
    second = run(
        module, CacheView(places, lengths, reach_bias(lengths, 2, 20, torch.float32)), *tail
    )
    start = lengths + 2
    third = run(module, CacheView(places, start, reach_bias(start, 1, 16, torch.float32)), *step)
    for row, length in enumerate(lengths.tolist()):
        query, key, value = (
            torch.cat([a[row, :, :length], b[row], c[row]], 1)[None]
            for a, b, c in zip(prompt, tail, step, strict=True)
        )
        whole = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=True
        )[0].transpose(0, 1)
        torch.testing.assert_close(first[row, :length], whole[:length])
        torch.testing.assert_close(second[row], whole[length : length + 2])
        torch.testing.assert_close(third[row], whole[length + 2 :])
    for unused in (1, 3):
        assert not getattr(module, KEYS)[unused].any()


def test_without_slots_attention_is_the_stock_one(tiny_base_folder: Path, tiny_base: Base) -> None:
    """Whoever uses the model otherwise finds it as it was."""
    base = load_base(str(tiny_base_folder))
    KVCache(base.core, 3)
    ids = torch.arange(20)[None] + 40
    with torch.inference_mode():
        for mask in (None, torch.tensor([[0] * 5 + [1] * 15])):
            mine = base.model(input_ids=ids, attention_mask=mask).logits[:, 5:]
            stock = tiny_base.model(input_ids=ids, attention_mask=mask).logits[:, 5:]
            torch.testing.assert_close(mine, stock)


def test_room_grows_and_keeps_what_lies_there(tiny_base_folder: Path) -> None:
    base = load_base(str(tiny_base_folder))
    slots = KVCache(base.core, 3)
    assert slots.length == GRAIN
    assert not slots.reserve(GRAIN)
    for number, table in enumerate(slots._tables(), 1):
        table[:] = number
    before = slots.bytes
    assert slots.reserve(GRAIN + 1)
    assert slots.length == 2 * GRAIN
    assert slots.bytes * (GRAIN + SPARE) == before * (2 * GRAIN + SPARE)
    for number, table in enumerate(slots._tables(), 1):
        assert (table[:, :, :GRAIN] == number).all()
        assert not table[:, :, GRAIN:].any()
        table[1, :, :7] = -number
    slots.move(1, 2, 5)
    for number, table in enumerate(slots._tables(), 1):
        assert (table[2, :, :5] == -number).all()
        assert (table[2, :, 5:GRAIN] == number).all()
        assert (table[0, :, :GRAIN] == number).all()
