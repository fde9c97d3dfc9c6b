"""The metrics of this process, and gauges that features read from the database at the moment of a scrape (SPEC R6.1).

A counter or histogram of a feature is a `prometheus_client` object with `registry=registry`. A number that only the
database knows, such as tickets by status, is declared as a `GaugeFamily` and answered by a registered collector.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec
import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from busbar.observability.logs import dropped_lines
from busbar.observability.pools import PoolMetrics
from busbar.observability.requests import RequestMetrics

log = structlog.get_logger()

MEDIA_TYPE: Final = "text/plain; version=0.0.4"
"""Of the text format of Prometheus; the framework adds the character set."""
TIMEOUT_S: Final = 2.0
"""How long a collector may take; Prometheus itself gives up on a scrape after 10 s."""
CACHE_S: Final = 5.0
"""Readings are used again for so long: many scrapers do not become many queries."""

# Otherwise every counter and histogram has a second series, which tells when it was first counted.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has left it without
registry: Final = CollectorRegistry(auto_describe=False)
"""Everything that `/metrics` shows."""


class GaugeFamily(msgspec.Struct, frozen=True, kw_only=True):
    """The declaration of a gauge: its name, what it says, and its labels."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a gauge; `labels` has exactly the labels of its family."""

    family: str
    value: float
    labels: Mapping[str, str] = {}


CollectReadings = Callable[[], Awaitable[Iterable[Reading]]]
"""Asked at a scrape; it may query the database."""

TICKET_COUNT_BY_STATUS: Final = GaugeFamily(
    name="ticket_count_by_status", help="Tickets by module and status.", labels=("module", "status")
)
OUTBOX_LAG: Final = GaugeFamily(
    name="outbox_lag_seconds", help="Age of the oldest event that the relay has not yet handed on; 0 when none waits."
)
OUTBOX_WAITING: Final = GaugeFamily(name="outbox_waiting", help="Events that the relay has not yet handed on.")
DELIVERIES_BY_STATE: Final = GaugeFamily(
    name="deliveries_by_state", help="Deliveries by subscription and state.", labels=("subscription", "state")
)
DEAD_LETTER_AGE: Final = GaugeFamily(
    name="dead_letter_age_seconds", help="Age of the oldest dead letter that nobody has dealt with; 0 when none."
)
SUBSCRIPTION_SUSPENDED: Final = GaugeFamily(
    name="subscription_suspended",
    help="1 when a plugin's handler fails with everything and its deliveries wait, else 0.",
    labels=("subscription",),
)
BREAKER_STATE: Final = GaugeFamily(
    name="breaker_state", help="Circuit breaker by endpoint: 0 closed, 1 half-open, 2 open.", labels=("endpoint",)
)
# Their label is not "job": Prometheus has one of that name itself, and would call ours exported_job.
JOB_FAILED: Final = GaugeFamily(
    name="job_failed",
    help="1 when the last run of a scheduled job, or poll of an endpoint, failed, else 0.",
    labels=("name",),
)
JOB_OVERDUE: Final = GaugeFamily(
    name="job_overdue_seconds", help="How long a scheduled job has been due and did not run.", labels=("name",)
)
SLA_AT_RISK: Final = GaugeFamily(
    name="sla_at_risk", help="Open tickets near or past their deadline.", labels=("module", "state")
)

request_metrics: Final = RequestMetrics(registry)
collector_failures: Final = Counter(
    "collector_failures", "Scrapes in which a collector failed or took too long.", ["collector"], registry=registry
)


class _Registered:
    """A collector with its last answer."""

    def __init__(self, collect: CollectReadings, families: Sequence[GaugeFamily], timeout_s: float) -> None:
        self.collect = collect
        self.families = tuple(families)
        self.timeout_s = timeout_s
        self.readings: tuple[Reading, ...] = ()
        self.is_up = False
        self.asked_at_s: float | None = None


class Gauges(Collector):
    """The gauges that collectors answer. A collector that fails loses its values, never the whole scrape."""

    def __init__(self, *, cache_s: float = CACHE_S) -> None:
        self._registered: dict[str, _Registered] = {}
        self._cache_s = cache_s
        self._refreshing = asyncio.Lock()

    def register(
        self, name: str, collect: CollectReadings, *, families: Sequence[GaugeFamily], timeout_s: float = TIMEOUT_S
    ) -> None:
        """Ask `collect` at each scrape; the same name again replaces the former.

        Raises:
            ValueError: another collector has declared one of the families.
        """
        for other_name, other in self._registered.items():
            shared = {family.name for family in other.families} & {family.name for family in families}
            if shared and other_name != name:
                raise ValueError(f"{name} declares {', '.join(sorted(shared))}, which {other_name} declares already.")
        self._registered[name] = _Registered(collect, families, timeout_s)
        # A counter that first shows with its first failure has no increase to raise an alarm with.
        collector_failures.labels(name)

    def unregister(self, name: str) -> None:
        """Ask it no more; unknown names are fine."""
        self._registered.pop(name, None)

    async def refresh(self) -> None:
        """Ask every collector whose answer is older than the cache allows, all at once."""
        async with self._refreshing:
            oldest_s = time.monotonic() - self._cache_s
            due = [
                (name, each)
                for name, each in self._registered.items()
                if each.asked_at_s is None or each.asked_at_s <= oldest_s
            ]
            await asyncio.gather(*(self._ask(name, each) for name, each in due))

    async def _ask(self, name: str, registered: _Registered) -> None:
        declared = {family.name: set(family.labels) for family in registered.families}
        try:
            async with asyncio.timeout(registered.timeout_s):
                readings = tuple(await registered.collect())
            for reading in readings:
                if declared.get(reading.family) != set(reading.labels):
                    raise ValueError(f"the reading {reading.family}{dict(reading.labels)} was not declared so")
        except Exception as error:  # noqa: BLE001 - a plugin's collector may raise anything; the others still count
            registered.readings, registered.is_up = (), False
            collector_failures.labels(name).inc()
            log.warning("collector_failed", collector=name, cause=f"{type(error).__name__}: {error}")
        else:
            registered.readings, registered.is_up = readings, True
        registered.asked_at_s = time.monotonic()

    def collect(self) -> Iterable[Metric]:
        """The families with the latest readings, for the registry."""
        up = GaugeMetricFamily("collector_up", "1 when the collector answered, else 0.", labels=("collector",))
        for name, registered in list(self._registered.items()):
            up.add_metric((name,), float(registered.is_up))
            for family in registered.families:
                metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
                for reading in registered.readings:
                    if reading.family == family.name:
                        metric.add_metric([reading.labels[label] for label in family.labels], reading.value)
                yield metric
        yield up
        dropped = CounterMetricFamily("log_lines_dropped", "Log lines lost because their reader was too slow.")
        dropped.add_metric((), dropped_lines())
        yield dropped


gauges: Final = Gauges()
registry.register(gauges)
registry.register(PoolMetrics())
ProcessCollector(registry=registry)


def register_collector(
    name: str, collect: CollectReadings, *, families: Sequence[GaugeFamily], timeout_s: float = TIMEOUT_S
) -> None:
    """Let a feature or plugin answer gauges from the database: `collect` is awaited at a scrape, at most every 5 s.

    A collector that takes longer than `timeout_s` seconds or raises is left out of that scrape, counted in
    `collector_failures_total` and shown as 0 in `collector_up`.
    """
    gauges.register(name, collect, families=families, timeout_s=timeout_s)


async def exposition() -> bytes:
    """The whole of `/metrics` in the text format of Prometheus, version 0.0.4."""
    await gauges.refresh()
    return generate_latest(registry)
