"""The HTTP side of the plugin host: which plugins there are, and why one does not work."""

import msgspec
from litestar import get
from litestar.datastructures import State

from busbar.events import standing_orders
from busbar.events.standing_orders import Suspended
from busbar.host.loader import Plugin
from busbar.sites.directory import DIRECTORY
from busbar.web.access import needs


class PluginView(msgspec.Struct, frozen=True, kw_only=True):
    """A plugin."""

    name: str
    title: str | None
    version: str | None
    core: str | None
    """Versions of the core it works with."""
    module: bool
    """Whether it is a business module, enabled per site."""
    depends_on: tuple[str, ...]
    state: str
    """`working`; `quarantined` when it was put aside; `failing` when handlers of its fail with everything."""
    stage: str | None
    """Where it failed: import, load, migration, start or run."""
    fault: str | None
    """What is wrong with it, in a sentence."""
    suspended: tuple[Suspended, ...]
    """Its subscriptions whose deliveries wait, because the handler fails with everything."""
    sites: tuple[str, ...]
    """Sites at which the module is enabled."""
    event_types: tuple[str, ...]
    subscriptions: tuple[str, ...]
    connectors: tuple[str, ...]
    importers: tuple[str, ...]


@get("/plugins", opt=needs("plugins.read"))
async def list_plugins(state: State) -> tuple[PluginView, ...]:
    """List the installed plugins, in the order in which they are loaded."""
    suspended = await standing_orders.suspended()
    return tuple(
        _view(plugin, tuple(each for each in suspended if each.module == plugin.name)) for plugin in state.catalog
    )


def _view(plugin: Plugin, suspended: tuple[Suspended, ...]) -> PluginView:
    state, stage, fault = "working", plugin.stage, plugin.fault
    if fault is not None:
        state = "quarantined"
    elif suspended:
        state, stage = "failing", "run"
        fault = " ".join(f"{each.name} fails with every event it is given: {each.detail}." for each in suspended)
    return PluginView(
        name=plugin.name,
        title=plugin.info.title if plugin.info else None,
        version=plugin.info.version if plugin.info else None,
        core=plugin.info.core if plugin.info else None,
        module=bool(plugin.info and plugin.info.module),
        depends_on=plugin.needs,
        state=state,
        stage=stage,
        fault=fault,
        suspended=suspended,
        sites=tuple(DIRECTORY.sites_with(plugin.name)),
        event_types=tuple(event_type.name for event_type in plugin.event_types),
        subscriptions=tuple(subscription.name for subscription in plugin.subscriptions),
        connectors=tuple(connector.kind for connector in plugin.connectors),
        importers=tuple(importer.name for importer in plugin.importers),
    )


ROUTES = (list_plugins,)
