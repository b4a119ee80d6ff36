import pytest
import torch

from pointsman.errors import ConfigError
from pointsman.evaluation.curves import reliability
from pointsman.routing.calibration import Calibration
from pointsman.routing.fit_calibration import (
    calibrate,
    conformal_threshold,
    fit_temperature,
    fit_threshold,
    fit_veto,
)
from pointsman.routing.scores import Evidence


def drawn(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels drawn from just these logits' probabilities."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, 4, generator=generator) * 2
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    return logits, labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    logits, labels = drawn(20_000)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.05)


def test_few_right_samples_do_not_make_certainty() -> None:
    labels = torch.tensor([0, 1, 2] * 3)
    logits = torch.nn.functional.one_hot(labels, 3).float()
    confidence = Calibration(fit_temperature(logits, labels)).probabilities(logits).max(-1).values
    assert float(confidence.max()) < 0.95


def test_probabilities_are_those_of_scaled_logits() -> None:
    logits = torch.tensor([[2.0, 0.0]])
    found = Calibration(temperature=2.0).probabilities(logits)
    assert found[0, 0] == pytest.approx(1 / (1 + torch.tensor(-1.0).exp()))
    assert found.sum() == pytest.approx(1)


def test_ece_by_hand() -> None:
    confidence = torch.tensor([0.9, 0.9, 0.6, 0.6])
    correct = torch.tensor([True, True, True, False])
    # Two bins of two: |2 - 1.8| and |1 - 1.2|, over four samples.
    assert reliability(confidence, correct, bins=10).ece == pytest.approx(0.1)
    # One bin of all: |3 - 3.0|.
    assert reliability(confidence, correct, bins=1).ece == pytest.approx(0, abs=1e-6)


def test_bins_by_hand() -> None:
    confidence = torch.tensor([0.5, 0.5001, 0.9, 1.0], dtype=torch.double)
    bins = reliability(confidence, torch.tensor([True, False, True, True]), bins=4)
    # An upper edge belongs to its bin.
    assert bins.counts.tolist() == [0, 1, 1, 2]
    assert bins.confidence.tolist() == pytest.approx([0, 0.5, 0.5001, 0.95])
    assert bins.accuracy.tolist() == [0, 1, 0, 1]


def test_ece_of_the_edges() -> None:
    certain = torch.tensor([1.0, 1.0])
    assert reliability(certain, torch.tensor([True, True])).ece == 0
    assert reliability(certain, torch.tensor([False, False])).ece == 1
    assert reliability(torch.tensor([0.0]), torch.tensor([False])).ece == 0
    assert reliability(torch.tensor([]), torch.tensor([], dtype=torch.bool)).ece == 0


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95, 1.0])
def test_the_threshold_keeps_the_stated_coverage(coverage: float) -> None:
    logits, labels = drawn(1000, seed=1)
    scores = logits.amax(-1)
    found = calibrate(Evidence(logits, scores), labels, coverage)
    kept = float((scores >= found.threshold).float().mean())
    assert coverage <= kept + 1e-9 <= coverage + 0.002
    assert found.coverage == coverage


def test_samples_out_of_scope_do_not_move_the_temperature() -> None:
    logits, labels = drawn(300)
    mixed = torch.cat([logits, torch.full((100, 4), 50.0)])
    both = torch.cat([labels, torch.full((100,), -1)])
    found = calibrate(Evidence(mixed, mixed.amax(-1)), both, 0.9)
    alone = calibrate(Evidence(logits, logits.amax(-1)), labels, 0.9)
    assert found.temperature == alone.temperature


@pytest.mark.parametrize("outside", [[], [-9.0], [-1e6] * 400, [0.5, 8.0]])
def test_samples_out_of_scope_do_not_move_the_threshold(outside: list[float]) -> None:
    inside = torch.arange(10.0)
    scores = torch.cat([inside, torch.tensor(outside)])
    labels = torch.cat([torch.zeros(10).long(), torch.full((len(outside),), -1)])
    found = calibrate(Evidence(torch.zeros(len(scores), 2), scores), labels, 0.85).threshold
    assert found == fit_threshold(inside, 0.85)
    assert 0.9 < found < 1  # 9 of 10 are kept, and an empty gap below them is not


@pytest.mark.parametrize(
    ("outside", "limit"),
    [
        ([], 0),  # all in scope are kept
        ([-9.0, -8.0], 0),  # and the gap below them is not
        ([0.5, -8.0], 1),  # one in scope for half of those out of scope
        ([1.5, 20.0], 0),  # the coverage is kept at any cost
    ],
)
def test_the_veto_is_strict_where_it_costs_little(outside: list[float], limit: float) -> None:
    found = fit_veto(torch.arange(10.0), torch.tensor(outside), 0.85)
    assert limit - 0.3 < found < limit


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_label_sets_hold_the_right_label_as_often_as_stated(coverage: float) -> None:
    """Over many draws, since the guarantee is on average over them."""
    held = []
    for seed in range(1000):
        logits, labels = drawn(200, seed)
        right = logits.softmax(-1).gather(1, labels[:, None])[:, 0]
        threshold = conformal_threshold(right[:39], coverage)
        held.append(float((right[39:] >= threshold).float().mean()))
    found = sum(held) / len(held)
    assert coverage - 0.01 < found < coverage + 1 / 40 + 0.01


def test_label_sets_of_too_few_samples_leave_nothing_out() -> None:
    assert conformal_threshold(torch.tensor([0.2, 0.9]), 0.9) == 0


def test_a_prior_moves_probabilities_as_bayes_says() -> None:
    logits = torch.tensor([[1.0, 0.2, -3.0]])
    shares = torch.tensor([0.7, 0.2, 0.1])
    found = Calibration(log_prior=tuple((shares * 3).log().tolist())).probabilities(logits)
    expected = logits.softmax(-1) * shares
    assert torch.allclose(found, expected / expected.sum())
    assert logits.tolist() == [[pytest.approx(1.0), pytest.approx(0.2), -3.0]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"threshold": float("inf")},
        {"coverage": 0.0},
        {"coverage": 1.5},
        {"coverage": float("nan")},
    ],
)
def test_values_out_of_range(wrong: dict[str, float]) -> None:
    [(name, value)] = wrong.items()
    with pytest.raises(ConfigError, match=f"{name}={value}.*give a temperature above 0"):
        Calibration(**wrong)
