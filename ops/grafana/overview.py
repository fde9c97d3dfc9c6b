"""The first look: is it well, what do people ask of it, what is left to do?"""

from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from ops.grafana.panels import Look, Page, Query

_USERS = 'route!~"/health/.+|/metrics|/api/v1/events/stream"'


def dashboard() -> Dashboard:
    """Busbar: overview."""
    page = Page("busbar-overview", "Busbar: overview", "Is Busbar well, what is asked of it, and what is left to do?")
    _now(page)
    _requests(page)
    _tickets(page)
    return page.build()


def _now(page: Page) -> None:
    page.row("Now")
    page.number(
        "API processes",
        "Processes that serve the API and answer Prometheus.",
        'busbar:up:sum{job="busbar-platform"}',
        unit=units.NoUnit,
        look=Look(look=2, bad=1, falling=True),
    )
    page.number(
        "Workers",
        "Processes that relay events and run deliveries.",
        "busbar:workers:sum",
        unit=units.NoUnit,
        look=Look(look=2, bad=1, falling=True),
    )
    page.number(
        "Failed requests",
        "Share of the answers of the last five minutes that were faults of ours (5xx).",
        "busbar:request_errors:ratio_rate5m",
        unit=units.PercentUnit,
        look=Look(look=0.01, bad=0.05),
    )
    page.number(
        "Slowest of a hundred",
        "99 of 100 requests of the last five minutes were answered faster; event streams are left out.",
        "busbar:request_latency_seconds:p99_rate5m",
        unit=units.Seconds,
        look=Look(look=0.5, bad=1),
    )
    page.number(
        "Oldest waiting event",
        "Age of the oldest event that the relay has not handed on.",
        "busbar:outbox_lag_seconds:max",
        unit=units.Seconds,
        look=Look(look=5, bad=30),
    )
    page.number(
        "Dead letters",
        "Deliveries that wait for a person.",
        'sum(busbar:deliveries:max{state="dead"})',
        unit=units.Short,
        look=Look(look=1, bad=10),
    )
    page.number(
        "Past their deadline",
        "Open tickets whose service level is breached; those on hold do not count.",
        'sum(busbar:sla:max{state="breached"})',
        unit=units.Short,
        look=Look(look=1, bad=10),
    )
    page.number(
        "Alerts",
        "Alerts that fire; the page Alerts of Prometheus says which, and docs/how-to/operate.md what to do.",
        'count(ALERTS{alertstate="firing"}) or vector(0)',
        unit=units.Short,
        look=Look(look=1, bad=3),
    )


def _requests(page: Page) -> None:
    page.row("Requests")
    page.lines(
        "Requests by status",
        "Answers a second, without health checks, metrics and event streams.",
        Query(expr="sum by (status) (busbar:request_count:rate5m)", legend="{{status}}"),
        unit=units.RequestsPerSecond,
        stacked=True,
    )
    page.lines(
        "Busiest routes",
        "Answers a second of the ten routes that are asked most.",
        Query(expr="topk(10, sum by (method, route) (busbar:request_count:rate5m))", legend="{{method}} {{route}}"),
        unit=units.RequestsPerSecond,
    )
    page.lines(
        "Failed requests",
        "Share of answers with 5xx: over all processes, and what each says of its own last minute.",
        Query(expr="busbar:request_errors:ratio_rate5m", legend="all, five minutes"),
        Query(expr="max by (instance) (error_rate)", legend="{{instance}}, last minute"),
        unit=units.PercentUnit,
    )
    page.lines(
        "Latency",
        "Half of the requests are answered faster than p50, 99 of 100 faster than p99.",
        Query(expr="busbar:request_latency_seconds:p50_rate5m", legend="p50"),
        Query(expr="busbar:request_latency_seconds:p99_rate5m", legend="p99"),
        unit=units.Seconds,
    )
    page.lines(
        "Slowest routes",
        "p99 of the ten slowest routes.",
        Query(
            expr="topk(10, histogram_quantile(0.99, sum by (le, method, route) "
            f"(rate(request_latency_seconds_bucket{{{_USERS}}}[$__rate_interval]))))",
            legend="{{method}} {{route}}",
        ),
        unit=units.Seconds,
    )
    page.lines(
        "Refused requests",
        "Answers with 4xx a second, by route: callers that make mistakes, or are not allowed.",
        Query(
            expr='topk(10, sum by (route, status) (busbar:request_count:rate5m{status=~"4.."}))',
            legend="{{status}} {{route}}",
        ),
        unit=units.RequestsPerSecond,
    )


def _tickets(page: Page) -> None:
    page.row("Tickets")
    page.lines(
        "Tickets by status",
        "All tickets of all modules.",
        Query(expr="sum by (status) (busbar:tickets:max)", legend="{{status}}"),
        unit=units.Short,
        stacked=True,
    )
    page.lines(
        "Open tickets by module",
        "Tickets that are neither closed nor cancelled.",
        Query(expr='sum by (module) (busbar:tickets:max{status!~"Closed|Cancelled"})', legend="{{module}}"),
        unit=units.Short,
    )
    page.lines(
        "Service levels",
        "Open tickets that are due within the hour, or past their deadline.",
        Query(expr="busbar:sla:max", legend="{{module}} {{state}}"),
        unit=units.Short,
    )
