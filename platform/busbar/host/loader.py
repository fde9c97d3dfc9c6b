"""Finds the plugins, checks what they declare, and puts the faulty ones aside."""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import entry_points, version
from types import ModuleType
from typing import Any, Final

import pluggy
import structlog
from litestar.handlers import HTTPRouteHandler
from litestar.types import ControllerRouterHandler
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from prometheus_client import Gauge

from busbar import hookspecs
from busbar.auth.permissions import CORE_PERMISSIONS, Permission, RoleDefault
from busbar.bus.jobs import Job
from busbar.connectors.contract import Connector
from busbar.db.migrations import SchemaApp
from busbar.errors import BusbarError
from busbar.events.registry import EventType
from busbar.events.subscriptions import Subscription
from busbar.hookspecs import DemoData, PluginInfo
from busbar.imports.contract import Importer
from busbar.observability.metrics import registry
from busbar.web.access import declared_access

log = structlog.get_logger()

GROUP = "busbar.plugins"
RESERVED = frozenset(
    {
        "audit",
        "auth",
        "connectors",
        "core",
        "deliveries",
        "endpoints",
        "events",
        "health",
        "importers",
        "imports",
        "inbound",
        "metrics",
        "openapi",
        "permissions",
        "plugins",
        "roles",
        "routes",
        "sites",
        "system",
        "tickets",
        "ui",
        "users",
    }
)
"""Names that no plugin can have, for the core has an address or a schema of that name."""

quarantined: Final = Gauge(
    "busbar_plugin_quarantined", "1 when this process has put the plugin aside, else 0.", ["plugin"], registry=registry
)


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
    jobs: Sequence[Job] = ()
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
            quarantined.labels(self.name).set(1)
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
    quarantined.labels(name).set(0)
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
        if getattr(value, "busbar_impl", None) is None:
            if attribute.startswith("busbar_") and inspect.isfunction(value):
                raise PluginRefused(
                    f"The function {attribute} of the plugin {name} lacks @hookimpl; it is no hook yet."
                )
            continue
        if attribute not in known:
            meant = difflib.get_close_matches(attribute, known, n=1)
            cure = f"did you mean {meant[0]}?" if meant else f"the hooks are {', '.join(sorted(known))}."
            raise PluginRefused(f"The plugin {name} implements {attribute}, which is not a hook; {cure}")
        if inspect.iscoroutinefunction(value):
            raise PluginRefused(
                f"The hook {attribute} of the plugin {name} must be a plain function: write def, not async def."
            )
        if inspect.signature(value).parameters:
            raise PluginRefused(f"The hook {attribute} of the plugin {name} takes arguments; take them away.")
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
    plugin.jobs = tuple(ask("busbar_jobs") or ())
    plugin.connectors = tuple(ask("busbar_connectors") or ())
    plugin.importers = tuple(ask("busbar_importers") or ())
    plugin.demo_data = ask("busbar_demo_data")
    _check_declarations(plugin)


def _check_info(name: str, info: PluginInfo) -> None:
    if info.name != name:
        raise PluginRefused(f"The plugin's entry point is called {name}, but it calls itself {info.name}.")
    if not re.fullmatch(r"[a-z][a-z0-9_]{1,30}", name) or name in RESERVED:
        raise PluginRefused(
            f"The plugin's name {name} must be one word of lower-case letters, digits and underscores that the core "
            "does not use itself."
        )
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
    if plugin.schema is not None:
        _check_schema(plugin, plugin.schema)
    for permission in plugin.permissions:
        if not permission.name.startswith(f"{name}."):
            raise PluginRefused(f"The permission {permission.name} of the plugin {name} must start with {name}.")
    for event_type in plugin.event_types:
        if event_type.module != name:
            raise PluginRefused(f"The event {event_type.name} must belong to the plugin {name} that declares it.")
    for kind, items in (("subscription", plugin.subscriptions), ("job", plugin.jobs), ("importer", plugin.importers)):
        for item in items:
            if not item.name.startswith(f"{name}."):
                raise PluginRefused(f"The {kind} {item.name} of the plugin {name} must start with {name}.")
    for kind, items in (("subscription", plugin.subscriptions), ("job", plugin.jobs)):
        for item in items:
            if item.module != name:
                raise PluginRefused(f"The {kind} {item.name} must name {name} as its module.")
    for importer in plugin.importers:
        _check_permission(plugin, f"The importer {importer.name}", importer.permission)
    _check_routes(plugin)


def _check_schema(plugin: Plugin, schema: SchemaApp) -> None:
    if schema.name != plugin.name:
        raise PluginRefused(f"The schema of the plugin {plugin.name} must be called {plugin.name}, not {schema.name}.")
    for needed in schema.depends_on:
        if needed != "core" and needed not in plugin.needs:
            raise PluginRefused(f"The schema of the plugin {plugin.name} needs {needed}; name it in depends_on, too.")


def _check_routes(plugin: Plugin) -> None:
    name = plugin.name
    seen: set[tuple[str, str]] = set()
    for handler in plugin.routes:
        if not isinstance(handler, HTTPRouteHandler):
            raise PluginRefused(f"The routes of the plugin {name} must be Litestar HTTP handlers, one by one.")
        access = declared_access(handler)
        if access is None:
            raise PluginRefused(f"A route of the plugin {name} ({handler}) must declare who may call it: opt=needs(…).")
        if not access.startswith("*"):
            _check_permission(plugin, f"A route ({handler})", access)
        for path in handler.paths:
            for method in handler.http_methods:
                # Two addresses that differ in the names of their parameters only are the same one.
                address = re.sub(r"\{[^:}]*", "{", path)
                if (address, method) in seen:
                    raise PluginRefused(f"The plugin {name} declares {method} {path} twice; take one away.")
                seen.add((address, method))


def _check_permission(plugin: Plugin, what: str, permission: str) -> None:
    known = {each.name for each in (*CORE_PERMISSIONS, *plugin.permissions)}
    of_others = permission.partition(".")[0] in plugin.needs
    if permission not in known and not of_others:
        raise PluginRefused(
            f"{what} of the plugin {plugin.name} needs the permission {permission}, which it does not declare; add it "
            "to busbar_permissions."
        )


def _in_order(plugins: Sequence[Plugin]) -> list[Plugin]:
    by_name = {plugin.name: plugin for plugin in plugins}
    for plugin in plugins:
        for needed in plugin.needs:
            if needed not in by_name:
                plugin.quarantine("load", f"The plugin {plugin.name} needs {needed}, which is not installed.")
    needs = {plugin.name: [name for name in plugin.needs if name in by_name] for plugin in plugins}
    while circle := _circle(needs):
        for name in circle:
            by_name[name].quarantine(
                "load", f"The plugins {', '.join(circle)} need each other in a circle; take one need away."
            )
            needs[name] = []
    ordered: list[Plugin] = []
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    ready: list[str] = []
    while sorter.is_active():
        # One at a time, so that the name decides among all that could be next.
        ready = sorted([*ready, *sorter.get_ready()])
        name = ready.pop(0)
        ordered.append(by_name[name])
        sorter.done(name)
    quarantine_dependents(ordered)
    return ordered


def quarantine_dependents(ordered: Iterable[Plugin]) -> None:
    """Put aside every plugin that needs one which is; each comes after those that it needs."""
    put_aside: set[str] = set()
    for plugin in ordered:
        for needed in plugin.needs:
            if needed in put_aside:
                plugin.quarantine("load", f"The plugin {plugin.name} needs {needed}, which is quarantined.")
        if plugin.fault is not None:
            put_aside.add(plugin.name)


def _circle(needs: Mapping[str, Sequence[str]]) -> list[str]:
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return sorted(set(error.args[1]))
    return []
