"""The HTTP side of plant maintenance, under /api/v1/pm."""

from busbar_pm.asset_routes import ROUTES as ASSET_ROUTES
from busbar_pm.failure_routes import ROUTES as FAILURE_ROUTES
from busbar_pm.incident_routes import ROUTES as INCIDENT_ROUTES
from busbar_pm.indices_routes import INDEX_ROUTES
from busbar_pm.order_routes import ROUTES as ORDER_ROUTES
from busbar_pm.plan_routes import ROUTES as PLAN_ROUTES

ROUTES = (*ASSET_ROUTES, *ORDER_ROUTES, *PLAN_ROUTES, *INCIDENT_ROUTES, *FAILURE_ROUTES, *INDEX_ROUTES)
