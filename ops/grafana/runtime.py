"""The processes themselves: load, memory, event loop, database connections."""

from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from ops.grafana.panels import BAD, GOOD, Page, Query

_OURS = 'job=~"busbar-.+"'


def dashboard() -> Dashboard:
    """Busbar: runtime."""
    page = Page("busbar-runtime", "Busbar: runtime", "How are the processes, and what do they run short of?")
    _processes(page)
    _shortages(page)
    _monitoring(page)
    return page.build()


def _processes(page: Page) -> None:
    page.row("Processes")
    page.states(
        "Up",
        "What Prometheus reaches, of Busbar and of its neighbours.",
        Query(expr="up", legend="{{job}} {{instance}}"),
        names={0: ("down", BAD), 1: ("up", GOOD)},
    )
    page.lines(
        "Running for",
        "Time since each process was started; one that starts again and again shows as teeth.",
        Query(expr=f"time() - process_start_time_seconds{{{_OURS}}}", legend="{{instance}}"),
        unit=units.DurationSeconds,
        width=12,
    )
    page.states(
        "Plugins",
        "A quarantined plugin failed and was put aside; `busbar plugin list` says why.",
        Query(expr="max by (plugin) (busbar_plugin_quarantined)", legend="{{plugin}}"),
        names={0: ("working", GOOD), 1: ("quarantined", BAD)},
        width=8,
    )
    page.states(
        "Handlers",
        "A suspended handler failed with everything it was given; its deliveries wait, `/api/v1/plugins` says why.",
        Query(expr="max by (subscription) (subscription_suspended)", legend="{{subscription}}"),
        names={0: ("working", GOOD), 1: ("suspended", BAD)},
        width=8,
    )
    page.lines(
        "Jobs that fail",
        "Scheduled jobs and polled endpoints that failed when they ran last, by name.",
        Query(expr="busbar:job_failed:max", legend="{{name}}"),
        unit=units.Short,
    )
    page.lines(
        "CPU",
        "Cores that each process keeps busy; one process cannot use more than about one.",
        Query(
            expr=f"rate(process_cpu_seconds_total{{{_OURS}}}[$__rate_interval])",
            legend="{{instance}}",
        ),
        unit=units.Short,
    )
    page.lines(
        "Memory",
        "Resident memory; it should reach a level and stay there, whatever the backlog.",
        Query(expr=f"process_resident_memory_bytes{{{_OURS}}}", legend="{{instance}}"),
        unit=units.BytesIEC,
    )
    page.lines(
        "File descriptors",
        "Share of the limit that is in use.",
        Query(expr=f"process_open_fds{{{_OURS}}} / process_max_fds{{{_OURS}}}", legend="{{instance}}"),
        unit=units.PercentUnit,
    )


def _shortages(page: Page) -> None:
    page.row("Event loop and database")
    page.lines(
        "Event loop, worst",
        "The worst delay of the event loop in the last ten seconds: whoever blocks it, blocks everybody.",
        Query(expr="event_loop_lag_seconds", legend="{{instance}}"),
        unit=units.Seconds,
    )
    page.lines(
        "Event loop, usual",
        "99 of 100 looks at the event loop found it late by less.",
        Query(
            expr="histogram_quantile(0.99, sum by (le, instance) "
            "(rate(event_loop_lag_sample_seconds_bucket[$__rate_interval])))",
            legend="{{instance}}",
        ),
        unit=units.Seconds,
    )
    page.lines(
        "Database connections in use",
        "Share of each pool: for requests, and for relay and deliveries.",
        Query(
            expr='busbar_pool_connections{state="used"} / ignoring (state) busbar_pool_connections_max',
            legend="{{instance}} {{pool}}",
        ),
        unit=units.PercentUnit,
    )
    page.lines(
        "Refused for want of a connection",
        "Times in five minutes that a pool had none to give; requests were answered 503.",
        Query(
            expr="sum by (instance, pool) (increase(busbar_pool_refusals_total[5m]))", legend="{{instance}} {{pool}}"
        ),
        unit=units.Short,
        width=12,
    )
    page.lines(
        "Lost log lines",
        "Log lines in five minutes that nobody read in time.",
        Query(expr="sum by (instance) (increase(log_lines_dropped_total[5m]))", legend="{{instance}}"),
        unit=units.Short,
        width=12,
    )


def _monitoring(page: Page) -> None:
    page.row("Monitoring itself")
    page.lines(
        "Time of a scrape",
        "How long each target took to answer Prometheus, which gives up after ten seconds.",
        Query(expr="scrape_duration_seconds", legend="{{job}} {{instance}}"),
        unit=units.Seconds,
    )
    page.lines(
        "Series of a scrape",
        "Samples by target; a target that grows without end has a label without bound.",
        Query(expr="scrape_samples_scraped", legend="{{job}} {{instance}}"),
        unit=units.Short,
    )
    page.lines(
        "Failed collectors",
        "Scrapes in five minutes in which a collector could not read its values.",
        Query(
            expr="sum by (collector) (increase(collector_failures_total[5m]))",
            legend="{{collector}}",
        ),
        unit=units.Short,
    )
