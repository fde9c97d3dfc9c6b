"""Finance, as the core sees it: what it declares."""

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
from busbar_fi import seed
from busbar_fi.events import EVENT_TYPES
from busbar_fi.importers import IMPORTERS
from busbar_fi.permissions import PERMISSIONS, ROLES
from busbar_fi.routes import ROUTES
from busbar_fi.subscriptions import JOBS, SUBSCRIPTIONS
from busbar_fi.tables import TABLES


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
