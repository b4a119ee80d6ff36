"""One base with many LoRAs, switched by hand: one adapter at a time, as in the original scripts."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any, Self

import torch
from torch import Tensor

from pointsman.conversation import make_prompt
from pointsman.errors import LabelError
from pointsman.images import Source
from pointsman.models.base import Base
from pointsman.models.qwen3_vl import MAX_NEW_TOKENS
from pointsman.models.states import EncoderOutput

INPUTS = ("input_ids", "attention_mask", "pixel_values", "image_grid_thw")
"""A request's tensors, in the order in which ``encoder`` takes them."""
GREEDY: Mapping[str, Any] = {
    "do_sample": False,
    # A checkpoint's own generation config may sample.
    "temperature": None,
    "top_p": None,
    "top_k": None,
}


def check_loaded(base: Base, name: str) -> None:
    """Raises ``LabelError`` unless a base has an adapter of this name."""
    if name not in base.adapters:
        loaded = ", ".join(base.adapters) or "none"
        raise LabelError(f"adapter {name!r} is not loaded; loaded are: {loaded}")


class BaseWithLoras(Base):
    """A base with its adapters loaded. Not thread-safe: the active adapter is the model's state.

    For many requests at once use ``Engine``.
    """

    @classmethod
    def of(cls, base: Base) -> Self:
        return cls(**{field.name: getattr(base, field.name) for field in fields(base)})

    def set_adapter(self, name: str) -> None:
        """Switches one adapter on and the others off. Raises ``LabelError`` if it is not loaded."""
        check_loaded(self, name)
        # Without inference_mode PEFT would turn gradients on.
        self.model.set_adapter(name, inference_mode=True)

    def disable_adapter(self) -> AbstractContextManager[None]:
        """Inside the block all adapters are off: the base answers."""
        return self.without_adapters()

    def make_inputs(self, image: Source | None, text: str) -> dict[str, Any]:
        """The tensors of one request for ``generate`` and ``encoder``, on the base's device.

        Returns:
            ``input_ids`` and ``attention_mask`` (1, T), and with an image its ``pixel_values``
            (patches, patch size) and ``image_grid_thw`` (1, 3).

        Raises:
            SampleError: the image cannot be used, or the prompt is too long.
        """
        inputs = self.stock_inputs(self.encode([make_prompt(image, text)]))
        return {name: inputs[name] for name in INPUTS if name in inputs}

    def generate(self, *request: Any, **inputs: Any) -> Any:
        """Answers with the active adapter; by default greedily and with at most 256 tokens.

        Args:
            request: an image (or None) and a text, in place of ``inputs``.
            inputs: the tensors from ``make_inputs``, and options of transformers' ``generate``.

        Returns:
            The answer's text for an image and a text; otherwise tokens (B, T), prompt included.
        """
        settings = {**GREEDY, "max_new_tokens": MAX_NEW_TOKENS, **inputs}
        if request:
            settings |= self.make_inputs(*request)
        settings["mm_token_type_ids"] = self._image_places(settings["input_ids"])
        with torch.no_grad():
            tokens = self.model.generate(**settings)
        if not request:
            return tokens
        return self.decode(tokens[0, settings["input_ids"].shape[1] :]).strip()

    def encoder(
        self, *request: Any, output_hidden_states: bool = True, **inputs: Any
    ) -> EncoderOutput:
        """All hidden states of a batch, adapters off, as a router reads them.

        Args:
            request: an image (or None) and a text; or the tensors of ``make_inputs`` in its order.
            output_hidden_states: always on.
            inputs: the same by name.
        """
        if request and not isinstance(request[0], Tensor):
            inputs = self.make_inputs(*request)
        else:
            inputs = dict(zip(INPUTS, request, strict=False)) | inputs
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        inputs["mm_token_type_ids"] = places = self._image_places(ids)
        grids = inputs.get("image_grid_thw")
        # Explicit: otherwise the model would keep its own count for the next request.
        inputs["position_ids"], _ = self.core.get_rope_index(
            ids, mm_token_type_ids=places, image_grid_thw=grids, attention_mask=mask
        )
        with torch.no_grad(), self.without_adapters():
            return EncoderOutput.of(self._states(inputs), inputs)

    def _states(self, inputs: dict[str, Any]) -> tuple[Tensor, ...]:
        """The input of each layer, and the model's output."""
        states: list[Tensor] = []
        # transformers' own states lack what DeepStack adds to a layer's output.
        hooks = [
            layer.register_forward_pre_hook(lambda _, args: states.append(args[0]))
            for layer in self.core.language_model.layers
        ]
        try:
            output = self.core(**inputs, use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        return (*states, output.last_hidden_state)

    def _image_places(self, ids: Tensor) -> Tensor:
        places: Tensor = ids == self.config.image_token_id
        return places.long()
