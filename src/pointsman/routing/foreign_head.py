"""Heads trained by other scripts: accepted if they compute the same function, else refused."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn

from pointsman.errors import ArtefactError, ConfigError
from pointsman.routing.head import RouterHead

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
Weights = dict[str, Tensor]


def adopt_head(state: Mapping[str, Tensor], activation: str | None, where: str) -> RouterHead:
    """Rebuilds a head from its weights, regardless of the names and numbers of its modules.

    The head is a ``Linear``, optionally after a ``LayerNorm`` (with PyTorch's default epsilon) and
    optionally followed by an activation and a second ``Linear``, in the order of the state. Dropout
    leaves no trace.

    Args:
        activation: the activation between two linear layers; their weights do not show it.

    Returns:
        The head in evaluation mode.

    Raises:
        ArtefactError: the weights are others, or there are two linear layers and no activation.
        ConfigError: the activation is unknown.
    """
    modules = list(_by_module(state).values())
    norm = modules.pop(0) if modules and _is_norm(modules[0]) else None
    if not modules or len(modules) > 2 or not all(map(_is_linear, modules)):
        raise _refusal(state, where)
    first = [] if norm is None else [_layer_norm(norm)]
    linears = [_linear(weights) for weights in modules]
    if not _fit([*first, *linears]):
        raise _refusal(state, where)
    between: list[nn.Module] = []
    if len(linears) == 2:
        between = [_activation(activation, where), nn.Dropout(0.5)]
    return RouterHead(*first, *linears[:-1], *between, linears[-1]).eval()


def _by_module(state: Mapping[str, Tensor]) -> dict[str, Weights]:
    """The weights of each module in the state's order; prefixes and gaps do not matter."""
    modules: dict[str, Weights] = {}
    for key, tensor in state.items():
        path, _, name = key.rpartition(".")
        modules.setdefault(path, {})[name] = tensor
    return modules


def _is_norm(weights: Weights) -> bool:
    return set(weights) == {"weight", "bias"} and all(t.dim() == 1 for t in weights.values())


def _is_linear(weights: Weights) -> bool:
    if "weight" not in weights or not {"weight", "bias"} >= set(weights):
        return False
    weight, bias = weights["weight"], weights.get("bias")
    return weight.dim() == 2 and (bias is None or bias.shape == weight.shape[:1])


def _linear(weights: Weights) -> nn.Linear:
    out_features, in_features = weights["weight"].shape
    layer = nn.Linear(in_features, out_features)
    bias = weights.get("bias", weights["weight"].new_zeros(out_features))
    layer.load_state_dict({"weight": weights["weight"], "bias": bias})
    return layer


def _layer_norm(weights: Weights) -> nn.LayerNorm:
    layer = nn.LayerNorm(len(weights["bias"]))
    layer.load_state_dict(weights)
    return layer


def _fit(layers: Sequence[nn.Linear | nn.LayerNorm]) -> bool:
    """Whether each layer's output size matches the next layer's input size."""
    ends = [
        (layer.in_features, layer.out_features)
        if isinstance(layer, nn.Linear)
        else (layer.weight.numel(), layer.weight.numel())  # a LayerNorm
        for layer in layers
    ]
    return all(before[1] == after[0] for before, after in pairwise(ends))


def _activation(name: str | None, where: str) -> nn.Module:
    known = ", ".join(ACTIVATIONS)
    if name is None:
        raise ArtefactError(
            f"{where}: a head of two layers, and its weights do not show the activation between "
            f"them; name one of {known}: `pointsman adopt {where} --adapter-names NAME,NAME,… "
            "--activation NAME --out NAMED.pt`"
        )
    if name not in ACTIVATIONS:
        raise ConfigError(f"activation {name!r} is none of {known}")
    return ACTIVATIONS[name]()


def _refusal(state: Mapping[str, Tensor], where: str) -> ArtefactError:
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    return ArtefactError(
        f"{where}: {shapes} are not the weights of a router head (a Linear; a LayerNorm first or "
        "an activation and a second Linear behind it may be there); retrain it with "
        "`pointsman train FEATURES`"
    )
