"""Model: Qwen3-VL that shows its states to the router while it reads a prompt.

The states are taken by an operator of its own. It is one at which vLLM splits the compiled graph,
so that it runs as Python between the compiled parts, with CUDA graphs too.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.models.qwen3_vl import Qwen3VLForConditionalGeneration
from vllm.utils.torch_utils import direct_register_custom_op

from pointsman.vllm.selection import ReadAgain, Selection
from pointsman.vllm.settings import load_settings

OPERATOR = "pointsman_read"


class _Step:
    selection: Selection | None = None
    """The selection of the model that is running a step"""


def _read(hidden: Tensor, residual: Tensor, layer: int) -> None:
    if _Step.selection is not None:
        _Step.selection.read(layer, hidden, residual)


def _read_fake(hidden: Tensor, residual: Tensor, layer: int) -> None:
    return None


# It changes nothing, but an operator that says so would be dropped or moved.
direct_register_custom_op(OPERATOR, _read, mutates_args=["hidden"], fake_impl=_read_fake)


class RoutedQwen3VL(Qwen3VLForConditionalGeneration):  # type: ignore[misc]  # vLLM has no types
    """vLLM's own model, which tells ``selection`` the states at the router's layers."""

    selection: Selection | None = None

    def __init__(self, *, vllm_config: Any, prefix: str = "model") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        settings = load_settings()
        if settings is not None and settings.reads_with_base:
            decoder = self.language_model.model
            stock, layers = decoder._maybe_add_hidden_state, settings.router.recipe.layers
            decoder._maybe_add_hidden_state = _showing(stock, layers)

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        # None while vLLM tries the model out, before it has LoRAs.
        selection = _Step.selection = self.selection
        arguments = (input_ids, positions, intermediate_tensors, inputs_embeds)
        if selection is not None and selection.reads_first and selection.is_pending:
            # The KV of the layers that are read first is written again by the whole forward.
            with suppress(ReadAgain):
                super().forward(*arguments, **kwargs)
        states = super().forward(*arguments, **kwargs)
        if selection is not None:
            selection.check_done()
        return states


def _showing(stock: Callable[..., Any], layers: Sequence[int]) -> Callable[..., Any]:
    """The decoder's function that is called after each layer, which also shows the states."""

    def add(aux_hidden_states: Any, layer_idx: int, hidden_states: Any, residual: Any) -> Any:
        if layer_idx in layers:
            torch.ops.vllm.pointsman_read(hidden_states, residual, layer_idx)
        return stock(aux_hidden_states, layer_idx, hidden_states, residual)

    return add
