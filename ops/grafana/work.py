"""What the utility does with it: plant maintenance, materials, finance."""

from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from ops.grafana.panels import BAD, GOOD, Look, Page, Query

_MODULES = (("pm", "Plant maintenance"), ("mm", "Materials"), ("fi", "Finance"))


def dashboard() -> Dashboard:
    """Busbar: work."""
    page = Page("busbar-work", "Busbar: work", "What is reported, what is left to do, and what is late?")
    _done(page)
    for module, title in _MODULES:
        page.row(title)
        page.lines(
            "Tickets by status",
            f"Tickets of the module {module}.",
            Query(expr=f'sum by (status) (busbar:tickets:max{{module="{module}"}})', legend="{{status}}"),
            unit=units.Short,
            stacked=True,
        )
        page.lines(
            "Service levels",
            "Open tickets that are due within the hour, or past their deadline.",
            Query(expr=f'sum by (state) (busbar:sla:max{{module="{module}"}})', legend="{{state}}"),
            unit=units.Short,
        )
        page.lines(
            "Requests",
            f"Changes a second through the routes of the module {module}, by route.",
            Query(
                expr="topk(10, sum by (method, route) "
                f'(busbar:request_count:rate5m{{route=~"/api/v1/{module}/.+", method!="GET"}}))',
                legend="{{method}} {{route}}",
            ),
            unit=units.RequestsPerSecond,
        )
    _jobs(page)
    return page.build()


def _done(page: Page) -> None:
    page.row("Last hour")
    counted = {
        "Incidents reported": "/api/v1/pm/incidents",
        "Maintenance orders": "/api/v1/pm/maintenance-orders",
        "Stock transactions": "/api/v1/mm/stock-transactions",
        "Purchase requisitions": "/api/v1/mm/purchase-requisitions",
        "Cost entries": "/api/v1/fi/cost-entries",
        "Approval requests": "/api/v1/fi/approval-requests",
    }
    for title, route in counted.items():
        accepted = f'request_count_total{{method="POST", route="{route}", status="201"}}'
        page.number(
            title,
            "Accepted by the API in the last hour; what Busbar makes by itself is not in it.",
            f"sum(increase({accepted}[1h])) or vector(0)",
            unit=units.Short,
            width=4,
        )


def _jobs(page: Page) -> None:
    page.row("Jobs")
    page.states(
        "Scheduled jobs and polled endpoints",
        "Whether each succeeded when it ran last.",
        Query(expr="busbar:job_failed:max", legend="{{name}}"),
        names={0: ("succeeded", GOOD), 1: ("failed", BAD)},
    )
    page.lines(
        "Overdue",
        "How long each job has been due; more than minutes means that no worker runs it.",
        Query(expr="busbar:job_overdue_seconds:max", legend="{{name}}"),
        unit=units.Seconds,
        width=8,
    )
    page.number(
        "Longest overdue",
        "The job that has been due for the longest time.",
        "max(busbar:job_overdue_seconds:max)",
        unit=units.Seconds,
        look=Look(look=60, bad=600),
        width=4,
    )
