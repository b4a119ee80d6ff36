"""Drift: warns while requests are unlike those on which the router was validated.

A window of decisions at a time is compared with what the router seals. A router that was trained
before routers sealed it is not watched.
"""

import logging
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily

from pointsman.routing.drift import (
    FEWEST,
    LEVEL,
    Reference,
    Share,
    chance_of,
    chance_of_spreads,
    mean,
    spreads_of,
)
from pointsman.routing.route import Route
from pointsman.routing.router import Router

WINDOW = 200
"""Decisions of one test"""
BEGINS = 1e-4
"""Chance below which drift begins. A server tests all day: at ``LEVEL`` it would cry wolf."""
_ABSTAINED = "abstained"
_log = logging.getLogger("pointsman.server")


class Watch:
    """Compares decisions with validation. Its methods are for one thread."""

    def __init__(self, router: Router) -> None:
        self.use(router)

    def use(self, router: Router) -> None:
        """Watches another router, from its first decision on."""
        self._known = Reference.of(router.training)
        self._threshold = router.calibration.threshold
        self._window: list[Route] = []
        self._recent: dict[str, float] = {}
        """Of the last window, by signal: the share that abstained, or the mean of a value"""
        self._drifting: set[str] = set()

    def add(self, route: Route) -> None:
        """Takes a decision; those that are not the router's own are left out."""
        is_forced = route.abstained and route.score >= self._threshold  # it had no image
        if is_forced or route.held or self._known.abstained is None:
            return
        self._window.append(route)
        if len(self._window) == WINDOW:
            self._compare()
            self._window = []

    def _compare(self) -> None:
        assert self._known.abstained is not None
        share = Share(sum(route.abstained for route in self._window), WINDOW)
        self._recent = {_ABSTAINED: share.hits / share.n}
        if self._known.abstained.n >= FEWEST:
            self._judge(_ABSTAINED, chance_of(share, self._known.abstained))
        for name, values in spreads_of(self._window).items():
            known = self._known.spreads.get(name, ())
            if min(len(values), len(known)) >= FEWEST:
                self._recent[name] = mean(values)
                self._judge(name, chance_of_spreads(values, known))

    def _judge(self, signal: str, chance: float) -> None:
        """Says once that drift begins, and once that it has ended."""
        now, then = self._recent[signal], self._validation()[signal]
        if signal not in self._drifting and chance < BEGINS:
            self._drifting.add(signal)
            _log.warning(
                "drift begins: %s %.3f over the last %d requests, %.3f on validation; requests "
                "are unlike those of training, or for none of the adapters",
                *(signal, now, WINDOW, then),
            )
        elif signal in self._drifting and chance >= LEVEL:
            self._drifting.remove(signal)
            _log.warning("drift has ended: %s %.3f, %.3f on validation", signal, now, then)

    def _validation(self) -> dict[str, float]:
        """As ``_recent``, on validation."""
        share = self._known.abstained
        found = {} if share is None else {_ABSTAINED: share.hits / share.n}
        return found | {name: mean(v) for name, v in self._known.spreads.items() if v}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Metrics for Prometheus."""
        known = self._validation()
        drifting = {signal: float(signal in self._drifting) for signal in known}
        for name, text, values in (
            ("pointsman_drift", "1 while requests are unlike those of validation.", drifting),
            ("pointsman_drift_recent", "Mean over the last window of requests.", self._recent),
            ("pointsman_drift_validation", "Mean on validation.", known),
        ):
            gauge = GaugeMetricFamily(name, text, labels=["signal"])
            for signal, value in values.items():
                gauge.add_metric([signal], value)
            yield gauge
