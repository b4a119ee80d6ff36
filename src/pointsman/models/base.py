"""The base: one Qwen3-VL checkpoint with its tokenizer and image processor.

Every checkpoint, from Hub or folder, real or pocket, is loaded by ``load_base``. Every prompt goes
through its ``PromptEncoder``, so training and serving cannot encode it differently.
"""

import copy
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageTextToText

from pointsman.conversation import Prompt, Turn, user_turn
from pointsman.errors import ConfigError
from pointsman.models.attention import prepare_attention
from pointsman.models.checkpoint import (
    Dtype,
    Fingerprint,
    PaddingSide,
    digest_weights,
    fetch,
    load_model,
    loading,
    pick_device,
    pick_dtype,
)
from pointsman.models.cpu_kernels import to_device
from pointsman.models.encoding import (
    TEXT_KEYS,
    Encoded,
    as_encoder_output,
    different_images,
    join,
    without_images,
)
from pointsman.models.fp8 import E4M3, is_in_fp8, restore, stored_scales, use_fp8, wants_fp8
from pointsman.models.processor import load_processor
from pointsman.models.prompt_encoder import PromptEncoder
from pointsman.models.qwen3_vl import check_library, fingerprint, qwen_config
from pointsman.models.vision import (
    ImageCache,
    ImageFeatures,
    frame_values,
    pixel_values,
    places_of,
    use_onednn,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Base:
    """A loaded base. Not thread-safe: one owner runs it, see ``Engine``."""

    id: str
    revision: str | None
    """Commit of a Hub checkpoint; None for a folder."""
    folder: Path
    model: Any
    """A Qwen3VLForConditionalGeneration, optionally inside a PeftModel"""
    prompts: PromptEncoder
    fingerprint: Fingerprint
    adapters: Mapping[str, Path] = field(default_factory=dict)
    """Folder of each attached adapter, by name"""
    images: ImageCache = field(default_factory=ImageCache, compare=False, repr=False)

    @property
    def core(self) -> Any:
        """The model below its language-model head (Qwen3VLModel), with adapters in place."""
        return _unwrapped(self.model).model

    @property
    def config(self) -> Any:
        return self.core.config

    @property
    def depth(self) -> int:
        """Number of decoder layers."""
        return int(self.config.text_config.num_hidden_layers)

    @property
    def hidden_size(self) -> int:
        return int(self.config.text_config.hidden_size)

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ids = _unwrapped(self.model).generation_config.eos_token_id
        ids = self.tokenizer.eos_token_id if ids is None else ids
        return frozenset([ids] if isinstance(ids, int) else ids)

    @property
    def device(self) -> torch.device:
        return torch.device(next(self.model.parameters()).device)

    @property
    def dtype(self) -> torch.dtype:
        """Of the states; the tower's weights, which come first, have it too."""
        dtype: torch.dtype = next(self.model.parameters()).dtype
        return dtype

    @property
    def precision(self) -> str:
        """What makes the states: the name of ``dtype``, or ``fp8`` if the decoder's weights are."""
        if any(weight.dtype == E4M3 for weight in self.core.language_model.parameters()):
            return "fp8"
        return str(self.dtype).removeprefix("torch.")

    @property
    def tokenizer(self) -> Any:
        return self.prompts.tokenizer

    @property
    def image_processor(self) -> Any:
        return self.prompts.image_processor

    @property
    def template(self) -> str:
        """The chat template."""
        return self.prompts.template

    reads_images = True
    is_causal = True
    normalises = False
    default_pooling: ClassVar[Literal["last"]] = "last"

    @property
    def default_layers(self) -> tuple[int, ...]:
        """A quarter, half and three quarters of the depth: middle layers often route best."""
        return tuple(sorted({max(1, self.depth * n // 4) for n in (1, 2, 3)}))

    @contextmanager
    def without_adapters(self) -> Iterator[None]:
        """Switches all adapters off inside the block."""
        if not hasattr(self.model, "disable_adapter"):
            yield
            return
        try:
            with self.model.disable_adapter():
                yield
        finally:  # leaving disable_adapter turned gradients on
            self.model.set_adapter(self.model.active_adapter, inference_mode=True)

    def read(
        self, encoded: Encoded, layers: Sequence[int], keep: Callable[[int, Tensor], None]
    ) -> None:
        """One forward up to the last of ascending ``layers``.

        ``keep`` is called with each of them and its states (B, T, hidden).
        """
        trunk = self.trunk(layers[-1])
        decoder = trunk.language_model.layers

        def keeps(depth: int) -> Callable[..., None]:
            return lambda _, args: keep(depth, args[0])

        # The input of layer d, not the output of layer d-1: DeepStack adds to it in between.
        hooks = [decoder[depth].register_forward_pre_hook(keeps(depth)) for depth in layers[:-1]]
        try:
            output = trunk(**self.model_inputs(encoded), use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        keep(layers[-1], output.last_hidden_state)

    def trunk(self, depth: int) -> Any:
        """The core truncated after ``depth`` decoder layers, sharing all its weights.

        Its ``last_hidden_state`` is the state that decoder layer ``depth`` would read: no layer
        above it is computed, and no final norm.
        """
        if not 1 <= depth <= self.depth:
            raise ConfigError(f"layer {depth}: the base has layers 1 to {self.depth}")
        trunk, language = _shallow(self.core), _shallow(self.core.language_model)
        language.layers = nn.ModuleList(list(self.core.language_model.layers)[:depth])
        language.norm = nn.Identity()
        trunk.language_model = language
        return trunk

    def estimated_tokens(self, characters: int, sizes: Sequence[tuple[int, int]]) -> int:
        """An estimate of the tokens of a text and images of these sizes (width, height)."""
        return self.prompts.estimated_tokens(characters, sizes)

    def render(self, turns: Sequence[Turn], answer_next: bool = True) -> str:
        """The chat template's text for ``turns``, see ``PromptEncoder.render``."""
        return self.prompts.render(turns, answer_next)

    def encode(self, prompts: Sequence[Prompt], padding_side: PaddingSide = "right") -> Encoded:
        """Prompts as one padded batch on the base's device, ready for the answer's first token.

        Raises:
            SampleError: a prompt's images and image places differ in number.
        """
        return self.on_device(self.prompts.encode(prompts, padding_side))

    def prepare(self, prompts: Sequence[Prompt]) -> Encoded:
        """Prompts as one batch padded on the right, on the host; thread-safe."""
        encoded = self.prompts.encode(prompts)
        if self.device.type == "cuda" and "pixels" in encoded:
            encoded["pixels"] = encoded["pixels"].pin_memory()  # see ``to_device``
        return encoded

    def on_device(self, *prepared: Encoded) -> Encoded:
        """Batches joined on the base's device, except for what is read on the host."""
        # Pixels travel while the host joins the texts. These are one copy: to begin it takes longer
        # than the copy itself.
        batch: dict[str, Tensor] = join([self._with_pixels(each) for each in prepared])
        texts = [batch[name].reshape(-1, *batch["input_ids"].shape) for name in TEXT_KEYS]
        copied = to_device(torch.cat(texts), self.device)
        moved = dict(zip(TEXT_KEYS, torch.split(copied, [len(t) for t in texts]), strict=True))
        return cast(Encoded, batch | {k: v.view(batch[k].shape) for k, v in moved.items()})

    def _with_pixels(self, prepared: Encoded) -> Encoded:
        if "pixels" not in prepared:
            return prepared
        return cast(Encoded, {**prepared, "pixels": to_device(prepared["pixels"], self.device)})

    def encode_answers(self, prompts: Sequence[Prompt]) -> tuple[Encoded, Tensor]:
        """Conversations with their answers, and labels (B, T): -100 except on assistant turns.

        Both stay on the CPU, where a trainer's loader makes them.

        Raises:
            SampleError: a conversation has no assistant turn.
        """
        return self.prompts.encode_answers(prompts)

    def decode(self, tokens: Tensor) -> str:
        """Tokens of one answer (T,) as text, without special tokens."""
        return self.prompts.decode(tokens)

    def model_inputs(
        self, encoded: Mapping[str, Any], image_features: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """A batch as inputs of the stock model.

        Args:
            image_features: ``image_features(encoded)``, if already computed.
        """
        if image_features is None:
            image_features = self.image_features(encoded)
        return without_images(encoded) | {"mm_encoder_outputs": dict(image_features)}

    def stock_inputs(self, encoded: Mapping[str, Any]) -> dict[str, Any]:
        """A batch with its pixels: the model runs the tower on all its images together."""
        inputs = without_images(encoded)
        if "pixels" in encoded:
            inputs["pixel_values"] = self.pixel_values(encoded, encoded["image_index"].tolist())
            inputs["image_grid_thw"] = inputs["image_grid_thw"].to(self.device)
        return inputs

    def pixel_values(self, encoded: Mapping[str, Any], images: Sequence[int]) -> Tensor:
        """The tower's inputs for some of a batch's different images, together."""
        cuts = [(pixels, grid) for pixels, grid, _ in different_images(encoded)]
        values = [pixel_values(*cuts[at], self.image_processor, self.dtype) for at in images]
        return torch.cat(values)

    def image_features(self, encoded: Mapping[str, Any]) -> dict[str, Any]:
        """Output of the vision tower, to be passed to the model as ``mm_encoder_outputs``.

        Images already seen, by content, do not go through the tower again. It computes no
        gradients: Pointsman never trains the tower.
        """
        return drained(self.image_features_one_by_one(encoded))

    def image_features_one_by_one(
        self, encoded: Mapping[str, Any]
    ) -> Generator[None, None, dict[str, Any]]:
        """The same; it yields after each image, where the model is free for other work."""
        if "pixels" not in encoded:
            return {}
        seen = []
        for pixels, grid, digest in different_images(encoded):
            seen.append(self.images.get(tuple(digest), partial(self._see, pixels, grid)))
            yield
        return as_encoder_output([seen[index] for index in encoded["image_index"].tolist()])

    @torch.no_grad()
    def image_features_at_once(self, encoded: Mapping[str, Any]) -> dict[str, Any]:
        """The same for different images together, which suits an accelerator; none are cached."""
        if "pixels" not in encoded:
            return {}
        cuts = [(pixels, grid) for pixels, grid, _ in different_images(encoded)]
        frames = [frame_values(*cut, self.image_processor, self.dtype) for cut in cuts]
        values, grids = torch.cat(frames), torch.stack([grid for _, grid in cuts]).to(self.device)
        output = self.core.get_image_features(values, grids, return_dict=True)
        taps = zip(*output.deepstack_features, strict=True)
        seen = [
            ImageFeatures(tokens, tuple(deepstack))
            for tokens, deepstack in zip(output.pooler_output, taps, strict=True)
        ]
        return as_encoder_output([seen[index] for index in encoded["image_index"].tolist()])

    @torch.inference_mode(False)  # training may use features that were made while serving
    @torch.no_grad()
    def _see(self, pixels: Tensor, grid: Tensor) -> ImageFeatures:
        values = frame_values(pixels, grid, self.image_processor, self.dtype)
        grid, places = grid.cpu(), places_of(grid, self.core.visual)
        output = self.core.get_image_features(values, grid[None], return_dict=True, **places)
        return ImageFeatures(
            output.pooler_output[0], tuple(f[0] for f in output.deepstack_features)
        )


def drained(parts: Generator[None, None, T]) -> T:
    """The result of work in parts, done without a pause."""
    while True:
        try:
            next(parts)
        except StopIteration as end:
            result: T = end.value
            return result


def load_base(
    base_model_id: str,
    *,
    revision: str | None = None,
    device: str | None = None,
    dtype: Dtype | None = None,
    max_pixels: int | None = None,
) -> Base:
    """Loads any Qwen3-VL checkpoint, frozen and in evaluation mode.

    On CUDA it also sets up attention for the whole process, see ``prepare_attention``.

    Args:
        base_model_id: Hub id or folder, weights as safetensors.
        revision: commit, tag or branch of a Hub checkpoint.
        device: ``cuda``, ``cuda:1``, ``mps`` or ``cpu``; by default the best there is.
        dtype: by default bfloat16 on an accelerator and float32 on the CPU. ``fp8``: the decoder's
            linear layers have FP8 weights, see ``models.fp8``, and everything else has the default.
            A checkpoint in FP8 keeps its weights by default where PyTorch has FP8 products.
        max_pixels: larger images are scaled down to this many pixels; by default the checkpoint's.

    Raises:
        ArtefactError: the checkpoint or some of its files are missing.
        ConfigError: it is not a Qwen3-VL checkpoint, it is quantised otherwise than in FP8, there
            is no such device, FP8 suits neither the device nor the base, or transformers is too
            old.
    """
    folder, commit = fetch(base_model_id, revision)
    config = qwen_config(folder, base_model_id)
    is_stored, where = is_in_fp8(config, base_model_id), pick_device(device)
    is_fp8, torch_dtype = wants_fp8(dtype, is_stored, where), pick_dtype(dtype, where)
    processor = load_processor(folder)
    if max_pixels is not None:
        _limit_pixels(processor[0], max_pixels)
    with ThreadPoolExecutor(1) as pool:  # a large checkpoint's digest takes as long as its loading
        digest = pool.submit(digest_weights, folder)
        model = loading(
            folder,
            lambda path: load_model(
                path, AutoModelForImageTextToText, torch_dtype, as_stored=is_stored
            ),
        )
        check_library(model.model)
        scales = loading(folder, stored_scales) if is_stored else {}
        if is_fp8:
            use_fp8(model, where, scales)
        model = model.to(where)
    loading(folder, lambda _: restore(model, scales))
    use_onednn(model)
    prepare_attention(where)
    base = _base(base_model_id, commit, folder, model, processor, config, digest.result())
    loading(folder, lambda _: base.render([user_turn("", 1)]))  # raises on a broken template
    return base


def load_skeleton(base_model_id: str, *, revision: str | None = None) -> Base:
    """A checkpoint without its weights: modules and shapes, on the meta device.

    No weights are fetched or read, so its fingerprint's ``weights`` is empty.

    Raises:
        ArtefactError: no such checkpoint, or files missing from it.
        ConfigError: not a Qwen3-VL checkpoint.
    """
    folder, commit = fetch(base_model_id, revision, weights=False)
    config = qwen_config(folder, base_model_id)
    processor = load_processor(folder)
    with torch.device("meta"):
        model = loading(
            folder,
            lambda path: AutoModelForImageTextToText.from_config(  # type: ignore[no-untyped-call]
                AutoConfig.from_pretrained(path)
            ),
        )
    return _base(base_model_id, commit, folder, model, processor, config, weights="")


def _base(
    base_model_id: str,
    commit: str | None,
    folder: Path,
    model: Any,
    processor: tuple[Any, Any, str],
    config: dict[str, Any],
    weights: str,
) -> Base:
    image_processor, tokenizer, template = processor
    return Base(
        id=base_model_id,
        revision=commit,
        folder=folder,
        model=model.requires_grad_(False).eval(),
        prompts=PromptEncoder(
            id=base_model_id,
            tokenizer=tokenizer,
            image_processor=image_processor,
            template=template,
            image_token_id=model.config.image_token_id,
            longest=int(model.config.text_config.max_position_embeddings),
            positions=model.model.get_rope_index,
        ),
        fingerprint=fingerprint(folder, config, processor, weights),
    )


def _limit_pixels(image_processor: Any, max_pixels: int) -> None:
    smallest = image_processor.size["shortest_edge"]
    if max_pixels < smallest:
        raise ConfigError(f"max_pixels {max_pixels} is less than the least size, {smallest}")
    image_processor.size["longest_edge"] = max_pixels


def _unwrapped(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _shallow(module: nn.Module) -> Any:
    """A copy of a module whose children can be replaced without touching the original's."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin
