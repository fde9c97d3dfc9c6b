"""Measures how late the event loop is: whoever blocks it, blocks everybody (reliability F22)."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Gauge, Histogram

from busbar.observability.metrics import registry as default_registry

log = structlog.get_logger()

INTERVAL_S: Final = 0.1
WINDOW: Final = 100
"""Samples behind the gauge: the worst of the last ten seconds."""
WARN_ABOVE_S: Final = 0.5
_BOUNDS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class LoopLag:
    """A task that sleeps a little and looks how much longer it took: `await LoopLag().run()` in a background task."""

    def __init__(
        self,
        *,
        registry: CollectorRegistry = default_registry,
        interval_s: float = INTERVAL_S,
        now_s: Callable[[], float] | None = None,
    ) -> None:
        self._interval_s = interval_s
        self._now_s = now_s
        self._samples: deque[float] = deque(maxlen=WINDOW)
        gauge, self._histogram = _metrics_in(registry)
        gauge.set_function(lambda: self.worst_s)

    @property
    def worst_s(self) -> float:
        """The worst delay of the last ten seconds, in seconds."""
        return max(self._samples, default=0.0)

    def observe(self, lag_s: float) -> None:
        """Take in one sample; a delay that people would notice is logged."""
        self._samples.append(lag_s)
        self._histogram.observe(lag_s)
        if lag_s > WARN_ABOVE_S:
            log.warning("event_loop_blocked", lag_s=round(lag_s, 3))

    async def run(self) -> None:
        """Measure until cancelled."""
        now_s = self._now_s or asyncio.get_running_loop().time
        while True:
            started_s = now_s()
            await asyncio.sleep(self._interval_s)
            self.observe(max(0.0, now_s() - started_s - self._interval_s))


@lru_cache
def _metrics_in(registry: CollectorRegistry) -> tuple[Gauge, Histogram]:
    """The two metrics of a registry, made once: a platform may start again in the same process."""
    gauge = Gauge(
        "event_loop_lag_seconds", "The worst delay of the event loop in the last ten seconds.", registry=registry
    )
    histogram = Histogram(
        "event_loop_lag_sample_seconds",
        "Delays of the event loop, ten samples a second.",
        buckets=_BOUNDS_S,
        registry=registry,
    )
    return gauge, histogram
