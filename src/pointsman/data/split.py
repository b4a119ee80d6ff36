"""Splitting samples so that no picture is in more than one split."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

Class = str | None
"""An adapter, or None for out of scope."""


def group_by_shared(keys: Sequence[Sequence[Hashable]]) -> list[list[int]]:
    """Groups the indices of items that share a key, directly or through others, by first index."""
    parent = list(range(len(keys)))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first: dict[Hashable, int] = {}
    for item, shared in enumerate(keys):
        for key in shared:
            one, other = sorted((root(item), root(first.setdefault(key, item))))
            parent[other] = one
    groups: dict[int, list[int]] = {}
    for item in range(len(keys)):
        groups.setdefault(root(item), []).append(item)
    return list(groups.values())


def assign(groups: Sequence[Mapping[Class, int]], shares: Mapping[str, float]) -> list[str]:
    """Assigns each group to one split, with every class in proportion.

    Every class gets a group in ``train``, and one in each other split where it has at least three
    groups of its own; groups of several classes may make the latter impossible.

    Args:
        groups: samples per class, in an order independent of their content.
        shares: each split's share of the samples, above 0; ``train`` must be among them.

    Returns:
        The split of each group.
    """
    totals: Counter[Class] = Counter()
    for group in groups:
        totals.update(group)
    filled: dict[str, Counter[Class]] = {split: Counter() for split in shares}
    result = []
    for group in groups:
        # The split that ends up least full, relative to what it should hold of these classes.
        split = min(
            shares,
            key=lambda name: sum(
                (filled[name][kind] + n) / (shares[name] * totals[kind])
                for kind, n in group.items()
            ),
        )
        filled[split].update(group)
        result.append(split)
    held = Counter((place, k) for place, group in zip(result, groups, strict=True) for k in group)
    total = Counter(k for group in groups for k in group)
    for split in sorted(shares, key=lambda name: name != "train"):
        for kind in totals:
            if not held[split, kind] and _owes(split, total[kind]):
                _supply(groups, result, held, total, split, kind)
    return result


def _owes(split: str, groups: int) -> bool:
    """Whether a class with this many groups must be in ``split``."""
    return split == "train" or groups >= 3


def _supply(
    groups: Sequence[Mapping[Class, int]],
    result: list[str],
    held: Counter[tuple[str, Class]],
    total: Mapping[Class, int],
    split: str,
    kind: Class,
) -> None:
    """Moves the smallest group of ``kind`` into ``split``, if no other split needs it more."""

    def breaks(index: int) -> bool:
        place = result[index]
        return any(held[place, k] == 1 and _owes(place, total[k]) for k in groups[index])

    movable = [
        (breaks(index), sum(group.values()), index)
        for index, group in enumerate(groups)
        if kind in group and (split == "train" or not breaks(index))
    ]
    if movable:
        _, _, index = min(movable)
        for k in groups[index]:
            held[result[index], k] -= 1
            held[split, k] += 1
        result[index] = split
