import pytest
import torch
from torch import Tensor

from pointsman.errors import ArtefactError
from pointsman.routing.fit_scores import fit_scorer, rescaled
from pointsman.routing.head import RouterHead, build_router_head
from pointsman.routing.scores import Scorer, scorer_from_state

SIZE = 12
VETOED = ("shift", "scale", "outside", "outside_bias")


def drawn(n: int = 300, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features of three classes with a covariance that is no sphere."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(9))
    labels = torch.arange(n) % 3
    centres = torch.eye(SIZE)[:3] * 6
    return torch.randn(n, SIZE, generator=generator) @ mixing + centres[labels] + 5, labels


@pytest.fixture(scope="module")
def head() -> RouterHead:
    torch.manual_seed(0)
    return build_router_head(SIZE, 3, 8).eval()


@pytest.fixture(scope="module")
def scorer(head: RouterHead) -> Scorer:
    return rescaled(fit_scorer(0.7, drawn()), head, drawn(90, 1))


def values(scorer: Scorer, head: RouterHead, x: Tensor) -> dict[str, Tensor]:
    with torch.inference_mode():
        _, found = scorer.values(head, x)
    return dict(zip(scorer.parts, found.unbind(-1), strict=True))


def test_distances_are_those_of_the_covariances(scorer: Scorer, head: RouterHead) -> None:
    """With so few features as axes nothing is left to the one variance of the rest."""
    x, labels = drawn()
    mean, deviation = x.mean(0), x.std(0, correction=0)
    scaled = ((x - mean) / deviation).double()
    means = torch.stack([scaled[labels == label].mean(0) for label in range(3)])
    residuals = scaled - means[labels]
    within = residuals.T @ residuals / len(x)
    whole = scaled.T @ scaled / len(x)
    asked = drawn(20, 2)[0]
    y = ((asked - mean) / deviation).double()

    def distance(points: Tensor, covariance: Tensor) -> Tensor:
        return (points @ covariance.inverse() * points).sum(-1)

    nearest = torch.stack([distance(y - m, within) for m in means], 1).amin(1)
    found = values(scorer, head, asked)
    assert torch.allclose(found["mahalanobis"].double(), -nearest, rtol=1e-3, atol=1e-2)
    relative = distance(y, whole) - nearest
    assert torch.allclose(found["relative-mahalanobis"].double(), relative, rtol=1e-3, atol=1e-2)
    cosine = torch.nn.functional.cosine_similarity(y[:, None], means, dim=-1).amax(1)
    assert torch.allclose(found["cosine"].double(), cosine, atol=1e-4)


def test_parts_of_the_logits(scorer: Scorer, head: RouterHead) -> None:
    x = drawn(20, 2)[0]
    with torch.inference_mode():
        logits, hidden = head(x), head[:-1](x)
    found = values(scorer, head, x)
    expected = {
        "max-logit": logits.amax(-1),
        "energy": logits.exp().sum(-1).log(),
        "probability": (logits / 0.7).softmax(-1).amax(-1).log(),
    }
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-4), name
    outside = (torch.linspace(-1, 1, 8)[None], torch.tensor([0.5]))
    odds = logits.exp().sum(-1).log() - hidden @ outside[0][0] - 0.5
    one = scorer.only(("energy",))
    middle = float((odds - 2 * one(head, x).scores.detach()).median())
    both = one.with_veto(outside, middle, 0.5)
    veto = (odds - middle) * 0.5
    assert torch.allclose(both(head, x).scores, torch.minimum(one(head, x).scores, veto), atol=1e-4)
    assert 0 < int((both(head, x).scores < one(head, x).scores).sum()) < len(x)
    assert torch.allclose(both.only(("outside",))(head, x).scores, veto, atol=1e-4)


def test_parts_count_alike(scorer: Scorer, head: RouterHead) -> None:
    """On validation each has mean 0 and deviation 1."""
    x = drawn(90, 1)[0]
    found = torch.stack(list(values(scorer, head, x).values()), -1)
    scaled = (found - scorer.get_buffer("shift")) * scorer.get_buffer("scale")
    assert torch.allclose(scaled.mean(0), torch.zeros(6), atol=1e-3)
    assert torch.allclose(scaled.std(0, correction=0), torch.ones(6), atol=1e-2)


def test_fewer_parts_score_the_same_with_fewer_tensors(scorer: Scorer, head: RouterHead) -> None:
    x = drawn(20, 2)[0]
    together = scorer.only(("max-logit", "mahalanobis"))
    one, other = (scorer.only((name,))(head, x).scores for name in together.parts)
    assert torch.allclose(together(head, x).scores, (one + other) / 2, atol=1e-5)
    assert {"means", "outside", "temperature"}.isdisjoint(together.state_dict())
    assert set(scorer.only(("max-logit",)).state_dict()) == {"shift", "scale"}


def test_many_features_from_few_samples() -> None:
    """Nothing of the size features x features, and no direction without variance."""
    torch.manual_seed(0)
    head, labels = build_router_head(5000, 2).eval(), torch.arange(20) % 2
    x = torch.randn(20, 5000)
    scorer = rescaled(fit_scorer(1.0, (x, labels)), head, (x, labels))
    assert all(bool(tensor.isfinite().all()) for tensor in scorer.state_dict().values())
    assert sum(tensor.numel() for tensor in scorer.state_dict().values()) < 70 * 5000


def test_what_is_no_score_is_refused(scorer: Scorer) -> None:
    state = scorer.only(("cosine",)).state_dict()
    assert scorer_from_state(("cosine",), state, "here").parts == ("cosine",)
    for parts, tensors in (
        (("cosine", "new"), state),
        ((), {}),
        (("mahalanobis",), state),
        (("cosine",), {**state, "odd": torch.zeros(1)}),
        (("outside", "max-logit"), {name: torch.zeros(2) for name in VETOED}),
    ):
        with pytest.raises(ArtefactError, match="are not the tensors of a score"):
            scorer_from_state(parts, tensors, "here")
