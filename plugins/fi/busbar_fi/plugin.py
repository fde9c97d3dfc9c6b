"""Finance, as the core sees it: what it declares."""

from collections.abc import Sequence
from importlib.metadata import version

from litestar.types import ControllerRouterHandler

from busbar.sdk import (
    EventType,
    Importer,
    Job,
    Permission,
    PluginInfo,
    RoleDefault,
    SchemaApp,
    Subscription,
    hookimpl,
)
from busbar_fi import costing, decisions, reminders, requisitions
from busbar_fi.events import EVENT_TYPES
from busbar_fi.importers import IMPORTERS
from busbar_fi.permissions import PERMISSIONS, ROLES
from busbar_fi.routes import ROUTES
from busbar_fi.tables import TABLES

MAINTENANCE = ("PM_TICKET_CREATED", "PM_COMPONENTS_CHANGED", "PM_TICKET_UPDATED", "PM_ORDER_COMPLETED")


@hookimpl
def busbar_plugin() -> PluginInfo:
    return PluginInfo(name="fi", title="Finance", version=version("busbar-fi"), core=">=0.1,<0.2", module=True)


@hookimpl
def busbar_schema() -> SchemaApp:
    return SchemaApp(name="fi", tables=TABLES, migrations="busbar_fi.migrations")


@hookimpl
def busbar_routes() -> Sequence[ControllerRouterHandler]:
    return ROUTES


@hookimpl
def busbar_permissions() -> Sequence[Permission]:
    return PERMISSIONS


@hookimpl
def busbar_roles() -> Sequence[RoleDefault]:
    return ROLES


@hookimpl
def busbar_event_types() -> Sequence[EventType]:
    return EVENT_TYPES


@hookimpl
def busbar_subscriptions() -> Sequence[Subscription]:
    # One for each kind of thing that is followed: what happens to it is handled in order.
    return (
        Subscription(name="fi.maintenance", module="fi", pattern=MAINTENANCE, handler=costing.follow_maintenance),
        Subscription(name="fi.stock", module="fi", pattern=("MM_STOCK_CHANGED",), handler=costing.post_stock_change),
        Subscription(
            name="fi.requisitions", module="fi", pattern=("MM_REQUISITION_*",), handler=requisitions.follow_requisition
        ),
        Subscription(
            name="fi.approval_follows_ticket",
            module="fi",
            pattern=("FI_TICKET_UPDATED",),
            handler=decisions.follow_ticket,
        ),
    )


@hookimpl
def busbar_jobs() -> Sequence[Job]:
    return (Job(name="fi.remind_approvers", module="fi", every_s=60, run=reminders.remind),)


@hookimpl
def busbar_importers() -> Sequence[Importer]:
    return IMPORTERS
