"""Settings of the pretraining: the model's shape, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointsman.errors import ConfigError

PATCH = 16
MERGE = 2
CELL = PATCH * MERGE
"""Pixels a side of what becomes one token; canvas sides are multiples of it."""


@dataclass(frozen=True)
class ModelShape:
    """Shape of the base. ``base`` has 12 million parameters, ``small`` 7, ``toy`` is for tests."""

    vision_depth: int = 6
    vision_width: int = 256
    vision_inner: int = 768
    deepstack: tuple[int, ...] = (2,)
    text_depth: int = 8
    text_width: int = 256
    text_inner: int = 640
    head_width: int = 64
    key_heads: int = 2
    positions: int = 1024
    pixels: tuple[int, int] = (768 * 512, 1024 * 768)
    """The image processor makes smaller screens larger, and larger ones smaller."""

    def __post_init__(self) -> None:
        for width in (self.vision_width, self.text_width):
            if width % self.head_width:
                raise ConfigError(f"width {width} is no multiple of a head's {self.head_width}")
        if self.positions != int(self.positions**0.5) ** 2:
            raise ConfigError(f"positions {self.positions} is no square")
        if len(self.deepstack) >= self.text_depth:
            raise ConfigError("DeepStack needs more text layers than it has taps")

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height that the image processor makes of a screen's."""
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        height, width = smart_resize(size[1], size[0], CELL, *self.pixels)
        return width, height

    def config(self, vocabulary: int, ids: dict[str, int]) -> Any:
        """The configuration of the stock model; ``ids`` are those of the special tokens."""
        from transformers import Qwen3VLConfig

        pairs = self.head_width // 2
        side = pairs * 5 // 16  # as Qwen3-VL shares out 64 pairs: 24, 20, 20
        return Qwen3VLConfig(
            text_config={
                "vocab_size": vocabulary,
                "hidden_size": self.text_width,
                "intermediate_size": self.text_inner,
                "num_hidden_layers": self.text_depth,
                "num_attention_heads": self.text_width // self.head_width,
                "num_key_value_heads": self.key_heads,
                "head_dim": self.head_width,
                "max_position_embeddings": 4096,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 10000.0,
                    "mrope_section": [pairs - 2 * side, side, side],
                    "mrope_interleaved": True,
                },
            },
            vision_config={
                "depth": self.vision_depth,
                "hidden_size": self.vision_width,
                "intermediate_size": self.vision_inner,
                "num_heads": self.vision_width // self.head_width,
                "out_hidden_size": self.text_width,
                "patch_size": PATCH,
                "spatial_merge_size": MERGE,
                "temporal_patch_size": 2,
                "num_position_embeddings": self.positions,
                "deepstack_visual_indexes": list(self.deepstack),
            },
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
            tie_word_embeddings=True,
        )


SHAPES = {
    "base": ModelShape(),
    "small": ModelShape(
        vision_depth=5, vision_width=192, vision_inner=576, deepstack=(1,), text_width=192,
        text_inner=512, text_depth=8, key_heads=3,
    ),
    "toy": ModelShape(
        vision_depth=2, vision_width=32, vision_inner=64, deepstack=(0,), text_depth=2,
        text_width=32, text_inner=64, head_width=16, key_heads=1, positions=64,
        pixels=(CELL**2, 1024 * 1024),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """How the base is trained. Seconds are of wall clock."""

    shape: str = "base"
    seed: int = 1
    base: Path | None = None
    """An exported base to begin with; None: random weights."""
    budget_seconds: float = 560.0
    """Of this run, from its start to its last file."""
    runs_left: int = 1
    """This run and those that will resume after it; the schedule ends with the last."""
    steps: int = 0
    """Stop after so many steps in all, and let the schedule follow them; 0: the clock decides."""
    workers: int = 14
    slots: int = 30
    chunk_pixels: int = 128 * 640 * 480
    """Pixels of one chunk of screens as drawn or shown: more of them if they are small. A large
    chunk, since a step of a small one is over before the next kernels are launched."""
    accumulate: int = 1
    """Chunks, each of another canvas size, for one step."""
    tokens: int = 320
    """Text tokens for each screen, filled with questions."""
    most_characters: int = 1600
    sheets: float = 0.4
    """Share of screens with random elements; the others are demo screens."""
    fonts: tuple[Path, ...] = ()
    """Folders with more typefaces than the bundled ones, as NAME-Regular.ttf and NAME-Bold.ttf."""
    sizes: tuple[int, int, int, int] = (512, 1280, 400, 800)
    """Least and most width, least and most height, as drawn; shown is ``ModelShape.canvas``. Of
    screens that stand upright the width is what is given here for the height."""
    muon_rate: float = 0.02
    adam_rate: float = 1.5e-3
    rate_share: float = 1.0
    """Of both rates. What a base has learnt already, full rates undo before they learn more."""
    warm_up_steps: int = 200
    decay_share: float = 0.45
    """Of the training, its end, in which the rates go down to nothing."""
    characters_weight: float = 0.5
    log_seconds: float = 10.0
    save_seconds: float = 120.0
    reserve_seconds: float = 35.0
    """Of the budget, for evaluation and the last files."""
    evaluation_screens: int = 320
    compile: bool = True

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ConfigError(f"shape {self.shape!r} is none of {', '.join(SHAPES)}")
        if self.budget_seconds <= self.reserve_seconds:
            raise ConfigError(
                f"a budget of {self.budget_seconds:g} s leaves no time to train after the "
                f"{self.reserve_seconds:g} s kept for evaluation and files"
            )
        for name in ("rate_share", "decay_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give more than 0, at most 1")
        for folder in self.fonts:
            if not any(folder.rglob("*-Regular.ttf")):
                raise ConfigError(f"fonts {folder}: there is no NAME-Regular.ttf in it")
        if self.workers and self.slots < self.workers + self.accumulate:
            raise ConfigError(f"{self.slots} slots are too few for {self.workers} workers")


TOY = TrainConfig(
    shape="toy",
    budget_seconds=30.0,
    workers=0,
    chunk_pixels=8 * 192 * 128,
    accumulate=1,
    tokens=160,
    most_characters=400,
    sheets=1.0,
    sizes=(160, 224, 96, 160),
    warm_up_steps=10,
    log_seconds=1.0,
    save_seconds=5.0,
    reserve_seconds=6.0,
    evaluation_screens=12,
    compile=False,
)
"""Start to end in under a minute on one core."""
