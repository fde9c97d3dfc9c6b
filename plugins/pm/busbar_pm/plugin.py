"""Plant maintenance, as the core sees it: what it declares."""

from collections.abc import Sequence
from importlib.metadata import version

from litestar.types import ControllerRouterHandler

from busbar.sdk import (
    DemoData,
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
from busbar_pm import seed
from busbar_pm.automation import JOBS, SUBSCRIPTIONS
from busbar_pm.events import EVENT_TYPES
from busbar_pm.importers import IMPORTERS
from busbar_pm.permissions import PERMISSIONS, ROLES
from busbar_pm.routes import ROUTES
from busbar_pm.tables import TABLES


@hookimpl
def busbar_plugin() -> PluginInfo:
    return PluginInfo(
        name="pm", title="Plant maintenance", version=version("busbar-pm"), core=">=0.1,<0.2", module=True
    )


@hookimpl
def busbar_schema() -> SchemaApp:
    return SchemaApp(name="pm", tables=TABLES, migrations="busbar_pm.migrations")


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
    return SUBSCRIPTIONS


@hookimpl
def busbar_jobs() -> Sequence[Job]:
    return JOBS


@hookimpl
def busbar_importers() -> Sequence[Importer]:
    return IMPORTERS


@hookimpl
def busbar_demo_data() -> DemoData:
    return seed.add_demo_data
