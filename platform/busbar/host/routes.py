"""The HTTP side of the plugin host: which plugins there are, and why one does not work."""

import msgspec
from litestar import get
from litestar.datastructures import State

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
    """`working` or `quarantined`."""
    stage: str | None
    """Where it failed: import, load, migration, start or run."""
    fault: str | None
    """Why it is quarantined, in a sentence."""
    sites: tuple[str, ...]
    """Sites at which the module is enabled."""
    event_types: tuple[str, ...]
    subscriptions: tuple[str, ...]
    connectors: tuple[str, ...]
    importers: tuple[str, ...]


@get("/plugins", opt=needs("plugins.read"))
async def list_plugins(state: State) -> tuple[PluginView, ...]:
    """List the installed plugins, in the order in which they are loaded."""
    return tuple(
        PluginView(
            name=plugin.name,
            title=plugin.info.title if plugin.info else None,
            version=plugin.info.version if plugin.info else None,
            core=plugin.info.core if plugin.info else None,
            module=bool(plugin.info and plugin.info.module),
            depends_on=plugin.needs,
            state="quarantined" if plugin.fault else "working",
            stage=plugin.stage,
            fault=plugin.fault,
            sites=tuple(DIRECTORY.sites_with(plugin.name)),
            event_types=tuple(event_type.name for event_type in plugin.event_types),
            subscriptions=tuple(subscription.name for subscription in plugin.subscriptions),
            connectors=tuple(connector.kind for connector in plugin.connectors),
            importers=tuple(importer.name for importer in plugin.importers),
        )
        for plugin in state.catalog
    )


ROUTES = (list_plugins,)
