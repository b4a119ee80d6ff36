"""Checkpoints of other scripts: the same function under other names, or refused with the fix."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pointsman.errors import ArtefactError, ConfigError, MismatchError
from pointsman.routing.head import build_router_head
from pointsman.routing.legacy_pt import adopt_pt, load_router_head
from support.tiny import ADAPTERS

HIDDEN = 8


class Named(nn.Module):
    """A head with a module of its own name."""

    def __init__(self, name: str, inner: nn.Module) -> None:
        super().__init__()
        self.add_module(name, inner)
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = getattr(self, self.name)(x)
        return logits


class NormFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(HIDDEN)
        self.dropout = nn.Dropout(0.1)
        self.fc = nn.Linear(HIDDEN, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.dropout(self.norm(x)))
        return logits


def two_layers(activation: nn.Module, *gap: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(HIDDEN, 5), activation, *gap, nn.Linear(5, 3))


def linear() -> nn.Linear:
    return nn.Linear(HIDDEN, 3)


HEADS: dict[str, tuple[Callable[[], nn.Module], str | None]] = {
    "linear": (linear, None),
    "without bias": (lambda: nn.Linear(HIDDEN, 3, bias=False), None),
    "classifier.": (lambda: Named("classifier", linear()), None),
    "head.": (lambda: Named("head", linear()), None),
    "module.": (lambda: Named("module", Named("head", linear())), None),
    "_orig_mod.": (lambda: Named("_orig_mod", nn.Sequential(nn.Dropout(), linear())), None),
    "layer norm first": (NormFirst, None),
    "sequential layer norm": (lambda: nn.Sequential(nn.LayerNorm(HIDDEN), linear()), None),
    "gelu": (lambda: two_layers(nn.GELU()), "gelu"),
    "gelu, dropout": (lambda: two_layers(nn.GELU(), nn.Dropout()), "gelu"),
    "relu, dropouts": (lambda: two_layers(nn.ReLU(), nn.Dropout(), nn.Identity()), "relu"),
    "tanh": (lambda: Named("classifier", two_layers(nn.Tanh())), "tanh"),
    "silu": (lambda: two_layers(nn.SiLU()), "silu"),
    "norm, gelu": (lambda: nn.Sequential(nn.LayerNorm(HIDDEN), *two_layers(nn.GELU())), "gelu"),
}


def randomised(head: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    return head.eval()


@pytest.mark.parametrize("kind", HEADS)
def test_the_same_function(kind: str, tmp_path: Path) -> None:
    build, activation = HEADS[kind]
    head, path = randomised(build()), tmp_path / "router.pt"
    torch.save({"state_dict": head.state_dict()}, path)
    adopt_pt(path, ADAPTERS, path, activation=activation)
    loaded, adapters = load_router_head(str(path), HIDDEN, torch.device("cpu"))
    x = torch.randn(6, HIDDEN) * 3
    assert torch.allclose(loaded(x), head(x), atol=1e-6)
    assert adapters == list(ADAPTERS)
    assert not loaded.training
    assert (loaded.hidden_size, loaded.num_labels) == (HIDDEN, 3)


def test_an_activation_is_never_guessed(tmp_path: Path) -> None:
    path = tmp_path / "router.pt"
    torch.save({"state_dict": two_layers(nn.ReLU()).state_dict(), "adapters": list(ADAPTERS)}, path)
    with pytest.raises(ArtefactError, match=r"do not show the activation.*--activation NAME"):
        load_router_head(path, HIDDEN, "cpu")
    with pytest.raises(ConfigError, match="'softsign' is none of gelu, relu, silu, tanh"):
        adopt_pt(path, ADAPTERS, path, activation="softsign")


@pytest.mark.parametrize(
    "head",
    [
        nn.Sequential(nn.BatchNorm1d(HIDDEN), linear()),
        nn.Sequential(nn.Linear(HIDDEN, 5), nn.LayerNorm(5), nn.Linear(5, 3)),
        nn.Sequential(nn.LayerNorm(HIDDEN, bias=False), linear()),
        nn.Sequential(nn.LayerNorm(4), linear()),
        nn.Sequential(nn.Linear(HIDDEN, 5), nn.Linear(6, 3)),
        nn.Sequential(*[nn.Linear(HIDDEN, HIDDEN) for _ in range(3)]),
        nn.Sequential(nn.Conv1d(1, 3, HIDDEN)),
        nn.Sequential(),
    ],
    ids=str,
)
def test_what_is_no_such_head_is_refused(head: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "router.pt"
    torch.save({"state_dict": head.state_dict(), "adapters": list(ADAPTERS)}, path)
    with pytest.raises(ArtefactError, match=r"not the weights of a router head.*pointsman train"):
        load_router_head(path, HIDDEN, "cpu")


def test_the_number_of_outputs_is_that_of_the_names(tmp_path: Path) -> None:
    path = tmp_path / "router.pt"
    state = build_router_head(HIDDEN, num_labels=4).state_dict()
    torch.save({"state_dict": state, "adapters": list(ADAPTERS)}, path)
    with pytest.raises(MismatchError, match="4 outputs for 3 adapters"):
        load_router_head(path, HIDDEN, "cpu")
