"""Pictures say what they are given: other data, another picture; and they are never broken."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from pointsman.evaluation.curves import RiskCoverage, reliability, risk_coverage
from pointsman.evaluation.plots import reliability_png, risk_coverage_png, success_png
from pointsman.evaluation.worth import Interval
from pointsman.routing.depth_plot import depth_png


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def differ(first: bytes, second: bytes) -> int:
    """Pixels that clearly differ in two pictures of one size."""
    one, other = pixels(first), pixels(second)
    assert one.shape == other.shape
    return int((np.abs(one - other).max(-1) > 60).sum())


def curve(risks: list[float]) -> RiskCoverage:
    return RiskCoverage(np.arange(1, len(risks) + 1) / len(risks), np.array(risks))


def test_reliability_shows_each_bin() -> None:
    confidence = torch.linspace(0.34, 1, 200)
    good = reliability_png(reliability(confidence, torch.rand(200) < confidence))
    bad = reliability_png(reliability(confidence, torch.zeros(200)))
    assert 600 < pixels(good).shape[1] < 1200
    assert differ(good, bad) > 5000  # where bars were is nothing


@pytest.mark.parametrize("n", [0, 1, 2])
def test_reliability_of_few(n: int) -> None:
    assert pixels(reliability_png(reliability(torch.ones(n), torch.ones(n)))).min() < 100


def test_every_curve_of_risk_is_there() -> None:
    flat, high = curve([0.02] * 50), curve([0.4] * 50)
    both = risk_coverage_png(flat, high, {}, None)
    other = risk_coverage_png(flat, curve([0.3] * 50), {}, None)
    assert differ(both, other) > 300
    marked = risk_coverage_png(flat, high, {}, (0.5, 0.4))
    orange = (np.abs(pixels(marked) - (213, 94, 0)).max(-1) < 30).sum()
    assert orange > 100
    many = {f"adapter-{n}": curve([n / 100] * 50) for n in range(40)}
    assert pixels(risk_coverage_png(flat, high, many, None)).shape == pixels(both).shape
    one = risk_coverage([0.5], [True])
    assert pixels(risk_coverage_png(None, one, {}, (1, 1))).min() < 100


def test_success_shows_value_and_interval() -> None:
    ways = {
        "routed": Interval(0.9, 0.8, 0.95),
        "an adapter of a very long name" * 4: Interval(0, 0, 0),
    }
    narrow = success_png(ways)
    wide = success_png({**ways, "routed": Interval(0.9, 0.2, 0.95)})
    assert differ(narrow, wide) > 100
    assert pixels(success_png({"routed": Interval(1, 1, 1)})).shape[0] < pixels(narrow).shape[0]


def test_depth_marks_what_was_kept() -> None:
    candidates = [
        {
            "layer": layer,
            "reads": [f"layer {layer} ({pooling})"],
            "mlp_size": size,
            "val_acc": 0.5 + layer / 20 + size / 1e3,
        }
        for layer in (1, 2, 3)
        for pooling in ("last", "mean")
        for size in (0, 128)
    ]
    first, second = depth_png(candidates, 1), depth_png(candidates, len(candidates) - 1)
    assert differ(first, second) > 100
    # Of several heads at one place the best counts.
    best = [c for c in candidates if c["mlp_size"] == 128]
    assert differ(first, depth_png(best, 0)) == 0
