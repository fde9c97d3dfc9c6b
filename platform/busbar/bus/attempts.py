"""What `/metrics` shows of the attempts of this process: how many, how they ended, how long an event was under way."""

from datetime import datetime
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from busbar.events.ledger import Claimed
from busbar.observability.metrics import registry

BOUNDS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)

worker_running: Final = Gauge(
    "busbar_worker_running", "1 while this process runs deliveries, 0 while it only serves requests.", registry=registry
)
delivery_attempts: Final = Counter(
    "busbar_delivery_attempts",
    "Attempts to deliver, by subscription, endpoint (empty for a handler) and outcome.",
    ["subscription", "endpoint", "outcome"],
    registry=registry,
)
delivery_latency: Final = Histogram(
    "busbar_delivery_latency_seconds",
    "Time from an event to the end of its delivery, by endpoint (empty for handlers).",
    ["endpoint"],
    buckets=BOUNDS_S,
    registry=registry,
)


def count_attempt(held: Claimed, outcome: str, *, now: datetime) -> None:
    """Count an attempt that ended; one that delivered tells how long its event was under way."""
    endpoint = held.endpoint_id or ""
    delivery_attempts.labels(held.subscription, endpoint, outcome).inc()
    if outcome == "delivered":
        delivery_latency.labels(endpoint).observe(max(0.0, (now - held.event.time).total_seconds()))
