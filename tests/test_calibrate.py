import pytest
import torch

from pointsman.calibrate import (
    Calibration,
    calibrate,
    fit_temperature,
    reliability,
)
from pointsman.errors import ConfigError


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
    found = calibrate(logits, labels, coverage)
    confidence = found.probabilities(logits).max(-1).values
    kept = float((confidence >= found.threshold).float().mean())
    assert coverage <= kept + 1e-9 <= coverage + 0.002
    assert found.coverage == coverage


def test_samples_out_of_scope_do_not_count() -> None:
    logits, labels = drawn(300)
    noise = torch.full((100, 4), 50.0)
    mixed = calibrate(torch.cat([logits, noise]), torch.cat([labels, torch.full((100,), -1)]), 0.9)
    assert mixed == calibrate(logits, labels, 0.9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"threshold": 1.1},
        {"threshold": -0.1},
        {"coverage": 0.0},
        {"coverage": 1.5},
        {"coverage": float("nan")},
    ],
)
def test_values_out_of_range(wrong: dict[str, float]) -> None:
    [(name, value)] = wrong.items()
    with pytest.raises(ConfigError, match=f"{name}={value}.*give a temperature above 0"):
        Calibration(**wrong)
