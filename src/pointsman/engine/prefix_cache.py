"""The prefix cache: keys and values of finished answers, for their conversation's next turn.

An entry is identified by its tokens, the content of its images, and the adapter that read it. The
oldest entry makes room for a new one.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from pointsman.engine.request import Request

_WORTH = 16
"""Shortest prefix worth reusing, in tokens: a continued prompt is not batched with others"""


@dataclass(frozen=True)
class CachedPrefix:
    """The content of one place."""

    ids: tuple[int, ...]
    digests: list[list[int]]
    adapter: str | None

    def is_start_of(self, other: "CachedPrefix") -> bool:
        return (
            self.adapter == other.adapter
            and self.digests == other.digests[: len(self.digests)]
            and self.ids == other.ids[: len(self.ids)]
        )


class PrefixCache:
    """Places (slot numbers) and their content."""

    def __init__(self, places: Iterable[int]) -> None:
        self._empty = list(places)
        self._kept: OrderedDict[int, CachedPrefix] = OrderedDict()

    def put(self, ids: Sequence[int], digests: list[list[int]], adapter: str | None) -> int | None:
        """The place for the tokens that an adapter has read; None if there are no places."""
        if not self._empty and not self._kept:
            return None
        new = CachedPrefix(tuple(ids), digests, adapter)
        outdone = [place for place, kept in self._kept.items() if kept.is_start_of(new)]
        for place in outdone:  # earlier turns of the same conversation
            self.drop(place)
        place = self._empty.pop() if self._empty else self._kept.popitem(last=False)[0]
        self._kept[place] = new
        return place

    def find(self, request: Request, any_adapter: bool) -> tuple[int, int, str | None] | None:
        """The place with the longest prefix of a request, that prefix's length, and its adapter.

        The prefix must contain all images. At least one token is left to be read, and all tokens
        on which activated adapters act.
        """
        best: tuple[int, int, str | None] | None = None
        for place, kept in self._kept.items():
            is_usable = any_adapter or request.routed or kept.adapter == request.adapter
            if not is_usable or kept.digests != request.digests:
                continue
            pairs = zip(kept.ids, request.ids, strict=False)
            alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            known = min(alike, len(request.ids) - max(request.tail, 1))
            if known >= max(request.image_prefix_len, _WORTH) and (best is None or known > best[1]):
                best = place, known, kept.adapter
        return best

    def drop(self, place: int) -> None:
        """Empties a place."""
        del self._kept[place]
        self._empty.append(place)

    def forget(self, adapter: str) -> None:
        """Empties the places of a removed adapter."""
        for place in [place for place, kept in self._kept.items() if kept.adapter == adapter]:
            self.drop(place)
