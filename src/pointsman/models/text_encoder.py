"""Text encoders: a reader in place of the base, for routers that need only the text.

Any text model of transformers, or a sentence-transformers folder, whose ``modules.json`` says how
to pool: small enough to route on a CPU, in front of a server that holds base and adapters.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from pointsman.conversation import Prompt, Turn, check_text
from pointsman.errors import ArtefactError, ConfigError, SampleError
from pointsman.files import digest_json, read_json, read_object
from pointsman.models.attention import prepare_attention
from pointsman.models.checkpoint import (
    Dtype,
    Fingerprint,
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
from pointsman.models.cpu_kernels import to_device, use_onednn_linears
from pointsman.models.encoding import join
from pointsman.models.features import Pooling

_POOLING_MODES: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "last",
}
_UNLIMITED = 10**9
"""A tokenizer without a limit reports one larger than this"""


class EncodedText(TypedDict):
    """A batch of B texts of T tokens, padded on the right."""

    input_ids: Tensor
    """(B, T) int64"""
    attention_mask: Tensor
    """(B, T) int64, 0 on padding"""


@dataclass(frozen=True)
class TextEncoder:
    """A loaded text encoder. Not thread-safe."""

    id: str
    revision: str | None
    """Commit of a Hub checkpoint; None for a folder."""
    model: Any
    tokenizer: Any
    fingerprint: Fingerprint
    longest: int
    """Maximum number of tokens of a text, special tokens included; the last ones are read"""
    lowers: bool
    """Whether texts are lower-cased first"""
    normalises: bool
    default_pooling: Pooling
    is_causal: bool

    reads_images = False

    @cached_property
    def _layers(self) -> Sequence[nn.Module]:
        """Its layers in order; a model in which they cannot be found counts as one layer."""
        depth = getattr(self.model.config, "num_hidden_layers", None)
        lists = (m for m in self.model.modules() if isinstance(m, nn.ModuleList))
        return next((list(modules) for modules in lists if len(modules) == depth), [self.model])

    @property
    def depth(self) -> int:
        return len(self._layers)

    @property
    def hidden_size(self) -> int:
        return int(self.model.config.hidden_size)

    @property
    def device(self) -> torch.device:
        return torch.device(next(self.model.parameters()).device)

    @property
    def precision(self) -> str:
        return str(next(self.model.parameters()).dtype).removeprefix("torch.")

    @property
    def default_layers(self) -> tuple[int, ...]:
        """Half, three quarters and all of the depth: an encoder is trained for its last layer."""
        return tuple(sorted({max(1, self.depth * n // 4) for n in (2, 3, 4)}))

    def estimated_tokens(self, characters: int, sizes: Sequence[tuple[int, int]]) -> int:
        return min(characters // 4 + 16, self.longest)

    def without_adapters(self) -> AbstractContextManager[None]:
        """Does nothing: an encoder has no adapters."""
        return nullcontext()

    def encode(self, prompts: Sequence[Prompt]) -> EncodedText:
        """The prompts' texts as one batch on the encoder's device, without images.

        Long texts are truncated from the left, so that the end of the last turn is read.

        Raises:
            SampleError: a prompt has no text, or its text is not valid Unicode.
        """
        return self.on_device(self.prepare(prompts))

    def prepare(self, prompts: Sequence[Prompt]) -> EncodedText:
        """The same on the host; thread-safe."""
        rows = [self._tokens(_text_of(prompt.turns)) for prompt in prompts]
        return EncodedText(
            input_ids=pad(rows, self.tokenizer.pad_token_id or 0, "right"),
            attention_mask=pad([[1] * len(row) for row in rows], 0, "right"),
        )

    def on_device(self, *prepared: EncodedText) -> EncodedText:
        """Batches joined on the encoder's device."""
        batch: EncodedText = join(prepared)
        return EncodedText(
            input_ids=to_device(batch["input_ids"], self.device),
            attention_mask=to_device(batch["attention_mask"], self.device),
        )

    def read(
        self, encoded: EncodedText, layers: Sequence[int], keep: Callable[[int, Tensor], None]
    ) -> None:
        """One forward up to the last of ascending ``layers``.

        ``keep`` is called with each of them and its states (B, T, hidden): the layer's output or,
        for the model's last layer, the model's output, including any final norm.
        """

        def keeps(depth: int) -> Callable[..., None]:
            def hook(_module: nn.Module, _args: Any, output: Any) -> None:
                states = output if isinstance(output, Tensor) else output[0]
                if states.shape[:2] != encoded["input_ids"].shape:
                    raise ConfigError(
                        f"layer {depth} of {self.id} gives states of another order; "
                        f"use --layers {self.depth}"
                    )
                keep(depth, states)
                if depth == layers[-1]:
                    raise _Stopped

            return hook

        below = [depth for depth in layers if depth < self.depth]
        hooks = [self._layers[depth - 1].register_forward_hook(keeps(depth)) for depth in below]
        try:
            output = self.model(**encoded)
            keep(self.depth, output.last_hidden_state)
        except _Stopped:
            pass
        finally:
            for hook in hooks:
                hook.remove()

    def _tokens(self, text: str) -> list[int]:
        check_text(text)
        text = text.lower() if self.lowers else text
        # Users' text cannot add special tokens.
        settings = {"truncation": True, "max_length": self.longest, "split_special_tokens": True}
        tokens = self.tokenizer(text, **settings)["input_ids"]
        if not tokens:
            raise SampleError(f"a prompt without text, and {self.id} reads nothing else")
        return list(tokens)


def load_encoder(
    model_id: str,
    *,
    revision: str | None = None,
    device: str | None = None,
    dtype: Dtype | None = None,
) -> TextEncoder:
    """Loads a text encoder, frozen and in evaluation mode.

    In a sentence-transformers folder, ``modules.json`` sets the default pooling, the maximum text
    length and whether features are scaled to length 1. Dense modules after the pooling are left
    out: the head is one itself. For other models the default is the mean over all tokens or, if the
    model is causal, the last token.

    Args:
        model_id: Hub id or folder, weights as safetensors.
        device, dtype: as for ``load_base``; ``fp8`` is the default, since it is of bases alone.

    Raises:
        ArtefactError: no such checkpoint, or files missing from it.
        ConfigError: it is not a text encoder, or its pooling is not supported.
    """
    folder, commit = fetch(model_id, revision)
    modules = _modules(folder)
    inner = folder / modules.get("Transformer", "")
    config = checked_config(inner)
    kind = config.get("model_type")
    if config.get("is_encoder_decoder") or "vision_config" in config:
        raise ConfigError(f"{model_id}: a model of type {kind!r} is no text encoder; give one")
    where = pick_device(device)
    wanted = pick_dtype(dtype, where)
    model = loading(inner, lambda path: load_model(path, AutoModel, wanted, unused="pooler."))
    if not hasattr(model.config, "hidden_size"):
        raise ConfigError(f"{model_id}: a model of type {kind!r} is no text encoder; give one")
    model.config.use_cache = False
    tokenizer = loading(inner, AutoTokenizer.from_pretrained)
    tokenizer.truncation_side = "left"
    settings = _read_if_there(inner / "sentence_bert_config.json")
    prepare_attention(where)
    model = model.to(where).requires_grad_(False).eval()
    use_onednn_linears(model)
    is_causal = _is_causal(model)
    pooling = _pooling(folder, modules) or ("last" if is_causal else "mean")
    longest = _longest(model, tokenizer, settings.get("max_seq_length"))
    lowers, normalises = bool(settings.get("do_lower_case")), "Normalize" in modules
    reading = {"longest": longest, "lowers": lowers, "normalises": normalises, "pooling": pooling}
    return TextEncoder(
        id=model_id,
        revision=commit,
        model=model,
        tokenizer=tokenizer,
        fingerprint=Fingerprint(
            weights=digest_weights(inner),
            config=digest_config(config),
            tokenizer=digest_tokenizer(inner, tokenizer),
            reading=digest_json(reading),
        ),
        longest=longest,
        lowers=lowers,
        normalises=normalises,
        default_pooling=pooling,
        is_causal=is_causal,
    )


class _Stopped(Exception):
    """Stops the forward: nothing above the last layer that is read is needed."""


def _text_of(turns: Sequence[Turn]) -> str:
    return "\n".join(text for turn in turns if (text := turn.text.strip()))


def _modules(folder: Path) -> dict[str, str]:
    """Module folders by kind, from a sentence-transformers folder; {} for any other folder."""
    path = folder / "modules.json"
    if not path.is_file():
        return {}
    found = read_json(path)
    try:
        modules = {str(m["type"]).rsplit(".", 1)[-1]: str(m["path"]) for m in found}
    except (TypeError, KeyError):
        raise ArtefactError(f"{path}: not a list of modules with type and path") from None
    if "Transformer" not in modules:
        raise ConfigError(
            f"{folder}: its modules are {', '.join(modules)}; give a model with a Transformer"
        )
    return modules


def _pooling(folder: Path, modules: Mapping[str, str]) -> Pooling | None:
    """The pooling of a sentence-transformers folder."""
    if "Pooling" not in modules:
        return None
    path = folder / modules["Pooling"] / "config.json"
    modes = [
        name for name, on in read_object(path).items() if name.startswith("pooling_mode") and on
    ]
    if len(modes) != 1 or modes[0] not in _POOLING_MODES:
        known = ", ".join(_POOLING_MODES)
        raise ConfigError(f"{path}: pools by {modes}; known is one of {known}")
    return _POOLING_MODES[modes[0]]


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}


def _longest(model: Any, tokenizer: Any, stated: Any) -> int:
    """Maximum number of tokens that a model can read."""
    limits = [
        stated,
        tokenizer.model_max_length,
        getattr(model.config, "max_position_embeddings", None),
    ]
    table = next((m for n, m in model.named_modules() if n.endswith("position_embeddings")), None)
    if isinstance(table, nn.Embedding):
        # RoBERTa models number positions from after the padding index.
        offset = 0 if table.padding_idx is None else table.padding_idx + 1
        limits.append(table.num_embeddings - offset)
    known = [n for n in limits if type(n) is int and 0 < n < _UNLIMITED]
    return min(known, default=8192)


@torch.inference_mode()
def _is_causal(model: Any) -> bool:
    """Whether the first state is independent of what follows: found by a test forward."""
    end = int(model.config.vocab_size)
    ids = torch.tensor([[end - 4, end - 3, end - 2], [end - 4, end - 3, end - 1]])
    ids = ids.clamp(min=0).to(model.device)
    states = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    first = states.last_hidden_state[:, 0].float()
    return bool((first[0] - first[1]).abs().max() < 1e-6 * first.abs().max())
