"""The base: one Qwen3-VL checkpoint with its tokenizer and image processor.

Every checkpoint, from Hub or folder, real or pocket, comes in through ``load_base``, and every
prompt through ``Base.encode``: training and serving cannot build it differently.
"""

import copy
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageTextToText

from pointsman.conversation import Prompt, Turn, check_places, check_text, user_turn
from pointsman.errors import ConfigError, SampleError
from pointsman.files import digest_json
from pointsman.models.checkpoint import (
    Dtype,
    Fingerprint,
    PaddingSide,
    checked_config,
    digest_config,
    digest_tokenizer,
    digest_weights,
    fetch,
    load_model,
    loading,
    pad,
    pick_device,
    pick_dtype,
)
from pointsman.models.cpu_kernels import to_device
from pointsman.models.encoding import (
    IGNORED,
    ON_HOST,
    Encoded,
    as_encoder_output,
    different_images,
    without_images,
)
from pointsman.models.processor import load_processor, processor_settings
from pointsman.models.vision import (
    ImageCache,
    ImageFeatures,
    digest_of,
    patches_of,
    pixel_values,
    places_of,
    use_onednn,
)

MODEL_TYPE = "qwen3_vl"
_ZERO_WIDTH = "\u200b"


@dataclass(frozen=True)
class Base:
    """A loaded base. Not thread-safe: one owner runs it, see ``Engine``."""

    id: str
    revision: str | None
    """Commit of a Hub checkpoint; None for a folder."""
    folder: Path
    model: Any
    """Qwen3VLForConditionalGeneration, perhaps inside a PeftModel"""
    tokenizer: Any
    image_processor: Any
    template: str
    fingerprint: Fingerprint
    adapters: Mapping[str, Path] = field(default_factory=dict)
    """Folder of each adapter that was attached, by its name"""
    images: ImageCache = field(default_factory=ImageCache, compare=False, repr=False)

    @property
    def core(self) -> Any:
        """The model below its language-model head (Qwen3VLModel), adapters in place."""
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
        dtype: torch.dtype = next(self.model.parameters()).dtype
        return dtype

    reads_images = True
    is_causal = True
    normalises = False
    default_pooling: ClassVar[Literal["last"]] = "last"

    @property
    def default_layers(self) -> tuple[int, ...]:
        """A quarter, half and three quarters of the depth: middle layers often route best."""
        return tuple(sorted({max(1, self.depth * n // 4) for n in (1, 2, 3)}))

    def estimated_tokens(self, characters: int, sizes: Sequence[tuple[int, int]]) -> int:
        """About how many tokens a text and images of these sizes (width, height) will be."""
        merge = int(self.image_processor.merge_size) ** 2
        patches = [self.image_processor.get_number_of_image_patches(h, w) for w, h in sizes]
        return int(sum(patches)) // merge + characters // 4 + 16

    @contextmanager
    def without_adapters(self) -> Iterator[None]:
        """All adapters off inside the block."""
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

        ``keep`` is given each of them with its states (B, T, hidden).
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
        """The core cut off after ``depth`` decoder layers, sharing all its weights.

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

    def encode(self, prompts: Sequence[Prompt], padding_side: PaddingSide = "right") -> Encoded:
        """Prompts as one padded batch on the base's device, ready for the answer's first token.

        Raises:
            SampleError: a prompt whose images and image places differ in number.
        """
        texts = [self.render(prompt.turns) for prompt in prompts]
        grids, patches = self._images(prompts)
        rows = [self._tokens(text, grid) for text, grid in zip(texts, grids, strict=True)]
        batch = self._batch(rows, grids, patches, padding_side)
        tensors = cast(dict[str, Tensor], batch)
        moved = {k: v if k in ON_HOST else to_device(v, self.device) for k, v in tensors.items()}
        return cast(Encoded, moved)

    def encode_answers(self, prompts: Sequence[Prompt]) -> tuple[Encoded, Tensor]:
        """Conversations with their answers, and labels (B, T): -100 but on what assistants say.

        Both are left on the CPU, where a trainer's loader makes them.

        Raises:
            SampleError: a conversation without an assistant turn.
        """
        grids, patches = self._images(prompts)
        rows, labels = [], []
        for prompt, grid in zip(prompts, grids, strict=True):
            tokens: list[int] = []
            targets: list[int] = []
            remaining = iter(grid)
            for text, is_answer in self._segments(prompt.turns):
                places = text.count(self._image_token)
                ids = self._tokens(text, [next(remaining) for _ in range(places)])
                tokens += ids
                targets += self._targets(ids) if is_answer else [IGNORED] * len(ids)
            rows.append(tokens)
            labels.append(targets)
        encoded = self._batch(rows, grids, patches, "right")
        return encoded, pad(labels, IGNORED, "right")

    def render(self, turns: Sequence[Turn], answer_next: bool = True) -> str:
        """The chat template's text for ``turns``; user text cannot add special tokens to it."""
        messages = [
            {"role": turn.role, "content": [self._content(part) for part in turn.parts]}
            if None in turn.parts
            else {"role": turn.role, "content": self.neutralised(turn.text)}
            for turn in turns
        ]
        text = self.tokenizer.apply_chat_template(
            messages,
            chat_template=self.template,
            tokenize=False,
            add_generation_prompt=answer_next,
        )
        return str(text)

    def neutralised(self, text: str) -> str:
        """``text`` with every special token in it split by a zero-width space.

        Text such as ``<|image_pad|>`` would otherwise become the real special token.
        """
        check_text(text)
        pattern = self._special_tokens
        while match := pattern.search(text):
            place = match.start() + 1
            text = text[:place] + _ZERO_WIDTH + text[place:]
        return text

    def decode(self, tokens: Tensor) -> str:
        """Tokens of one answer (T,) as text, special tokens left out."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def model_inputs(
        self, encoded: Mapping[str, Any], image_features: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """A batch as the stock model takes it.

        Args:
            image_features: ``image_features(encoded)`` if it is already there.
        """
        if image_features is None:
            image_features = self.image_features(encoded)
        return without_images(encoded) | {"mm_encoder_outputs": dict(image_features)}

    def stock_inputs(self, encoded: Mapping[str, Any]) -> dict[str, Any]:
        """A batch with its pixels: the model sends all its images through the tower together."""
        inputs = without_images(encoded)
        if "patches" in encoded:
            inputs["pixel_values"] = self.pixel_values(encoded, encoded["image_index"].tolist())
            inputs["image_grid_thw"] = inputs["image_grid_thw"].to(self.device)
        return inputs

    def pixel_values(self, encoded: Mapping[str, Any], images: Sequence[int]) -> Tensor:
        """What the tower reads of some of a batch's different images, together."""
        cuts = [patches for patches, _, _ in different_images(encoded)]
        patches = torch.cat([cuts[image] for image in images])
        return pixel_values(patches, self.image_processor, self.dtype)

    def image_features(self, encoded: Mapping[str, Any]) -> dict[str, Any]:
        """Output of the vision tower, to be passed to the model as ``mm_encoder_outputs``.

        Images that were seen before, by their content, do not go through the tower again. Without
        gradients: nothing of ours trains the tower.
        """
        if "patches" not in encoded:
            return {}
        seen = [
            self.images.get(tuple(digest), partial(self._see, patches, grid))
            for patches, grid, digest in different_images(encoded)
        ]
        return as_encoder_output([seen[index] for index in encoded["image_index"].tolist()])

    @torch.no_grad()
    def image_features_at_once(self, encoded: Mapping[str, Any]) -> dict[str, Any]:
        """The same for different images together, as suits an accelerator; none are kept."""
        if "patches" not in encoded:
            return {}
        values = pixel_values(encoded["patches"], self.image_processor, self.dtype)
        grids = torch.stack([grid for _, grid, _ in different_images(encoded)]).to(self.device)
        output = self.core.get_image_features(values, grids, return_dict=True)
        taps = zip(*output.deepstack_features, strict=True)
        seen = [
            ImageFeatures(tokens, tuple(deepstack))
            for tokens, deepstack in zip(output.pooler_output, taps, strict=True)
        ]
        return as_encoder_output([seen[index] for index in encoded["image_index"].tolist()])

    @torch.inference_mode(False)  # who trains may use what was made while serving
    @torch.no_grad()
    def _see(self, patches: Tensor, grid: Tensor) -> ImageFeatures:
        values = pixel_values(patches, self.image_processor, self.dtype)
        grid, places = grid.cpu(), places_of(grid, self.core.visual)
        output = self.core.get_image_features(values, grid[None], return_dict=True, **places)
        return ImageFeatures(
            output.pooler_output[0], tuple(f[0] for f in output.deepstack_features)
        )

    def _content(self, part: str | None) -> dict[str, str]:
        if part is None:
            return {"type": "image"}
        return {"type": "text", "text": self.neutralised(part)}

    @property
    def _special_tokens(self) -> re.Pattern[str]:
        tokens = (t.content for t in self.tokenizer.added_tokens_decoder.values() if t.special)
        # An empty alternation would match everywhere; (?!) matches nowhere.
        return re.compile("|".join(map(re.escape, tokens)) or "(?!)")

    @property
    def _image_token(self) -> str:
        return str(self.tokenizer.convert_ids_to_tokens(self.config.image_token_id))

    def _segments(self, turns: Sequence[Turn]) -> Iterator[tuple[str, bool]]:
        """The rendered conversation, cut around its assistant turns."""
        done = ""
        for index, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            question = self.render(turns[:index])
            answered = self.render(turns[: index + 1], answer_next=False)
            if not (question.startswith(done) and answered.startswith(question)):
                raise ConfigError(
                    f"{self.id}: its chat template rewrites earlier turns, so this conversation "
                    "cannot be trained on whole; give one answer per sample"
                )
            yield question[len(done) :], False
            yield answered[len(question) :], True
            done = answered
        if not done:
            raise SampleError("a sample has no assistant turn, so there is no answer to train on")

    def _targets(self, ids: list[int]) -> list[int]:
        """An answer's tokens up to the one that ends it; what the template adds is never said."""
        end = self.tokenizer.eos_token_id
        last = len(ids) - ids[::-1].index(end) if end in ids else len(ids)
        return ids[:last] + [IGNORED] * (len(ids) - last)

    def _images(self, prompts: Sequence[Prompt]) -> tuple[list[list[Tensor]], list[Tensor]]:
        """Each prompt's image grids (3,), and each image's patches (P, 3, patch area)."""
        for prompt in prompts:
            check_places(prompt.turns, len(prompt.images))
        cuts: dict[int, tuple[Tensor, Tensor]] = {}
        for image in (image for prompt in prompts for image in prompt.images):
            if id(image) not in cuts:
                cuts[id(image)] = patches_of(image, self.image_processor)
        cut = [[cuts[id(image)] for image in prompt.images] for prompt in prompts]
        grids = [[grid for grid, _ in images] for images in cut]
        return grids, [patches for images in cut for _, patches in images]

    def _tokens(self, text: str, grids: Sequence[Tensor]) -> list[int]:
        """Token ids of ``text``, its image places widened to one token per merged patch."""
        pieces = text.split(self._image_token)
        if len(pieces) != len(grids) + 1:
            raise ConfigError(
                f"{self.id}: its chat template shows {len(pieces) - 1} of {len(grids)} images; "
                "use the template of a Qwen3-VL checkpoint"
            )
        merge = self.image_processor.merge_size**2
        widths = [int(grid.prod()) // merge for grid in grids]
        wide = pieces[0] + "".join(
            self._image_token * width + piece
            for width, piece in zip(widths, pieces[1:], strict=True)
        )
        return list(self.tokenizer(wide, add_special_tokens=False)["input_ids"])

    def _batch(
        self,
        rows: list[list[int]],
        grids: list[list[Tensor]],
        patches: Sequence[Tensor],
        padding_side: PaddingSide,
    ) -> Encoded:
        longest, most = max(map(len, rows)), int(self.config.text_config.max_position_embeddings)
        if longest > most:
            raise SampleError(
                f"a prompt has {longest} tokens and the base reads at most {most}; "
                "shorten the text or set max_pixels for smaller images"
            )
        filler = self.tokenizer.pad_token_id
        ids = pad(rows, 0 if filler is None else filler, padding_side)
        mask = pad([[1] * len(row) for row in rows], 0, padding_side)
        kinds = ((ids == self.config.image_token_id) & mask.bool()).long()
        flat = [grid for row in grids for grid in row]
        grid_thw = torch.stack(flat) if flat else None
        # On the CPU: it reads grid sizes one by one, each a device synchronisation elsewhere.
        positions, _ = self.core.get_rope_index(
            ids, mm_token_type_ids=kinds, image_grid_thw=grid_thw, attention_mask=mask
        )
        batch = Encoded(
            input_ids=ids, attention_mask=mask, mm_token_type_ids=kinds, position_ids=positions
        )
        if grid_thw is not None:
            different = {id(cut): (cut, grid) for cut, grid in zip(patches, flat, strict=True)}
            places = {key: place for place, key in enumerate(different)}
            index = torch.tensor([places[id(cut)] for cut in patches])
            digests = torch.stack([digest_of(cut, grid) for cut, grid in different.values()])
            batch["patches"] = torch.cat([cut for cut, _ in different.values()])
            batch["image_grid_thw"] = grid_thw
            batch["image_index"], batch["image_digests"] = index, digests[index]
        return batch


def load_base(
    base_model_id: str,
    *,
    revision: str | None = None,
    device: str | None = None,
    dtype: Dtype | None = None,
    max_pixels: int | None = None,
) -> Base:
    """Loads any Qwen3-VL checkpoint, frozen and in evaluation mode.

    Args:
        base_model_id: Hub id or folder, weights as safetensors.
        revision: commit, tag or branch of a Hub checkpoint.
        device: ``cuda``, ``cuda:1``, ``mps`` or ``cpu``; by default the best there is.
        dtype: by default bfloat16 on an accelerator and float32 on the CPU.
        max_pixels: larger images are scaled down to this many pixels; by default the checkpoint's.

    Raises:
        ArtefactError: no such checkpoint, or files missing from it.
        ConfigError: not a Qwen3-VL checkpoint, no such device, or a transformers that is too old.
    """
    folder, commit = fetch(base_model_id, revision)
    config = _config(folder, base_model_id)
    where = pick_device(device)
    torch_dtype = pick_dtype(dtype, where)
    image_processor, tokenizer, template = load_processor(folder)
    if max_pixels is not None:
        smallest = image_processor.size["shortest_edge"]
        if max_pixels < smallest:
            raise ConfigError(f"max_pixels {max_pixels} is less than the least size, {smallest}")
        image_processor.size["longest_edge"] = max_pixels
    model = loading(
        folder, lambda path: load_model(path, AutoModelForImageTextToText, torch_dtype)
    ).to(where)
    _check_library(model.model)
    use_onednn(model)
    if where.type == "cuda":
        # It makes a plan for each new shape, up to half a second each, and screens have any size.
        torch.backends.cuda.enable_cudnn_sdp(False)
    base = Base(
        id=base_model_id,
        revision=commit,
        folder=folder,
        model=model.requires_grad_(False).eval(),
        tokenizer=tokenizer,
        image_processor=image_processor,
        template=template,
        fingerprint=_fingerprint(folder, config, template, image_processor),
    )
    loading(folder, lambda _: base.render([user_turn("", 1)]))  # refuses a broken template
    return base


def load_skeleton(base_model_id: str, *, revision: str | None = None) -> Base:
    """A checkpoint without its weights: modules and shapes, on the meta device.

    No weights are fetched or read, so its fingerprint's ``weights`` is empty.

    Raises:
        ArtefactError: no such checkpoint, or files missing from it.
        ConfigError: not a Qwen3-VL checkpoint.
    """
    folder, commit = fetch(base_model_id, revision, weights=False)
    config = _config(folder, base_model_id)
    image_processor, tokenizer, template = load_processor(folder)
    with torch.device("meta"):
        model = loading(
            folder,
            lambda path: AutoModelForImageTextToText.from_config(  # type: ignore[no-untyped-call]
                AutoConfig.from_pretrained(path)
            ),
        )
    fingerprint = _fingerprint(folder, config, template, image_processor, weights=False)
    return Base(
        id=base_model_id,
        revision=commit,
        folder=folder,
        model=model.requires_grad_(False).eval(),
        tokenizer=tokenizer,
        image_processor=image_processor,
        template=template,
        fingerprint=fingerprint,
    )


def fingerprint_of(base_model_id: str, revision: str | None = None) -> Fingerprint:
    """A checkpoint's fingerprint without loading its weights into a model."""
    folder, _ = fetch(base_model_id, revision)
    processor, _, template = load_processor(folder)
    return _fingerprint(folder, checked_config(folder), template, processor)


def _check_library(core: Any) -> None:
    """Refuses a transformers whose model passes over ``mm_encoder_outputs`` without a word.

    It would answer without having seen the images.
    """
    if "mm_encoder_outputs" not in inspect.signature(type(core).forward).parameters:
        raise ConfigError(
            f"transformers {transformers.__version__} does not take the features of images; "
            "install 5.23 or newer"
        )


def _unwrapped(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _shallow(module: nn.Module) -> Any:
    """A copy of a module whose children can be replaced without touching the original's."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


def _config(folder: Path, base_model_id: str) -> dict[str, Any]:
    """A checkpoint's ``config.json``. Raises ``ConfigError`` if it is not of Qwen3-VL."""
    config = checked_config(folder)
    if config.get("model_type") != MODEL_TYPE:
        raise ConfigError(
            f"{base_model_id}: a checkpoint of type {config.get('model_type')!r}; "
            f"give one of type {MODEL_TYPE!r} (Qwen3-VL)"
        )
    return config


def _fingerprint(
    folder: Path,
    config: dict[str, Any],
    template: str,
    image_processor: Any,
    *,
    weights: bool = True,
) -> Fingerprint:
    return Fingerprint(
        weights=digest_weights(folder) if weights else "",
        config=digest_config(config),
        tokenizer=digest_tokenizer(folder),
        template=digest_json(template),
        image_processor=digest_json(processor_settings(image_processor)),
    )
