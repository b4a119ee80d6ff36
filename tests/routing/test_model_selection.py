from dataclasses import replace

import pytest
import torch

from pointsman.models.features import FeatureRecipe
from pointsman.routing.depth_plot import depth_png
from pointsman.routing.head import build_router_head
from pointsman.routing.model_selection import (
    Candidate,
    auroc_error,
    choose,
    recipes_of,
    select_features,
)

PNG = b"\x89PNG"


N = 100


def candidate(layer: int, right: float, doubt: float, auroc: float | None = None) -> Candidate:
    """A candidate of this accuracy. All its samples are equally certain; ``doubt`` lowers it."""
    truth = torch.zeros(N).long()
    logits = torch.tensor([[1.0, 0.0]]).repeat(N, 1)
    logits[round(right * N) :] = torch.tensor([0.0, 1.0])
    # A temperature cannot make up for samples that differ.
    logits[: round(right * N) : 2] *= 1 - doubt
    return Candidate(
        recipe=FeatureRecipe((layer,)),
        mlp_size=0,
        head=build_router_head(4, 2),
        logits=logits,
        truth=truth,
        cost=layer / 4,
        left_out={} if auroc is None else {("max-logit",): auroc, ("energy",): auroc - 0.1},
    )


@pytest.mark.parametrize(
    ("rows", "layer"),
    [
        # The best is dearer but not better by more than its error.
        ([(1, 0.95, 0.1, 0.9), (2, 0.99, 0.1, 0.99), (3, 1.0, 0.1, 0.99)], 2),
        # All are right on everything: the finer measure speaks, within its own error.
        ([(1, 1.0, 0.30), (2, 1.0, 0.11), (3, 1.0, 0.10)], 2),
        ([(1, 1.0, 0.1, 0.90), (2, 1.0, 0.3, 0.989), (3, 1.0, 0.3, 0.99)], 2),
        # What is not within the error of the best accuracy has no second chance.
        ([(1, 0.90, 0.01, 0.999), (3, 0.99, 0.3, 0.9)], 3),
        # At the same cost the better is taken.
        ([(2, 1.0, 0.3), (2, 1.0, 0.1)], 2),
    ],
)
def test_the_cheapest_that_cannot_be_told_from_the_best(
    rows: list[tuple[int, float, float]], layer: int
) -> None:
    candidates = [candidate(*row) for row in rows]
    best, why = choose(candidates)
    assert best.recipe.layers == (layer,)
    assert "within one standard error" in why
    assert ("AUROC" if len(rows[0]) == 4 else "cross-entropy") in why
    if len({c.cost for c in candidates}) == 1:
        assert best is candidates[1]


def test_the_error_of_an_auroc_is_that_of_the_papers_example() -> None:
    """Hanley & McNeil (1982), table II: an area of 0.893 of 51 and 58 samples."""
    assert auroc_error(0.893, 51, 58) == pytest.approx(0.032, abs=0.001)
    assert auroc_error(1.0, 10, 10) == 0


def test_places_are_read_alone_and_together() -> None:
    stored = FeatureRecipe((1, 3), ("last", "mean"), "last-user")
    found = recipes_of(stored, stored.layers)
    reads = [[(place.layer, place.pooling) for place in recipe.places] for recipe in found]
    assert reads == [
        [(1, "last")],
        [(1, "mean")],
        [(1, "last"), (1, "mean")],
        [(3, "last")],
        [(3, "mean")],
        [(1, "last"), (1, "mean"), (3, "last"), (3, "mean")],
    ]
    assert {recipe.history for recipe in found} == {"last-user"}
    values = torch.arange(8.0).view(1, 4, 2)
    assert select_features(found[4], stored, values).tolist() == [[6, 7]]
    assert select_features(found[5], stored, values).tolist() == [list(range(8))]


def test_the_depth_curve_is_drawn() -> None:
    rows = [
        candidate(layer, 0.9 + layer / 50, 0.1).to_json() | {"reads": reads}
        for layer in (1, 2)
        for reads in ([f"layer {layer} (last)"], ["layer 1 (last)", f"layer {layer} (mean)"])
    ]
    one, other = depth_png(rows, 0), depth_png(rows, 3)
    assert one.startswith(PNG)
    assert one != other, "which was chosen can be seen"
    assert replace(candidate(1, 0.9, 0.1), cost=0.5).to_json()["cost"] == 0.5
