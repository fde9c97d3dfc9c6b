"""The plugins of the running installation: what they declare together, and which are quarantined."""

from collections.abc import Iterator, Sequence

from busbar.events.registry import EventRegistry, EventTypeRefused
from busbar.host.loader import Plugin, quarantine_dependents
from busbar.tickets.sla_alerts import event_types_of


class Catalog:
    """All plugins, in the order in which they were loaded."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self._plugins = {plugin.name: plugin for plugin in plugins}

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self._plugins.values())

    def get(self, name: str) -> Plugin | None:
        """The plugin of that name."""
        return self._plugins.get(name)

    @property
    def working(self) -> list[Plugin]:
        """The plugins that are not quarantined."""
        return [plugin for plugin in self._plugins.values() if plugin.fault is None]

    @property
    def modules(self) -> list[str]:
        """The names of the business modules, quarantined or not."""
        return [plugin.name for plugin in self if plugin.info is not None and plugin.info.module]

    def quarantined(self, name: str) -> bool:
        """Whether the plugin is put aside; an unknown one is not."""
        plugin = self._plugins.get(name)
        return plugin is not None and plugin.fault is not None

    def quarantine_dependents(self) -> None:
        """Put aside every plugin that needs one which is."""
        quarantine_dependents(list(self))

    def register_event_types(self, registry: EventRegistry) -> None:
        """Make the event types of the working plugins known; a plugin with a bad one is quarantined.

        The alerts about service levels come by themselves with every business module.
        """
        for plugin in self.working:
            of_core = event_types_of(plugin.name) if plugin.info is not None and plugin.info.module else ()
            try:
                for event_type in (*plugin.event_types, *of_core):
                    if event_type.name not in registry or registry.get(event_type.name) != event_type:
                        registry.register(event_type)
            except EventTypeRefused as refused:
                plugin.quarantine("load", refused.detail)
