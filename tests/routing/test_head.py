import random

import pytest
import torch
from torch import Tensor

from pointsman.errors import ArtefactError, ConfigError
from pointsman.routing.head import build_router_head, head_from_state


def shapes(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(1, 40), rng.randrange(1, 9), rng.choice([0, 1, 7, 16])


def test_features_become_logits() -> None:
    rng = random.Random(0)
    for _ in range(20):
        hidden, labels, mlp = shapes(rng)
        head = build_router_head(hidden, labels, mlp)
        assert head(torch.rand(3, hidden)).shape == (3, labels)
        assert (head.hidden_size, head.num_labels) == (hidden, labels)


def test_a_state_comes_back_as_the_same_head() -> None:
    rng = random.Random(1)
    for _ in range(20):
        hidden, labels, mlp = shapes(rng)
        head = build_router_head(hidden, labels, mlp).eval()
        again = head_from_state(head.state_dict(), "router")
        x = torch.rand(4, hidden)
        assert torch.equal(head(x), again(x))
        assert not again.training


def test_a_head_gives_logits_not_probabilities() -> None:
    head = build_router_head(4, 3)
    x = torch.rand(2, 4)
    assert torch.allclose(head(x), x @ head.first.weight.T + head.first.bias)


def test_a_bare_linear_layer_is_a_head() -> None:
    layer = torch.nn.Linear(6, 3)
    head = head_from_state(layer.state_dict(), "router.pt")
    x = torch.rand(2, 6)
    assert torch.equal(head(x), layer(x))


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"bias": torch.zeros(3)},
        {"weight": torch.zeros(3, 4)},
        {"weight": torch.zeros(3, 4), "bias": torch.zeros(4)},
        {"weight": torch.zeros(3, 4, 1), "bias": torch.zeros(3)},
        {"weight": torch.zeros(3), "bias": torch.zeros(3)},
        {"0.weight": torch.zeros(3, 4), "0.bias": torch.zeros(3), "more": torch.zeros(1)},
        {
            "0.weight": torch.zeros(5, 4),
            "0.bias": torch.zeros(5),
            "3.weight": torch.zeros(3, 6),  # 5 hidden units cannot feed 6
            "3.bias": torch.zeros(3),
        },
        dict(torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(3)]).state_dict()),
    ],
)
def test_a_foreign_state_is_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(ArtefactError, match=r"^router\.pt: .*are not the weights of a router head"):
        head_from_state(state, "router.pt")


@pytest.mark.parametrize("sizes", [(0, 3, 0), (4, 0, 0), (4, 3, -1), (-4, 3, 0)])
def test_sizes_that_cannot_be(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match=f"{sizes[0]} features, {sizes[1]} labels"):
        build_router_head(*sizes)
