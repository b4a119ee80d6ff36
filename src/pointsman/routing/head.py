"""The head: features to logits, linear or one hidden layer."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from pointsman.errors import ArtefactError, ConfigError, MismatchError
from pointsman.models.states import EncoderOutput
from pointsman.routing.reads import Reads


class RouterHead(nn.Sequential):
    """Maps features (B, hidden_size) to logits (B, num_labels).

    A head loaded from an exported checkpoint refuses features unlike those that it was trained on.
    It also accepts an encoder's output, from which it takes its own layer and position.
    """

    reads: Reads | None = None
    """Features are checked against this; None in training and in an engine"""

    def forward(self, features: Tensor | EncoderOutput) -> Tensor:
        """Logits (B, num_labels). Raises ``MismatchError`` on features from another source."""
        if self.reads is not None:
            if isinstance(features, EncoderOutput):
                features = self.reads.features(features)
            self.reads.check(features, self.hidden_size)
        logits: Tensor = super().forward(features)  # type: ignore[no-untyped-call]
        return logits

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Loads weights, and what their checkpoint says about the features.

        A linear head gets a hidden layer if the weights of an exported head have one: the original
        scripts always build a linear head. It is then in evaluation mode.
        """
        reads = Reads.from_state(state_dict)
        if reads.recipe is not None:
            self._take_shape(state_dict, reads)
        loaded = super().load_state_dict(state_dict, strict, assign)
        self.reads = reads
        return loaded

    def _take_shape(self, state: Mapping[str, Tensor], reads: Reads) -> None:
        """Adds an exported head's hidden layer."""
        width, size = state["0.weight"].shape
        if size != self.hidden_size:
            raise MismatchError(
                f"the head reads {reads.recipe}, {size} features; build it with hidden_size={size}"
            )
        if len(self) == 1 and len(state) > 2:
            head = build_router_head(size, self.num_labels, width)
            self._modules = head.to(self.first.weight)._modules
        self.eval()

    @property
    def first(self) -> nn.Linear:
        return next(layer for layer in self if isinstance(layer, nn.Linear))

    @property
    def hidden_size(self) -> int:
        return self.first.in_features

    @property
    def num_labels(self) -> int:
        return int(self[-1].out_features)  # type: ignore[arg-type]


def build_router_head(hidden_size: int, num_labels: int, mlp_size: int = 0) -> RouterHead:
    """A head from features (B, hidden_size) to logits (B, num_labels).

    Args:
        mlp_size: width of the hidden layer; 0 makes the head linear.

    Raises:
        ConfigError: a size is invalid.
    """
    if hidden_size < 1 or num_labels < 1 or mlp_size < 0:
        raise ConfigError(
            f"a head of {hidden_size} features, {num_labels} labels and an MLP of {mlp_size} "
            "cannot be; give positive sizes (0 for no MLP)"
        )
    if mlp_size == 0:
        return RouterHead(nn.Linear(hidden_size, num_labels))
    return RouterHead(
        nn.Linear(hidden_size, mlp_size),
        nn.GELU(),
        nn.Dropout(0.5),
        nn.Linear(mlp_size, num_labels),
    )


def head_from_state(state: dict[str, Tensor], where: str) -> RouterHead:
    """Rebuilds a head from its weights; their shapes determine its architecture.

    Raises:
        ArtefactError: the weights are not those of a head.
    """
    if set(state) == {"weight", "bias"}:  # a bare nn.Linear
        state = {f"0.{name}": tensor for name, tensor in state.items()}
    weights = [tensor for name, tensor in state.items() if name.endswith("weight")]
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if weights and all(weight.dim() == 2 for weight in weights):
        mlp_size = 0 if len(weights) == 1 else weights[0].shape[0]
        head = build_router_head(weights[0].shape[1], weights[-1].shape[0], mlp_size)
        if {name: tuple(t.shape) for name, t in head.state_dict().items()} == shapes:
            nn.Module.load_state_dict(head, state)
            return head.eval()
    raise ArtefactError(f"{where}: {shapes} are not the weights of a router head")
