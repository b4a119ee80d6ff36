"""Patches, pixel values and the cache of image features."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pointsman.conversation import Prompt, user_turn
from pointsman.models import cpu_kernels, vision
from pointsman.models.base import Base, load_base
from pointsman.models.encoding import different_images
from pointsman.models.vision import (
    ImageCache,
    ImageFeatures,
    digest_of,
    frame_values,
    pixel_values,
    pixels_of,
    places_of,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mean", [[0.5, 0.5, 0.5], [0.48145466, 0.4578275, 0.40821073]])
def test_pixels_are_bit_for_bit_those_of_the_image_processor(
    tiny_base_folder: Path, dtype: torch.dtype, mean: list[float]
) -> None:
    base = load_base(str(tiny_base_folder))
    processor = base.image_processor
    processor.image_mean, processor.image_std = mean, [0.26, 0.27, 0.28]
    noise = np.random.default_rng(0).integers(0, 256, (5, 700, 500, 3), dtype=np.uint8)
    sizes = [(64, 96), (61, 47), (500, 700), (8, 200), (320, 8)]
    images = tuple(Image.fromarray(n[:h, :w]) for n, (w, h) in zip(noise, sizes, strict=True))
    stock = processor(images=list(images), return_tensors="pt")
    encoded = base.encode([Prompt((user_turn("Go", len(images)),), images)])
    assert torch.equal(encoded["image_grid_thw"], stock["image_grid_thw"])
    cuts = [(pixels, grid) for pixels, grid, _ in different_images(encoded)]
    ours = torch.cat([pixel_values(*cut, processor, dtype) for cut in cuts])
    assert torch.equal(ours, stock["pixel_values"].to(dtype))


@pytest.mark.parametrize("size", [(64, 96), (256, 32), (500, 700)])
def test_the_tower_finds_the_same_places_by_itself(tiny_base: Base, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    grid, pixels = pixels_of(Image.fromarray(noise), tiny_base.image_processor)
    values = pixel_values(pixels, grid, tiny_base.image_processor, tiny_base.dtype)
    see = tiny_base.core.get_image_features
    with torch.inference_mode():
        stock = see(values, grid[None], return_dict=True)
        ours = see(values, grid[None], return_dict=True, **places_of(grid, tiny_base.core.visual))
    assert torch.equal(ours.pooler_output[0], stock.pooler_output[0])
    assert torch.equal(ours.deepstack_features[0][0], stock.deepstack_features[0][0])


def test_digests_tell_content_and_shape_apart(tiny_base: Base) -> None:
    digests = set()
    plain = np.zeros((64, 96, 3), np.uint8)
    dotted = plain.copy()
    dotted[5, 7, 1] = 1
    for image in (plain, dotted, plain.reshape(96, 64, 3), plain.copy()):
        grid, pixels = pixels_of(Image.fromarray(image), tiny_base.image_processor)
        digests.add(tuple(digest_of(pixels, grid).tolist()))
    assert len(digests) == 3


def features() -> ImageFeatures:
    return ImageFeatures(torch.zeros(10), (torch.zeros(5), torch.zeros(5)))


def test_the_cache_forgets_what_was_used_longest_ago() -> None:
    cache = ImageCache(limit=2 * features().bytes)
    made: list[int] = []

    def ask(key: int) -> None:
        def make() -> ImageFeatures:
            made.append(key)
            return features()

        cache.get((key,), make)

    for key in (1, 2, 1, 3, 1, 2):
        ask(key)
    assert made == [1, 2, 3, 2]


def test_a_cache_without_room_still_answers() -> None:
    cache = ImageCache(limit=0)
    kept = features()
    assert cache.get((1,), lambda: kept) is kept
    other = features()
    assert cache.get((1,), lambda: other) is other


def test_attention_of_images_is_that_of_the_stock_module(
    tiny_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several images in one tensor, for any number of patches at a time."""
    monkeypatch.setattr(cpu_kernels, "_PREFERS_ONEDNN", cpu_kernels.HAS_ONEDNN)
    monkeypatch.setattr(vision, "_SCORES", 100_000)
    tower = tiny_base.core.visual
    module, width = tower.blocks[0].attn, tower.config.hidden_size
    states, cu_seqlens = 3 * torch.randn(1000, width), torch.tensor([0, 16, 700, 1000])
    turns = tower.rotary_pos_emb(states, torch.randint(0, 99, (1000, 2)))
    with torch.no_grad():
        ours = module.forward(states, cu_seqlens=cu_seqlens, position_embeddings=turns)
        stock = type(module).forward(module, states, cu_seqlens, turns)
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-5)
    assert ours.std() > 0.01
    with_gradient = module.forward(states, cu_seqlens=cu_seqlens, position_embeddings=turns)
    torch.testing.assert_close(with_gradient, stock)


def test_one_frame_of_a_still_image_is_enough(tiny_base: Base) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    grid, pixels = pixels_of(Image.fromarray(noise), tiny_base.image_processor)
    embed = tiny_base.core.visual.patch_embed
    with torch.no_grad():
        frame, whole = (
            make(pixels, grid, tiny_base.image_processor, tiny_base.dtype)
            for make in (frame_values, pixel_values)
        )
        one, two, stock = embed(frame), embed(whole), type(embed).forward(embed, whole)
    assert torch.equal(one, two)
    torch.testing.assert_close(one, stock, rtol=1e-5, atol=1e-5)
