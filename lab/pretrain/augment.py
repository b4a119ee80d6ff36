"""Augmentation of whole batches on the device: place, colour, dark mode, noise, compression."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import MERGE, PATCH
from .layout import CHARACTERS

# The luminance table of the JPEG standard (ITU-T T.81, annex K).
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


def resized(pixels: Tensor, canvas: tuple[int, int]) -> Tensor:
    """(B, height, width, 3) bytes as (B, 3, H, W) in -1 to 1, as the image processor makes it."""
    images = pixels.permute(0, 3, 1, 2).float()
    size = (canvas[1], canvas[0])
    if images.shape[2:] != size:
        images = F.interpolate(images, size, mode="bicubic", antialias=True).round_().clamp_(0, 255)
    return images.div_(127.5).sub_(1)


def placed(
    pixels: Tensor, canvas: tuple[int, int], view: Tensor, chance: torch.Generator
) -> Tensor:
    """Screens scaled and shifted onto the canvas; what they leave bare has one colour.

    Args:
        pixels: (B, height, width, 3) bytes.
        view: (B, 4), scale and shift of x and of y as in ``corpus.View``.
    """
    batch, device = len(pixels), pixels.device
    images = pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    (across, down), (right, low) = view[:, :2].T, view[:, 2:].T
    zero = torch.zeros_like(across)
    # From a place on the canvas, -1 to 1, back to the place on the screen that lies there.
    rows = (
        torch.stack([1 / across, zero, (1 - 2 * right) / across - 1], 1),
        torch.stack([zero, 1 / down, (1 - 2 * low) / down - 1], 1),
    )
    size = [batch, 3, canvas[1], canvas[0]]
    grid = F.affine_grid(torch.stack(rows, 1), size, align_corners=False)
    # Half of the bare margins continue the screen's own ground.
    corner = images[:, :, 1, 1]
    own = torch.rand(batch, 1, device=device, generator=chance) < 0.5
    ground = torch.where(own, corner, _uniform(chance, -1, 1, batch, 3))[..., None, None]
    # Decided on the host: to ask the device would make it wait.
    smooth = "bicubic" if chance.initial_seed() % 2 else "bilinear"
    moved = F.grid_sample(images - ground, grid, mode=smooth, align_corners=False)
    return (moved + ground).clamp_(-1, 1)


def coloured(images: Tensor, chance: torch.Generator) -> Tensor:
    """Other colours, light on dark, noise and compression, each for some of (B, 3, H, W).

    What mixes colours is one matrix for each screen; the rest goes to a share of the batch, whose
    first screens are chance enough.
    """
    matrix, lift = _mixture(len(images), chance)
    flat = torch.baddbmm(lift[..., None], matrix, images.flatten(2)).clamp_(-1, 1)
    images = flat.view(images.shape)
    few = len(images) // 5
    if few:
        quality = _uniform(chance, 35, 90, few)
        images[:few] = compressed(images[:few], quality)
        bend = torch.exp(_uniform(chance, -0.35, 0.35, few))
        images[few : 2 * few] = ((images[few : 2 * few] + 1) / 2).pow_(bend).mul_(2).sub_(1)
        noisy = images[2 * few : 3 * few]
        noise = torch.randn(noisy.shape, device=images.device, generator=chance)
        noisy.add_(noise, alpha=0.03).clamp_(-1, 1)
    return images


def _mixture(batch: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each screen a matrix of its colours (B, 3, 3) and what is added to them (B, 3)."""
    device = chance.device
    same = torch.eye(3, device=device)
    # Dark mode as browsers make it: light turned over, hue kept.
    dark = same - 2 / 3
    dice = torch.rand(batch, 1, 1, device=device, generator=chance)
    turned = torch.where(dice < 0.05, -same, torch.where(dice < 0.11, dark, same))
    gain = torch.where(dice > 0.6, _uniform(chance, 0.75, 1.05, batch, 1)[..., None], 1.0)
    order = torch.rand(batch, 3, device=device, generator=chance).argsort(1)
    swapped = torch.where(_some(chance, batch, 0.2)[..., None], same[order], same)
    lift = torch.where(dice[..., 0] > 0.6, _uniform(chance, -0.1, 0.05, batch, 1), 0.0)
    tint = torch.where(_some(chance, batch, 0.2), _uniform(chance, -0.15, 0.15, batch, 3), 0.0)
    return gain * (swapped @ turned), lift + tint


def compressed(images: Tensor, quality: Tensor) -> Tensor:
    """What JPEG at a quality (B, 1, 1, 1) leaves of (B, 3, H, W); colour is kept as fine as light.

    Sides are multiples of 8.
    """
    batch, channels, height, width = images.shape
    place = torch.arange(8, device=images.device)
    waves = torch.cos((2 * place + 1) * place[:, None] * math.pi / 16) / 2
    waves[0] /= math.sqrt(2)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100
    table = torch.tensor(_LUMINANCE, device=images.device) * scale  # (B, 1, 8, 8)
    steps = table.round().clamp(min=1)[:, :, None, None]
    blocks = images.mul(127.5).view(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    kept = (waves @ blocks @ waves.T / steps).round() * steps
    restored = (waves.T @ kept @ waves).transpose(3, 4).reshape(images.shape)
    return restored.div(127.5).clamp(-1, 1)


def character_targets(
    characters: Tensor, view: Tensor, size: tuple[int, int], canvas: tuple[int, int]
) -> Tensor:
    """Which characters lie in each patch, (B, N, characters) of 0 and 1.

    Args:
        characters: (B, M, 3): class (-1 for none), x and y in pixels of the drawn screen.
        size: width and height of the drawn screen.
        canvas: width and height of the canvas.
    """
    batch, device = len(characters), characters.device
    columns, rows = canvas[0] // PATCH, canvas[1] // PATCH
    x = (characters[..., 1] / size[0] * view[:, :1] + view[:, 2:3]) * columns
    y = (characters[..., 2] / size[1] * view[:, 1:2] + view[:, 3:4]) * rows
    shown = (characters[..., 0] >= 0) & (x >= 0) & (y >= 0) & (x < columns) & (y < rows)
    row, column = y.long().clamp(0, rows - 1), x.long().clamp(0, columns - 1)
    token = (row // MERGE) * (columns // MERGE) + column // MERGE
    patch = token * MERGE**2 + (row % MERGE) * MERGE + column % MERGE
    known = len(CHARACTERS)
    targets = torch.zeros(batch, rows * columns * known + 1, device=device)
    place = torch.where(shown, patch * known + characters[..., 0].long(), rows * columns * known)
    targets.scatter_(1, place, 1.0)
    return targets[:, :-1].view(batch, rows * columns, known)


def _uniform(chance: torch.Generator, low: float, high: float, batch: int, wide: int = 0) -> Tensor:
    shape = (batch, wide) if wide else (batch, 1, 1, 1)
    return torch.rand(shape, device=chance.device, generator=chance) * (high - low) + low


def _some(chance: torch.Generator, batch: int, share: float) -> Tensor:
    """(B, 1), true for about a share."""
    return torch.rand(batch, 1, device=chance.device, generator=chance) < share
