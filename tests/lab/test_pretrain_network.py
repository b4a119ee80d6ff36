"""The training forward against the stock model, augmentation, and the optimiser."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from lab.pretrain.augment import (
    character_targets,
    coloured,
    compressed,
    placed,
    resized,
)
from lab.pretrain.config import SHAPES, ModelShape
from lab.pretrain.corpus import Asker, View
from lab.pretrain.export import _processor
from lab.pretrain.feed import draw
from lab.pretrain.layout import CHARACTERS
from lab.pretrain.network import Network, block_mask, patchify
from lab.pretrain.optimiser import Muon, Optimiser, orthogonal, rate_share
from lab.pretrain.packing import PADDING, Packer
from lab.pretrain.tokenizer import load_tokenizer

TWO_TAPS = ModelShape(
    vision_depth=3, vision_width=32, vision_inner=48, deepstack=(0, 2), text_depth=3,
    text_width=48, text_inner=64, head_width=16, key_heads=1, positions=49,
)  # fmt: skip


def make_network(shape: ModelShape, seed: int = 0) -> Network:
    """A network whose weights are large enough for every part of it to matter."""
    torch.manual_seed(seed)
    network = Network(shape, packer()).eval()
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.15)
        else:
            nn.init.normal_(parameter, mean=float(parameter.mean() > 0.5), std=0.1)
    return network


def packer() -> Packer:
    return Packer(load_tokenizer(), 160)


def questions(size: tuple[int, int], seed: int = 1) -> tuple[Image.Image, Tensor, Tensor]:
    """A screen and a packed row about it: ids and segments (1, T)."""
    rng = random.Random(seed)
    layout = draw(rng, size, 1.0)
    row = packer().pack(rng, Asker(rng, layout, View(size)))
    return layout.image, *(torch.tensor(part)[None].long() for part in (row.ids, row.segments))


def processed(image: Image.Image) -> Any:
    settings = {k: v for k, v in _processor(SHAPES["toy"]).items() if k != "image_processor_type"}
    return Qwen2VLImageProcessorPil(**settings)(images=[image], return_tensors="pt")


def unpatchified(pixel_values: Tensor, canvas: tuple[int, int]) -> Tensor:
    """The processor's patches as the image they were cut from, (1, 3, H, W)."""
    width, height = canvas
    split = pixel_values.view(1, height // 32, width // 32, 2, 2, 3, 2, 16, 16)[:, :, :, :, :, :, 0]
    return split.permute(0, 5, 1, 3, 6, 2, 4, 7).reshape(1, 3, height, width)


def stock_logits(network: Network, features: Any, tokens: list[int]) -> Tensor:
    """The stock model's logits for one question alone: (its tokens, V)."""
    pad = packer().special_ids["<|image_pad|>"]
    places = int(features["image_grid_thw"].prod()) // 4
    prefix = packer().prefix + [pad] * places + [packer().image_end]
    ids = torch.tensor([prefix + tokens])
    output = network.stock(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == pad).int(),
        pixel_values=features["pixel_values"],
        image_grid_thw=features["image_grid_thw"],
    )
    found: Tensor = output.logits[0, len(prefix) :]
    return found


@pytest.mark.parametrize("shape", [SHAPES["toy"], TWO_TAPS], ids=["toy", "two-taps"])
@pytest.mark.parametrize("size", [(160, 96), (96, 224), (201, 130), (150, 247)])
@torch.no_grad()
def test_packed_logits_equal_those_of_the_stock_model(
    shape: ModelShape, size: tuple[int, int]
) -> None:
    network = make_network(shape)
    image, ids, segments = questions(size)
    features = processed(image)
    images = unpatchified(features["pixel_values"], SHAPES["toy"].canvas(size))
    patches = features["pixel_values"].view(-1, 3, 2, 256)
    assert torch.equal(patchify(images)[0], patches[:, :, 0].flatten(1))
    logits, characters = network(images, ids, segments)
    assert characters.shape == (1, len(patches), len(CHARACTERS))
    assert int(segments.max()) >= 2
    for number in range(int(segments.max()) + 1):
        own = segments[0] == number
        alone = stock_logits(network, features, ids[0][own].tolist())
        assert alone.std() > 0.1
        torch.testing.assert_close(logits[0][own], alone, atol=1e-4, rtol=0)


@torch.no_grad()
def test_batches_are_as_each_row_alone() -> None:
    network = make_network(SHAPES["toy"])
    rows = [questions((160, 96), seed) for seed in (1, 2, 3)]
    images = torch.cat([resized(torch.tensor(np.asarray(row[0]))[None], (160, 96)) for row in rows])
    ids, segments = torch.cat([row[1] for row in rows]), torch.cat([row[2] for row in rows])
    together, _ = network(images, ids, segments)
    for index in range(3):
        only = slice(index, index + 1)
        alone, _ = network(images[only], ids[only], segments[only])
        torch.testing.assert_close(together[only], alone, atol=1e-4, rtol=0)


# Dynamo looks at every tensor's gradient, and hides the warning only where warnings are not errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_one_compiled_layer_serves_every_depth_and_canvas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torch._dynamo.utils import counters

    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **kind: compiler(f, backend="eager", **kind))
    network = make_network(TWO_TAPS)
    counters.clear()
    for size in ((160, 96), (96, 128), (224, 160)):
        image, ids, segments = questions(size)
        both = [part.repeat(2, 1) for part in (ids, segments)]
        images = resized(torch.tensor(np.asarray(image))[None].repeat(2, 1, 1, 1), size)
        network.run_eagerly()
        eager, _ = network(images, *both)
        network.compile_layers()
        compiled, _ = network(images, *both)
        torch.testing.assert_close(compiled, eager, atol=1e-4, rtol=0)
    assert counters["stats"]["unique_graphs"] <= 4


@torch.no_grad()
def test_a_question_does_not_see_another() -> None:
    network = make_network(TWO_TAPS)
    image, ids, segments = questions((160, 128))
    images = resized(torch.tensor(np.asarray(image))[None], (160, 128))
    before, _ = network(images, ids, segments)
    changed = torch.where(segments == 1, (ids + 7) % 1000, ids)
    after, _ = network(images, changed, segments)
    others = segments != 1
    torch.testing.assert_close(before[others], after[others], atol=0, rtol=0)
    assert (before[segments == 1] - after[segments == 1]).abs().max() > 0.1
    other_image, _ = network(-images, ids, segments)
    assert (before - other_image).abs().amax(-1)[segments >= 0].min() > 1e-4


def test_the_mask_is_causal_and_blocked() -> None:
    segments = torch.tensor([[0, 0, 1, 1, 1, PADDING]])
    mask = block_mask(segments, 3, torch.float32)[0, 0] == 0
    assert mask.shape == (9, 9)
    assert mask[:3, :3].equal(torch.ones(3, 3).tril().bool())
    assert mask[4].tolist() == [True] * 5 + [False] * 4
    assert mask[6].tolist() == [True] * 3 + [False] * 2 + [True] * 2 + [False] * 2
    assert mask.any(1).all()


def test_every_parameter_gets_a_gradient_and_only_the_aux_head_is_extra() -> None:
    network = make_network(TWO_TAPS)
    image, ids, segments = questions((160, 96))
    images = resized(torch.tensor(np.asarray(image))[None], (160, 96))
    logits, characters = network(images, ids, segments)
    (logits.square().mean() + characters.square().mean()).backward()
    missing = [name for name, p in network.named_parameters() if p.grad is None]
    assert missing == []
    extra = {name for name in network.state_dict() if not name.startswith("stock.")}
    assert extra == {"characters.weight", "characters.bias"}


def test_the_default_shapes_have_their_size() -> None:
    with torch.device("meta"):
        sizes = {
            name: sum(p.numel() for p in Network(SHAPES[name], packer()).stock.parameters())
            for name in ("base", "small")
        }
    assert 10e6 < sizes["base"] < 13.1e6
    assert 6e6 < sizes["small"] < 8e6


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_placing_moves_pixels_where_the_view_says() -> None:
    pixels = torch.zeros(1, 97, 161, 3, dtype=torch.uint8)
    pixels[0, 60:64, 100:104] = 255
    view = View((161, 97), (0.8, 0.9), (0.15, 0.05))
    row = torch.tensor([[*view.scale, *view.shift]])
    for seed in (0, 1):  # both ways of sampling
        moved = placed(pixels, (160, 96), row, chance(seed))
        left, top, right, bottom = view.box((100, 60, 104, 64))
        y, x = divmod(int(moved[0].mean(0).argmax()), 160)
        assert left * 160 - 1 <= x <= right * 160 + 1
        assert top * 96 - 1 <= y <= bottom * 96 + 1


def test_an_unmoved_screen_stays_as_it_is() -> None:
    image, _, _ = questions((160, 96))
    pixels = torch.tensor(np.asarray(image))[None]
    for seed in (0, 1):
        same = placed(pixels, (160, 96), torch.tensor([[1.0, 1, 0, 0]]), chance(seed))
        torch.testing.assert_close(same, resized(pixels, (160, 96)), atol=1e-3, rtol=0)


def test_resizing_is_that_of_the_image_processor() -> None:
    image, _, _ = questions((333, 247))
    canvas = SHAPES["toy"].canvas((333, 247))
    ours = resized(torch.tensor(np.asarray(image))[None], canvas)
    theirs = unpatchified(processed(image)["pixel_values"], canvas)
    assert (ours - theirs).abs().mean() < 1e-3


def test_colours_change_for_some_and_stay_in_range() -> None:
    image, _, _ = questions((160, 96))
    images = resized(torch.tensor(np.asarray(image))[None], (160, 96)).repeat(40, 1, 1, 1)
    changed = coloured(images, chance())
    assert changed.shape == images.shape
    assert changed.abs().max() <= 1
    difference = (changed - images).abs().mean((1, 2, 3))
    assert 0 < (difference < 1e-6).sum() < 40
    assert torch.equal(coloured(images, chance()), changed)


def test_compression_loses_more_at_lower_quality() -> None:
    image, _, _ = questions((160, 96))
    images = resized(torch.tensor(np.asarray(image))[None], (160, 96))
    errors = [
        (compressed(images, torch.full((1, 1, 1, 1), quality)) - images).abs().mean().item()
        for quality in (100.0, 75.0, 30.0)
    ]
    assert errors[0] < 0.01 < errors[2]
    assert errors == sorted(errors)


def test_characters_fall_into_the_patch_that_shows_them() -> None:
    # Width 96: six patches across; merged order runs through squares of four.
    marks = torch.tensor([[[0.0, 5, 5], [1, 40, 20], [2, 90, 60], [-1, 0, 0]]])
    still = torch.tensor([[1.0, 1, 0, 0]])
    targets = character_targets(marks, still, (96, 64), (96, 64))
    assert targets.shape == (1, 24, len(CHARACTERS))
    assert targets.nonzero().tolist() == [[0, 0, 0], [0, 6, 1], [0, 23, 2]]
    shifted = torch.tensor([[1.0, 1, 0.5, 0]])
    assert character_targets(marks, shifted, (96, 64), (96, 64)).sum() == 2


def test_newton_schulz_makes_matrices_orthogonal() -> None:
    for shape in ((3, 24, 16), (2, 16, 40)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert values.min() > 0.5
        assert values.max() < 1.3


def test_muon_finds_a_minimum() -> None:
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(6, 4)) for _ in range(2)]
    goal = torch.randn(6, 4)
    muon = Muon(weights, 0.05, weight_decay=0.0)
    first = None
    for _ in range(150):
        loss = sum(((weight - goal) ** 2).mean() for weight in weights)
        assert isinstance(loss, Tensor)
        first = loss.item() if first is None else first
        muon.zero_grad()
        loss.backward()
        muon.step()
    assert first is not None
    assert loss.item() < first / 20


def test_optimiser_state_survives_a_restart() -> None:
    def stepped(network: Network, optimiser: Optimiser, seed: int) -> None:
        torch.manual_seed(seed)
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimiser.step(1.0)

    one = make_network(SHAPES["toy"])
    first = Optimiser(one, 0.02, 1e-3)
    stepped(one, first, 1)
    two = make_network(SHAPES["toy"])
    two.load_state_dict(one.state_dict())
    second = Optimiser(two, 0.02, 1e-3)
    second.load({name: value.clone() for name, value in first.state().items()})
    stepped(one, first, 2)
    stepped(two, second, 2)
    for name, parameter in one.named_parameters():
        torch.testing.assert_close(parameter, two.get_parameter(name))


def test_the_schedule_warms_up_and_decays() -> None:
    assert rate_share(0, 0.0, 10, 0.4) == pytest.approx(0.1)
    assert rate_share(50, 0.5, 10, 0.4) == 1
    assert rate_share(50, 0.8, 10, 0.4) == pytest.approx(0.5)
    assert 0 < rate_share(50, 1.2, 10, 0.4) < 0.05
