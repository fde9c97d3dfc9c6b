"""The HTTP application: the core's routes and the plugins', behind one guard, inside one wrapper."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import ControllerRouterHandler

from busbar.audit.routes import ROUTES as AUDIT
from busbar.auth.guards import access_middleware, auth_dependencies
from busbar.auth.routes import ROOT_ROUTES as IDENTITY_AT_ROOT
from busbar.auth.routes import ROUTES as IDENTITY
from busbar.connectors.routes import ROUTES as CONNECTORS
from busbar.events.routes import ROUTES as EVENTS
from busbar.host.loader import Plugin
from busbar.host.routes import ROUTES as PLUGINS
from busbar.imports.routes import ROUTES as IMPORTS
from busbar.routing.routes import ROUTES as ROUTING
from busbar.runtime import Platform
from busbar.sites.calendar_routes import CALENDAR_ROUTES
from busbar.sites.routes import ROUTES as SITES
from busbar.tickets.commands import apply_remote_change
from busbar.tickets.routes import ROUTES as TICKETS
from busbar.tickets.sla_routes import SLA_ROUTES
from busbar.web.access import ANYONE
from busbar.web.asgi import Edge
from busbar.web.idempotency import idempotency_middleware
from busbar.web.openapi import ProblemDocumentation, StructSchemas
from busbar.web.operations import operations_routes
from busbar.web.problems import EXCEPTION_HANDLERS
from busbar.web.validation import StrictRequest

API = "/api/v1"

_CORE: dict[str, Sequence[ControllerRouterHandler]] = {
    "Tickets": TICKETS,
    "Service levels": (*SLA_ROUTES, *CALENDAR_ROUTES),
    "Sites": SITES,
    "Identity": IDENTITY,
    "Events": EVENTS,
    "Routing": ROUTING,
    "Connectors": CONNECTORS,
    "Imports": IMPORTS,
    "Plugins": PLUGINS,
    "Audit": AUDIT,
}


def create_app(platform: Platform) -> Edge:
    """The ASGI application of a running platform."""
    return Edge(create_litestar(platform), lifecycle=platform.health.lifecycle)


def create_litestar(platform: Platform) -> Litestar:
    """The framework's part, without the wrapper; tests walk its routes.

    A plugin with routes that the framework refuses is quarantined; if the settings say `strict`, that is raised.
    """
    catalog = platform.catalog
    try:
        return _with_routes_of(platform, catalog.working)
    except Exception:
        # Which plugin it was comes out when each is tried alone; that costs time, so only now.
        refused = [plugin for plugin in catalog.working if not _can_be_served(platform, plugin)]
        if platform.settings.strict or not refused:
            raise
        catalog.quarantine_dependents()
        return _with_routes_of(platform, catalog.working)


def _can_be_served(platform: Platform, plugin: Plugin) -> bool:
    try:
        _with_routes_of(platform, [plugin])
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and the plugin put aside for it
        plugin.quarantine("load", f"The routes of the plugin {plugin.name} cannot be served: {error}")
        return False
    return True


def _with_routes_of(platform: Platform, plugins: Sequence[Plugin]) -> Litestar:
    routers: list[ControllerRouterHandler] = [
        Router(API, route_handlers=list(handlers), tags=[tag]) for tag, handlers in _CORE.items()
    ]
    for plugin in plugins:
        if plugin.routes and plugin.info is not None:
            routers.append(Router(f"{API}/{plugin.name}", route_handlers=list(plugin.routes), tags=[plugin.info.title]))
    return Litestar(
        route_handlers=[*routers, *IDENTITY_AT_ROOT, *operations_routes(platform.health)],
        dependencies=auth_dependencies(platform.auth),
        middleware=[access_middleware(platform.auth), idempotency_middleware(platform.clock)],
        exception_handlers=EXCEPTION_HANDLERS,
        request_class=StrictRequest,
        plugins=[StructSchemas(), ProblemDocumentation()],
        openapi_config=_openapi(),
        state=State(_state(platform)),
        # The wrapper limits bodies, by route where files are taken.
        request_max_body_size=None,
        logging_config=None,
    )


def _state(platform: Platform) -> dict[str, Any]:
    return {
        "platform": platform,
        "catalog": platform.catalog,
        "importers": platform.importers,
        "modules": platform.catalog.modules,
        "endpoints": platform.endpoints,
        "matcher": platform.routes,
        "stream": platform.stream,
        "settings": platform.settings,
        "apply_change": apply_remote_change,
    }


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Busbar",
        version=version("busbar"),
        summary="Operations and integration platform for electricity, water and gas utilities",
        # A router of its own, to declare that anyone may read the documents (SPEC R7.2).
        openapi_router=Router("/openapi", route_handlers=[], opt=ANYONE, include_in_schema=False),
        create_examples=False,
        components=Components(
            security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")}
        ),
        security=[{"bearer": []}],
        render_plugins=[SwaggerRenderPlugin()],
    )
