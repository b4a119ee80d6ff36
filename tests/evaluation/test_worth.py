"""What routing is worth, against intervals worked out elsewhere and verdicts that are plain."""

import json

import numpy as np
import pytest
from scipy.stats import binom

from pointsman.evaluation.worth import (
    FEWEST,
    Interval,
    mean_interval,
    measure_worth,
    median_interval,
)

N = 200


def drawn(share: float, n: int = N, seed: int = 0) -> list[bool]:
    return (np.random.default_rng(seed).random(n) < share).tolist()


def exactly(right: int, n: int = N) -> list[bool]:
    return [True] * right + [False] * (n - right)


def worth(routed, oracle, frequent, base, *, pictures=None, seconds=None, multitask=None):
    hits = {"routed": routed, "oracle": oracle, "frequent": frequent, "base": base}
    if multitask is not None:
        hits["multitask"] = multitask
    pictures = range(len(routed)) if pictures is None else pictures
    return measure_worth(hits, list(pictures), seconds or {}, "zebra")


def test_a_share_has_the_interval_of_its_distribution() -> None:
    # Resamples of 0 and 1 are binomial, so their quantiles are known.
    found = mean_interval(np.array(exactly(140), float), range(N), 0, 1)
    low, high = binom.ppf([0.025, 0.975], N, 0.7) / N
    assert found.value == 0.7
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.006)
    assert found == mean_interval(np.array(exactly(140), float), range(N), 0, 1)


def test_an_interval_holds_the_truth_19_times_of_20() -> None:
    held = 0
    for seed in range(60):
        found = mean_interval(np.array(drawn(0.6, 100, seed), float), range(100), 0, 1)
        held += found.low <= 0.6 <= found.high
    assert held >= 53


def test_requests_of_one_picture_are_no_new_evidence() -> None:
    once = np.array(drawn(0.5, 50), float)
    apart = mean_interval(np.repeat(once, 4), range(200), 0, 1)
    together = mean_interval(np.repeat(once, 4), np.repeat(range(50), 4).tolist(), 0, 1)
    alone = mean_interval(once, range(50), 0, 1)
    assert together == alone
    assert together.high - together.low > 1.8 * (apart.high - apart.low)


def test_all_alike_is_not_certainty() -> None:
    # Rule of three: of 100 without a miss, up to 3% (here 3.6, two-sided) may be missed.
    found = mean_interval(np.ones(100), range(100), 0, 1)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(1 - (1 - 0.025 ** (1 / 100)))
    assert mean_interval(np.zeros(100), range(100), -1, 1).high == pytest.approx(1 - found.low)
    assert mean_interval(np.ones(1), range(1), 0, 1).low == pytest.approx(0.025)


def test_a_median_has_an_interval() -> None:
    values = np.random.default_rng(1).normal(3, 1, 400)
    found = median_interval(values)
    assert found.value == np.median(values)
    # The standard error of a normal median is 1.253 / sqrt(n).
    assert found.high - found.low == pytest.approx(2 * 1.96 * 1.253 / 20, rel=0.3)
    assert median_interval(np.array([2.0])) == Interval(2, 2, 2)


def test_routing_pays() -> None:
    found = worth(exactly(190), exactly(192), exactly(80), exactly(20))
    assert (found.verdict, found.rival) == ("pays", "frequent")
    assert found.sentence == (
        "Routing pays: 95.0% [92.0, 97.5] of 200 answers right against 40.0% [33.5, 47.0] with "
        "zebra always, the most frequent adapter; it gives up 1.0 points to knowing the adapter."
    )
    gain = found.ways["frequent"].gain
    assert gain is not None
    assert gain.value == pytest.approx(0.55)


def test_pairs_show_what_shares_alone_would_not() -> None:
    # Eight more of 200 are right, and none less: intervals overlap, pairs leave no doubt.
    found = worth(exactly(108), exactly(108), exactly(100), exactly(0))
    routed, frequent = found.ways["routed"].success, found.ways["frequent"].success
    assert routed.low < frequent.high
    assert found.verdict == "pays"


def test_overlap_is_not_shown() -> None:
    found = worth(drawn(0.62, seed=1), exactly(130), drawn(0.6, seed=2), exactly(0))
    gain = found.ways["frequent"].gain
    assert gain is not None
    assert gain.low < 0 < gain.high
    assert found.verdict == "not shown"
    assert found.sentence.startswith("Not shown that routing pays: ")
    assert f"from {100 * gain.low:+.1f} to {100 * gain.high:+.1f} points" in found.sentence


def test_better_than_some_but_not_than_all_is_not_shown() -> None:
    found = worth(exactly(150), exactly(160), exactly(60), exactly(0), multitask=exactly(150))
    assert (found.verdict, found.rival) == ("not shown", "multitask")
    assert "with the multitask adapter always" in found.sentence


def test_routing_loses() -> None:
    found = worth(exactly(120), exactly(150), exactly(60), exactly(0), multitask=exactly(180))
    assert found.verdict == "loses"
    assert found.sentence.startswith("Routing loses: 60.0%")
    assert found.sentence.endswith(
        "with the multitask adapter always, which is the better choice on this data."
    )


@pytest.mark.parametrize("n", [1, 3, FEWEST - 1])
def test_few_pictures_show_nothing(n: int) -> None:
    found = worth(exactly(n, n), exactly(n, n), exactly(0, n), exactly(0, n))
    assert found.verdict == "not shown"
    assert f"{n} pictures are too few" in found.sentence
    many = [0] * N  # many requests about one picture
    assert worth(exactly(190), exactly(190), exactly(0), exactly(0), pictures=many).pictures == 1


def test_time_is_compared_request_by_request() -> None:
    oracle = np.random.default_rng(0).uniform(0.1, 3, 24)
    seconds = {
        "routed": (oracle * 1.02).tolist(),
        "oracle": oracle.tolist(),
        "frequent": oracle.tolist(),
        "base": (oracle * 2).tolist(),
    }
    found = worth(exactly(190), exactly(192), exactly(80), exactly(20), seconds=seconds)
    assert found.timed == 24
    ratio, base = found.ways["oracle"].time_ratio, found.ways["base"].time_ratio
    assert ratio is not None
    assert base is not None
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1.02, 1.02, 1.02))
    assert base.value == pytest.approx(0.51)
    assert found.ways["routed"].time_ratio is None
    assert found.sentence.endswith("to knowing the adapter and takes 2.0% more time.")
    faster = {**seconds, "routed": (oracle * 0.99).tolist()}
    again = worth(exactly(192), exactly(190), exactly(80), exactly(20), seconds=faster)
    assert again.sentence.endswith(
        "it is 1.0 points better than knowing the adapter and takes 1.0% less time."
    )


def test_json_and_rows() -> None:
    found = worth(exactly(190), exactly(190), exactly(80), exactly(20))
    plain = json.loads(json.dumps(found.to_json()))
    assert set(plain) == {
        "verdict", "sentence", "n", "pictures", "timed", "frequent", "ways",
    }  # fmt: skip
    assert list(plain["ways"]) == ["routed", "oracle", "frequent", "base"]
    assert plain["ways"]["oracle"]["gain"]["value"] == 0
    assert plain["ways"]["routed"]["seconds"] is None
    rows = found.rows()
    assert rows[0] == ("routed", "95.0% [92.0, 97.5]", "-", "-", "-")
    assert [row[0] for row in rows] == ["routed", "oracle", "frequent: zebra", "base"]
    assert rows[2][2] == "+55.0 [+48.0, +62.0]"
