"""A plugin under test against a real database: its schema beside the core's, its events known, sites to act at."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from busbar.auth.actor import Actor, Context
from busbar.db import execute
from busbar.db.migrations import SchemaApp
from busbar.events.registry import REGISTRY
from busbar.host.catalog import Catalog
from busbar.host.loader import Plugin, load
from busbar.imports.commands import run_import
from busbar.imports.contract import ALL_OR_NOTHING, Importer, ImportRun, Mode
from busbar.imports.mapping import Mapping
from busbar.imports.report import ImportReport
from busbar.kit.clock import Clock, utc_now
from busbar.kit.ids import uuid7
from busbar.schema.core import CORE
from busbar.schema.drift import drift
from busbar.sites.directory import DIRECTORY
from busbar.tickets.sla_terms import TERMS


def load_plugin(module: ModuleType, *, name: str) -> Plugin:
    """The plugin that `module` declares, with its event types known to this process.

    Raises:
        AssertionError: the loader refuses it; the sentence says why.
    """
    (plugin,) = load([(name, lambda: module)])
    Catalog([plugin]).register_event_types(REGISTRY)
    assert plugin.fault is None, plugin.fault
    return plugin


def schema_with(*plugins: Plugin) -> Sequence[SchemaApp]:
    """What the fixture `schema_apps` returns for tests of these plugins: the core's schema and theirs."""
    return (CORE, *(plugin.schema for plugin in plugins if plugin.schema is not None))


async def add_site(site_id: str, *modules: str) -> None:
    """Make a site at which the modules are enabled, or enable exactly these at one that there is."""
    await execute(
        "insert into core.site (site_id, name, created_at) values ($1, $2, now()) on conflict do nothing",
        site_id,
        site_id.capitalize(),
    )
    await execute("delete from core.site_module where site_id = $1", site_id)
    for module in modules:
        await execute("insert into core.site_module (site_id, module, enabled) values ($1, $2, true)", site_id, module)
    await DIRECTORY.refresh()
    await TERMS.refresh(utc_now)


def context_of(username: str, *, permissions: Sequence[str], sites: Sequence[str], clock: Clock = utc_now) -> Context:
    """A context in which somebody with these permissions acts at these sites."""
    return Context(
        actor=Actor(
            user_id=f"user-{username}", username=username, permissions=frozenset(permissions), sites=tuple(sites)
        ),
        correlation_id=f"test-{uuid7()}",
        clock=clock,
    )


async def import_file(
    ctx: Context,
    importer: Importer,
    path: Path,
    *,
    site_id: str,
    mode: Mode = ALL_OR_NOTHING,
    mapping: Mapping | None = None,
) -> ImportReport:
    """Run an import as the platform does, and wait for its report."""
    return await run_import(ctx, importer, ImportRun(ctx=ctx, path=path, site_id=site_id, mode=mode, mapping=mapping))


async def drift_of(plugin: Plugin) -> list[str]:
    """One sentence for each column or constraint on which the plugin's tables and its migrated schema disagree."""
    assert plugin.schema is not None, f"the plugin {plugin.name} has no schema"
    return await drift(plugin.schema)
