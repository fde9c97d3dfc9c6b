"""Finds the plugins, checks what they declare, and puts the faulty ones aside."""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import entry_points, version
from types import ModuleType
from typing import Any

import pluggy
import structlog
from litestar.handlers import HTTPRouteHandler
from litestar.types import ControllerRouterHandler
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from busbar import hookspecs
from busbar.auth.permissions import Permission, RoleDefault
from busbar.connectors.contract import Connector
from busbar.db.migrations import SchemaApp
from busbar.errors import BusbarError
from busbar.events.registry import EventType
from busbar.events.subscriptions import Subscription
from busbar.hookspecs import DemoData, PluginInfo
from busbar.imports.contract import Importer
from busbar.web.access import declared_access

log = structlog.get_logger()

GROUP = "busbar.plugins"


class PluginRefused(BusbarError):
    """A plugin is not loaded; the detail names the plugin, what is wrong, and the cure."""


@dataclass(kw_only=True)
class Plugin:
    """A plugin and what it declares; `fault` says why it is quarantined, if it is."""

    name: str
    info: PluginInfo | None = None
    schema: SchemaApp | None = None
    routes: Sequence[ControllerRouterHandler] = ()
    permissions: Sequence[Permission] = ()
    roles: Sequence[RoleDefault] = ()
    event_types: Sequence[EventType] = ()
    subscriptions: Sequence[Subscription] = ()
    connectors: Sequence[Connector] = ()
    importers: Sequence[Importer] = ()
    demo_data: DemoData | None = None
    stage: str | None = None
    """Where it failed: import, load, migration, start or run."""
    fault: str | None = None
    needs: tuple[str, ...] = field(default=())

    def quarantine(self, stage: str, fault: str) -> None:
        """Put the plugin aside; its deliveries wait, everything else goes on."""
        if self.fault is None:
            self.stage, self.fault = stage, fault
            log.error("plugin_quarantined", plugin=self.name, stage=stage, fault=fault)


def installed() -> list[tuple[str, Callable[[], ModuleType]]]:
    """The installed plugins by their entry point: name, and the function that imports the module."""
    found = {point.name: point.load for point in entry_points(group=GROUP)}
    return sorted(found.items())


def load(sources: Iterable[tuple[str, Callable[[], ModuleType]]]) -> list[Plugin]:
    """Import the plugins and read what they declare; each after those it depends on, then by name.

    A plugin with a fault is returned quarantined. Nothing is registered anywhere yet.
    """
    manager = pluggy.PluginManager("busbar")
    manager.add_hookspecs(hookspecs)
    plugins = [_load_one(manager, name, importer) for name, importer in sources]
    return _in_order(plugins)


def _load_one(manager: pluggy.PluginManager, name: str, importer: Callable[[], ModuleType]) -> Plugin:
    plugin = Plugin(name=name)
    try:
        module = importer()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        # SystemExit too: a plugin does not end the core.
        plugin.quarantine("import", f"The plugin {name} cannot be imported: {error!r}")
        return plugin
    try:
        _register(manager, name, module)
        _read_declarations(manager, plugin, module)
    except PluginRefused as refused:
        plugin.quarantine("load", refused.detail)
    except Exception as error:
        log.exception("plugin_load_failed", plugin=name)
        plugin.quarantine("load", f"The plugin {name} failed while it declared what it brings: {error!r}")
    return plugin


def _register(manager: pluggy.PluginManager, name: str, module: ModuleType) -> None:
    known = [hook for hook in vars(hookspecs) if hook.startswith("busbar_")]
    for attribute, value in vars(module).items():
        marked = getattr(value, "busbar_impl", None) is not None
        if not marked:
            continue
        if attribute not in known:
            raise PluginRefused(f"The plugin {name} implements {attribute}, which is not a hook; is it misspelt?")
        if inspect.iscoroutinefunction(value):
            raise PluginRefused(f"The hook {attribute} of the plugin {name} must be a plain function, not async.")
        if inspect.signature(value).parameters:
            raise PluginRefused(f"The hook {attribute} of the plugin {name} takes arguments; hooks have none.")
    manager.register(module, name=name)
    manager.check_pending()


def _read_declarations(manager: pluggy.PluginManager, plugin: Plugin, module: ModuleType) -> None:
    def ask(hook: str) -> Any:
        others = [other for other in manager.get_plugins() if other is not module]
        answers = manager.subset_hook_caller(hook, remove_plugins=others)()
        return answers[0] if answers else None

    info = ask("busbar_plugin")
    if not isinstance(info, PluginInfo):
        raise PluginRefused(f"The plugin {plugin.name} must implement busbar_plugin and return a PluginInfo.")
    plugin.info, plugin.needs = info, info.depends_on
    _check_info(plugin.name, info)
    plugin.schema = ask("busbar_schema")
    plugin.routes = tuple(ask("busbar_routes") or ())
    plugin.permissions = tuple(ask("busbar_permissions") or ())
    plugin.roles = tuple(ask("busbar_roles") or ())
    plugin.event_types = tuple(ask("busbar_event_types") or ())
    plugin.subscriptions = tuple(ask("busbar_subscriptions") or ())
    plugin.connectors = tuple(ask("busbar_connectors") or ())
    plugin.importers = tuple(ask("busbar_importers") or ())
    plugin.demo_data = ask("busbar_demo_data")
    _check_declarations(plugin)


def _check_info(name: str, info: PluginInfo) -> None:
    if info.name != name:
        raise PluginRefused(f"The plugin's entry point is called {name}, but it calls itself {info.name}.")
    if not re.fullmatch(r"[a-z][a-z0-9_]{1,30}", name) or name == "core":
        raise PluginRefused(f"The plugin's name {name} must be one word of lower-case letters, digits, underscores.")
    try:
        wanted = SpecifierSet(info.core)
    except InvalidSpecifier:
        raise PluginRefused(
            f"The plugin {name} gives {info.core!r} as core versions; write it as >=0.1,<0.2."
        ) from None
    ours = version("busbar")
    if ours not in wanted:
        raise PluginRefused(f"The plugin {name} works with Busbar {info.core}; this is {ours}. Update one of them.")


def _check_declarations(plugin: Plugin) -> None:
    name = plugin.name
    if plugin.schema is not None and plugin.schema.name != name:
        raise PluginRefused(f"The schema of the plugin {name} must be called {name}, not {plugin.schema.name}.")
    for permission in plugin.permissions:
        if not permission.name.startswith(f"{name}."):
            raise PluginRefused(f"The permission {permission.name} of the plugin {name} must start with {name}.")
    for event_type in plugin.event_types:
        if event_type.module != name:
            raise PluginRefused(f"The event {event_type.name} must belong to the plugin {name} that declares it.")
    for kind, items in (("subscription", plugin.subscriptions), ("importer", plugin.importers)):
        for item in items:
            if not item.name.startswith(f"{name}."):
                raise PluginRefused(f"The {kind} {item.name} of the plugin {name} must start with {name}.")
    seen: set[tuple[str, str]] = set()
    for handler in plugin.routes:
        if not isinstance(handler, HTTPRouteHandler):
            raise PluginRefused(f"The routes of the plugin {name} must be Litestar HTTP handlers, one by one.")
        if declared_access(handler) is None:
            raise PluginRefused(f"A route of the plugin {name} ({handler}) must declare who may call it: opt=needs(…).")
        for path in handler.paths:
            for method in handler.http_methods:
                if (path, method) in seen:
                    raise PluginRefused(f"The plugin {name} declares {method} {path} twice.")
                seen.add((path, method))


def _in_order(plugins: Sequence[Plugin]) -> list[Plugin]:
    by_name = {plugin.name: plugin for plugin in plugins}
    for plugin in plugins:
        for needed in plugin.needs:
            if needed not in by_name:
                plugin.quarantine("load", f"The plugin {plugin.name} needs {needed}, which is not installed.")
    sorter = TopologicalSorter({plugin.name: [n for n in plugin.needs if n in by_name] for plugin in plugins})
    try:
        sorter.prepare()
    except CycleError as error:
        names = error.args[1]
        for name in names:
            by_name[name].quarantine("load", f"The plugins {', '.join(names)} depend on each other in a circle.")
        return sorted(plugins, key=lambda plugin: plugin.name)
    ordered: list[Plugin] = []
    while sorter.is_active():
        for name in sorted(sorter.get_ready()):
            ordered.append(by_name[name])
            sorter.done(name)
    for plugin in ordered:
        for needed in plugin.needs:
            if needed in by_name and by_name[needed].fault:
                plugin.quarantine("load", f"The plugin {plugin.name} needs {needed}, which is quarantined.")
    return ordered
