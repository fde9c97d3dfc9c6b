"""Everything the core asks of a plugin, one hook each; all but `busbar_plugin` may be left out.

A plugin is a module named by the entry point group `busbar.plugins`. Hooks only declare: they are plain functions
without arguments, called once at start, and what they return may be asynchronous.
"""

from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pluggy
from litestar.types import ControllerRouterHandler

from busbar.auth.actor import Context
from busbar.auth.permissions import Permission, RoleDefault
from busbar.bus.jobs import Job
from busbar.connectors.contract import Connector
from busbar.db.migrations import SchemaApp
from busbar.events.registry import EventType
from busbar.events.subscriptions import Subscription
from busbar.imports.contract import Importer

hookspec = pluggy.HookspecMarker("busbar")
hookimpl = pluggy.HookimplMarker("busbar")
"""The decorator of a plugin's hooks."""

DemoData = Callable[[Context], Awaitable[None]]
"""What `busbar_demo_data` returns: called with a context that may do everything, again and again: what others made of
its events by then is there the next time, to be gone on with."""


class PluginInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Who a plugin is."""

    name: str
    """Its one word: lower-case letters, digits and underscores; schema, address, permission and routing prefix."""
    title: str
    version: str
    core: str
    """Versions of the core it works with, as a PEP 440 specifier: `>=0.1,<0.2`."""
    module: bool = False
    """Whether it is a business module, which is enabled per site."""
    depends_on: tuple[str, ...] = ()
    """Words of the plugins that must be there."""


@hookspec
def busbar_plugin() -> PluginInfo:
    """Who the plugin is: its one word, its title, the core versions it works with, the plugins it needs."""


@hookspec
def busbar_schema() -> SchemaApp:
    """Its Piccolo tables and the package of its SQL migrations. The PostgreSQL schema is named by the plugin's word."""


@hookspec
def busbar_routes() -> Sequence[ControllerRouterHandler]:
    """Its Litestar handlers, served under `/api/v1/<word>`; each declares who may call it with `opt=needs(…)`."""


@hookspec
def busbar_permissions() -> Sequence[Permission]:
    """The permissions it declares, each named with its prefix, as in `pm.read`."""


@hookspec
def busbar_roles() -> Sequence[RoleDefault]:
    """The roles that have its permissions from the start; an administrator may change them."""


@hookspec
def busbar_event_types() -> Sequence[EventType]:
    """The events it tells of: names with its prefix, each with a documented Struct."""


@hookspec
def busbar_subscriptions() -> Sequence[Subscription]:
    """The events it reacts to. A handler runs in the transaction that marks the delivery as done."""


@hookspec
def busbar_jobs() -> Sequence[Job]:
    """What it does by the clock, such as opening the orders that fall due; each in one process at a time."""


@hookspec
def busbar_connectors() -> Sequence[Connector]:
    """The kinds of remote system that it can deliver to and hear from."""


@hookspec
def busbar_importers() -> Sequence[Importer]:
    """The kinds of file that it can load in bulk."""


@hookspec
def busbar_demo_data() -> DemoData:
    """A function that adds its demo data; it is called more than once, and adds nothing that is there."""
