import random

from pointsman.data.split import assign, group_by_shared


def test_groups_are_connected_through_shared_keys() -> None:
    keys = [["a"], ["b"], ["c", "d"], ["a", "d"], ["e"], []]
    assert group_by_shared(keys) == [[0, 2, 3], [1], [4], [5]]


def test_assignment_keeps_its_promises_for_random_groups() -> None:
    rng = random.Random(0)
    shares = {"train": 0.8, "val": 0.1, "test": 0.1}
    for _ in range(300):
        names = "abcde"[: rng.randint(1, 5)]
        groups = [{rng.choice(names): rng.randint(1, 9)} for _ in range(rng.randint(1, 40))]
        pairs = [dict.fromkeys(rng.sample(names, 2), 1) for _ in range(9) if len(names) > 1]
        for mixed, all_groups in ((False, groups), (True, groups + pairs)):
            result = assign(all_groups, shares)
            for name in {k for group in all_groups for k in group}:
                own = [s for s, g in zip(result, all_groups, strict=True) if name in g]
                assert "train" in own
                assert len(own) < 3 or mixed or set(own) == set(shares)


def test_supplying_one_class_takes_nothing_that_another_is_owed() -> None:
    rng = random.Random(1)
    shares = {"train": 0.8, "val": 0.1, "test": 0.1}
    for _ in range(1000):
        groups = [
            dict.fromkeys(rng.sample("abcd", rng.randint(1, 3)), 1)
            for _ in range(rng.randint(2, 7))
        ]
        result = assign(groups, shares)
        trained = {
            k for place, g in zip(result, groups, strict=True) for k in g if place == "train"
        }
        assert trained == {k for group in groups for k in group}
