"""The routes for whoever runs Busbar, open to anyone: /health/live, /health/ready and /metrics (SPEC R6, R7.2).

A process that serves the API has them beside it; a worker has nothing else.
"""

from typing import Any

from litestar import Litestar, MediaType, Request, Response, get
from litestar.handlers import HTTPRouteHandler

from busbar.errors import Unavailable
from busbar.observability import metrics
from busbar.observability.health import Health, HealthReport
from busbar.web.access import ANYONE
from busbar.web.asgi import Edge
from busbar.web.problems import EXCEPTION_HANDLERS, problem_response

RETRY_AFTER_S = 2


class NotHealthy(Unavailable):
    """A check that is required fails, or the process is starting or stopping; the member `checks` says which."""

    title = "Not healthy"


def operations_routes(health: Health) -> list[HTTPRouteHandler]:
    """The three routes, answering from `health` and the metrics of this process."""

    @get("/health/live", opt=ANYONE, tags=["Operations"], summary="Is the process alive?", operation_id="healthLive")
    async def live(request: Request[Any, Any, Any]) -> Response[HealthReport]:
        return _answer(await health.liveness(), request)

    @get(
        "/health/ready",
        opt=ANYONE,
        tags=["Operations"],
        summary="Should it be sent requests?",
        operation_id="healthReady",
    )
    async def ready(request: Request[Any, Any, Any]) -> Response[HealthReport]:
        return _answer(await health.readiness(), request)

    @get(
        "/metrics",
        opt=ANYONE,
        tags=["Operations"],
        summary="Metrics for Prometheus",
        operation_id="metrics",
        media_type=MediaType.TEXT,
    )
    async def show_metrics() -> Response[str]:
        return Response((await metrics.exposition()).decode(), media_type=metrics.MEDIA_TYPE)

    return [live, ready, show_metrics]


def operations_app(health: Health) -> Edge:
    """An application of these three routes only, for a process that does not serve the API."""
    app = Litestar(
        route_handlers=[*operations_routes(health)],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=None,
        logging_config=None,
    )
    return Edge(app, lifecycle=health.lifecycle)


def _answer(report: HealthReport, request: Request[Any, Any, Any]) -> Response[Any]:
    if report.healthy:
        return Response(report, headers={"Cache-Control": "no-store"})
    failing = [each.name for each in report.checks if each.required and not each.healthy]
    detail = f"Failing: {', '.join(failing)}." if failing else f"This instance is {report.phase}."
    problem = NotHealthy(detail, retry_after_s=RETRY_AFTER_S, members={"phase": report.phase, "checks": report.checks})
    return problem_response(problem, instance=request.scope["path"])
