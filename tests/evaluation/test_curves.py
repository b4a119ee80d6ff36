import numpy as np
import pytest

from pointsman.evaluation.curves import rejected_at, risk_coverage


def test_a_curve_by_hand() -> None:
    curve = risk_coverage([0.9, 0.8, 0.7, 0.6], [False, True, False, True])
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert curve.risk.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert curve.area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_the_order_of_requests_plays_no_part_and_equals_come_together() -> None:
    scores, wrong = [0.5, 0.9, 0.5, 0.5, 0.2], [True, False, False, True, False]
    curve = risk_coverage(scores, wrong)
    assert curve.coverage.tolist() == pytest.approx([1 / 5, 4 / 5, 1])
    assert curve.risk.tolist() == pytest.approx([0, 2 / 4, 2 / 5])
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(5)
        other = risk_coverage([scores[i] for i in order], [wrong[i] for i in order])
        assert other.risk.tolist() == curve.risk.tolist()
        assert other.area == curve.area


def test_a_router_that_knows_its_mistakes_has_less_area() -> None:
    scores, wrong = np.linspace(1, 0, 100), np.arange(100) >= 80
    knows = risk_coverage(scores, wrong)
    blind = risk_coverage(np.zeros(100), wrong)
    inverted = risk_coverage(-scores, wrong)
    assert knows.risk[-1] == blind.risk[-1] == inverted.risk[-1] == 0.2
    assert blind.area == pytest.approx(0.2)
    assert knows.area < 0.03 < blind.area < 0.4 < inverted.area


def test_rejected_at_a_coverage() -> None:
    inside = [n / 20 for n in range(1, 21)]
    # The threshold that keeps 95% of twenty is their second least, 0.1.
    assert rejected_at(inside, [0.0, 0.05, 0.0999, 0.1, 0.5], 0.95) == pytest.approx(3 / 5)
    assert rejected_at(inside, [0.0, 0.9], 1.0) == 0.5
