"""Materials management, as the core sees it: what it declares."""

from collections.abc import Sequence
from importlib.metadata import version

from litestar.types import ControllerRouterHandler

from busbar.sdk import (
    DemoData,
    EventType,
    Importer,
    Permission,
    PluginInfo,
    RoleDefault,
    SchemaApp,
    Subscription,
    hookimpl,
)
from busbar_mm import approvals, requisitions, reservations, seed
from busbar_mm.count_routes import COUNT_ROUTES
from busbar_mm.events import EVENT_TYPES
from busbar_mm.importers import IMPORTERS
from busbar_mm.permissions import PERMISSIONS, ROLES
from busbar_mm.requisition_routes import REQUISITION_ROUTES
from busbar_mm.routes import ROUTES
from busbar_mm.tables import TABLES


@hookimpl
def busbar_plugin() -> PluginInfo:
    return PluginInfo(
        name="mm", title="Materials management", version=version("busbar-mm"), core=">=0.1,<0.2", module=True
    )


@hookimpl
def busbar_schema() -> SchemaApp:
    return SchemaApp(name="mm", tables=TABLES, migrations="busbar_mm.migrations")


@hookimpl
def busbar_routes() -> Sequence[ControllerRouterHandler]:
    return (*ROUTES, *REQUISITION_ROUTES, *COUNT_ROUTES)


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
    follow = (
        ("mm.requisition_follows_ticket", ("MM_TICKET_UPDATED",), requisitions.follow_ticket),
        ("mm.requisition_follows_approval", ("FI_APPROVAL_COMPLETED",), approvals.follow_approval),
        ("mm.reservations_follow_order", reservations.FOLLOWED, reservations.follow_order),
    )
    return [Subscription(name=name, module="mm", pattern=events, handler=call) for name, events, call in follow]


@hookimpl
def busbar_importers() -> Sequence[Importer]:
    return IMPORTERS


@hookimpl
def busbar_demo_data() -> DemoData:
    return seed.add_demo_data
