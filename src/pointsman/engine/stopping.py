"""Stop strings: an answer ends before the first of them, and nothing of it is passed on."""

from collections.abc import Sequence

MOST_STOPS = 16


class Stopping:
    """The text of one answer on its way to the caller.

    The result does not depend on how the text is cut into pieces: the stop string that is complete
    first ends the answer, as if characters came one by one.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        """The end of the text that may yet become a stop string"""
        self.found: str | None = None
        """The stop string that ended the answer"""

    def add(self, piece: str) -> str:
        """Takes the next piece; returns what can be passed on."""
        if not self._stops:
            return piece
        if self.found is not None:
            return ""
        text = self._held + piece
        start, found = self._first(text)
        if found is not None:
            self._held, self.found = "", found
            return text[:start]
        start = len(text) - self._undecided(text)
        self._held = text[start:]
        return text[:start]

    def flush(self) -> str:
        """What was held back: no more text comes."""
        held, self._held = self._held, ""
        return held

    def _first(self, text: str) -> tuple[int, str | None]:
        """Start of the stop string that is complete first, and the string; of two, the longer."""
        places = [(text.find(stop), stop) for stop in self._stops]
        found = [(start + len(stop), start, stop) for start, stop in places if start >= 0]
        return min(found)[1:] if found else (0, None)

    def _undecided(self, text: str) -> int:
        """Length of the longest end of a text that is the start of a stop string."""
        longest = min(len(text), max(map(len, self._stops)) - 1)
        for length in range(longest, 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
