"""Near-duplicate pictures: one screen with another cursor, encoded again or slightly resized.

A picture's look is its grey thumbnail. Two look the same if no more than a few of its cells differ:
a cursor changes few cells much, an encoding many of them a little, another text many of them much.
Thresholds and rates: benchmarks/bench_near_duplicates.py.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 64
CHANGE = 24
"""Grey levels by which a cell must differ to count."""
CELLS = 16
"""Cells that may differ."""
_PLAIN = 4 * CELLS  # with fewer cells that stand out, two different pages may differ in as few
_BLOCKS = 4
_STEP = 8.0  # grey levels: far more than an encoding changes a block's mean
_COARSE = ((4, 3, 4), (16, 8, CELLS))  # blocks a side, change of a mean that counts, how many may
_MOST = 128  # pictures that are compared with each other
_PART = 1024  # pairs at once
_ASPECT = 0.03
Means = NDArray[np.float32]
Rows = NDArray[np.int64]


def look_of(image: Image.Image) -> bytes:
    """The grey thumbnail, or nothing of a picture that is too plain to compare."""
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(small, np.int16)
    stands_out = np.abs(values - np.median(values)) > CHANGE
    return small.tobytes() if stands_out.sum() >= _PLAIN else b""


def alike(looks: Iterable[tuple[str, bytes, tuple[int, int]]]) -> dict[str, list[str]]:
    """For each picture the earlier ones that look the same; pictures without any are left out.

    The time grows with the number of pictures, not with its square: only pictures that agree in
    half of their blocks are compared, and where more than 128 do, in finer steps.

    Args:
        looks: name, ``look_of`` and (width, height) of each picture.
    """
    shown = {name: (look, size) for name, look, size in looks if look}
    if len(shown) < 2:
        return {}
    names = list(shown)
    cells = np.frombuffer(b"".join(look for look, _ in shown.values()), np.uint8)
    cells = cells.reshape(-1, SIDE, SIDE)
    aspects = np.log([width / height for _, (width, height) in shown.values()])
    filters: list[tuple[NDArray[Any], float, int]] = [(aspects[:, None], _ASPECT, 0)]
    filters += [(_means(cells, blocks), change, most) for blocks, change, most in _COARSE]
    filters.append((cells.reshape(-1, SIDE**2), CHANGE, CELLS))
    blocks = _means(cells, _BLOCKS).reshape(-1, _BLOCKS, _BLOCKS)
    pairs: set[tuple[int, int]] = set()
    for strips in combinations(range(_BLOCKS), _BLOCKS // 2):  # a cursor lies in one or two
        key = blocks[:, strips].reshape(len(blocks), -1)
        for rows in _buckets(key, np.argsort(blocks.sum((1, 2)), kind="stable"), _STEP):
            one, other = np.sort([rows[side] for side in np.triu_indices(len(rows), 1)], 0)
            for values, change, most in filters:
                one, other = _near(values, one, other, change, most)
            pairs.update(zip(one.tolist(), other.tolist(), strict=True))
    found: dict[str, list[str]] = defaultdict(list)
    for first, second in sorted(pairs):
        found[names[second]].append(names[first])
    return dict(found)


def _means(cells: NDArray[np.uint8], blocks: int) -> Means:
    """(n, blocks**2) means of square blocks of cells."""
    part = SIDE // blocks
    means: Means = cells.reshape(-1, blocks, part, blocks, part).mean((2, 4), dtype=np.float32)
    return means.reshape(len(cells), -1)


def _near(
    values: NDArray[Any], one: Rows, other: Rows, change: float, most: int
) -> tuple[Rows, Rows]:
    """The pairs of rows in which at most ``most`` values differ by more than ``change``."""
    kept = [np.empty(0, bool)]
    for start in range(0, len(one), _PART):
        part = slice(start, start + _PART)
        difference = values[one[part]].astype(np.float32) - values[other[part]]
        kept.append((np.abs(difference) > change).sum(1) <= most)
    near = np.concatenate(kept)
    return one[near], other[near]


def _buckets(key: Means, rows: Rows, step: float) -> Iterator[Rows]:
    """Rows that agree in ``key``, twice: steps half a step apart split no pair of neighbours."""
    for offset in (0.0, step / 2):
        places = np.floor((key[rows] + offset) / step).astype(np.int16)
        _, number = np.unique(places, axis=0, return_inverse=True)
        order = np.argsort(number, kind="stable")
        ends = np.flatnonzero(np.diff(number[order])) + 1
        for bucket in np.split(rows[order], ends):
            if len(bucket) > _MOST and step > 1:
                yield from _buckets(key, bucket, step / 2)
            elif len(bucket) > 1:
                yield from np.split(bucket, range(_MOST, len(bucket), _MOST))
