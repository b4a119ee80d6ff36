"""Metrics: what Prometheus reads, by adapter.

``vllm:lora_requests_info`` and the two gauges beside it have vLLM's names and labels, so that
gateways which balance vLLM by adapter (Gateway API inference extension, llm-d) balance us too.
"""

import threading
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from pointsman.engine.stream import Stream
from pointsman.labels import BASE, ROUTED
from pointsman.server.drift import Watch
from pointsman.server.models import Models

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self, models: Models, drift: Watch) -> None:
        self._drift = drift
        self._engine, self._name = models.engine, models.public_name
        self._registry = registry = CollectorRegistry()
        self.routed = Counter(
            "pointsman_routed_requests",
            "Requests and decisions of the router, by the adapter that answers.",
            ["adapter", "abstained"],
            registry=registry,
        )
        self.requests = Counter(
            "pointsman_requests",
            "Responses, by path and status.",
            ["path", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "pointsman_request_seconds",
            "From request to complete answer.",
            ["adapter"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.confidence = Histogram(
            "pointsman_confidence",
            "Probability of the likeliest adapter.",
            ["adapter"],
            buckets=[0.1 * n for n in range(1, 11)],
            registry=registry,
        )
        self.tokens = Counter(
            "pointsman_tokens", "Tokens read and written.", ["kind"], registry=registry
        )
        self._running = 0
        self._lock = threading.Lock()
        registry.register(self)

    @property
    def load(self) -> int:
        """Answers that are being made or wait."""
        with self._lock:
            return self._running

    def began(self, stream: Stream) -> None:
        """Counts an answer until it ends."""
        with self._lock:
            self._running += 1
        began = time.perf_counter()
        stream.add_done_callback(lambda done: self._ended(done, began))

    def _ended(self, stream: Stream, began: float) -> None:
        with self._lock:
            self._running -= 1
        try:
            answer = stream.result()
        except Exception:  # it is counted by its status
            return
        self.tokens.labels("prompt").inc(answer.prompt_tokens)
        self.tokens.labels("completion").inc(answer.completion_tokens)
        name = self._name(answer.adapter or BASE)
        self.seconds.labels(name).observe(time.perf_counter() - began)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The engine's state at this moment."""
        running, waiting = self._engine.load
        yield GaugeMetricFamily(
            "vllm:num_requests_running", "Requests that are being answered.", sum(running.values())
        )
        yield GaugeMetricFamily(
            "vllm:num_requests_waiting", "Requests that wait.", sum(waiting.values())
        )
        names = ("max_lora", "running_lora_adapters", "waiting_lora_adapters")
        info = GaugeMetricFamily("vllm:lora_requests_info", "Adapters at work.", labels=names)
        busy, next_ = (
            ",".join(sorted({self._name(name) for name in each} - {BASE, ROUTED}))
            for each in (running, waiting)
        )
        info.add_metric([str(len(self._engine.adapters)), busy, next_], time.time())
        yield info
        yield from self._drift.collect()

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return bytes(generate_latest(self._registry))
