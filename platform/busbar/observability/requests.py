"""Counts and times of HTTP requests, kept in plain dictionaries: an observation costs about a microsecond."""

import time
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histogram, in seconds."""
WINDOW_S: Final = 60
"""The error rate looks back so far."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

UNMATCHED: Final = "unmatched"
"""The route of requests to addresses that do not exist; each path of its own would be a label without bound."""


class RequestMetrics(Collector):
    """`request_count`, `request_latency` and `error_rate` of SPEC R6.1.

    By the conventions of Prometheus the first two appear as `request_count_total{method,route,status}` and
    `request_latency_seconds_{bucket,sum,count}{method,route}`. `error_rate` is the share of the answers of the last
    minute that were faults of ours (5xx), between 0 and 1.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._counts: dict[tuple[str, str, int], int] = {}
        self._latencies: dict[tuple[str, str], list[float]] = {}
        self._seconds = [0] * WINDOW_S
        self._answers = [0] * WINDOW_S
        self._faults = [0] * WINDOW_S
        if registry is not None:
            registry.register(self)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer; `route` is the template, such as `/api/v1/tickets/{ticket_id}`."""
        if method not in METHODS:
            method = "OTHER"
        key = (method, route, status)
        self._counts[key] = self._counts.get(key, 0) + 1
        row = self._latencies.get((method, route))
        if row is None:
            row = self._latencies[(method, route)] = [0.0] * (len(BOUNDS_S) + 2)
        row[bisect_left(BOUNDS_S, seconds)] += 1
        row[-1] += seconds
        now = int(time.monotonic())
        slot = now % WINDOW_S
        if self._seconds[slot] != now:
            self._seconds[slot], self._answers[slot], self._faults[slot] = now, 0, 0
        self._answers[slot] += 1
        if status >= 500:
            self._faults[slot] += 1

    def error_rate(self) -> float:
        """The share of 5xx among the answers of the last minute; 0 when there were none."""
        oldest = int(time.monotonic()) - WINDOW_S
        current = [slot for slot in range(WINDOW_S) if self._seconds[slot] > oldest]
        answers = sum(self._answers[slot] for slot in current)
        return sum(self._faults[slot] for slot in current) / answers if answers else 0.0

    def collect(self) -> Iterable[Metric]:
        """The three families, for the registry."""
        counts = CounterMetricFamily("request_count", "Answered HTTP requests.", labels=("method", "route", "status"))
        for (method, route, status), count in self._counts.items():
            counts.add_metric((method, route, str(status)), count)
        latencies = HistogramMetricFamily(
            "request_latency_seconds", "Time from the first byte in to the last byte out.", labels=("method", "route")
        )
        for (method, route), row in self._latencies.items():
            running = 0.0
            buckets: list[tuple[str, float]] = []
            for bound, observed in zip((*map(str, BOUNDS_S), "+Inf"), row, strict=False):
                running += observed
                buckets.append((bound, running))
            latencies.add_metric((method, route), buckets=buckets, sum_value=row[-1])
        rate = GaugeMetricFamily("error_rate", "Share of answers with a 5xx status in the last minute, 0 to 1.")
        rate.add_metric((), self.error_rate())
        return (counts, latencies, rate)
