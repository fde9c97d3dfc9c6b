"""Commands that print documents and lists."""

import sys
from importlib.metadata import version

import msgspec
from rich.table import Table

from busbar.cli.console import people
from busbar.cli.session import plugins, run
from busbar.events.asyncapi import asyncapi_document
from busbar.events.registry import REGISTRY
from busbar.host.catalog import Catalog
from busbar.imports import users
from busbar.runtime import Platform


def print_openapi() -> None:
    """The OpenAPI document, as JSON."""
    from busbar.app import create_litestar

    async def work(running: Platform) -> bytes:
        return msgspec.json.encode(create_litestar(running).openapi_schema.to_schema())

    _print_json(run(work))


def print_asyncapi() -> None:
    """The AsyncAPI document, as JSON."""
    Catalog(plugins()).register_event_types(REGISTRY)
    _print_json(msgspec.json.encode(asyncapi_document(REGISTRY, version("busbar"))))


def list_plugins() -> None:
    """Show the plugins."""
    table = Table("plugin", "title", "version", "state", "what is wrong")
    for plugin in plugins():
        info = plugin.info
        state = "quarantined" if plugin.fault else "working"
        table.add_row(plugin.name, info.title if info else "", info.version if info else "", state, plugin.fault or "")
    people.print(table)


def list_importers() -> None:
    """Show the importers."""
    table = Table("importer", "what it loads", "needs")
    table.add_row(users.NAME, users.TITLE, users.PERMISSION)
    for plugin in plugins():
        for importer in plugin.importers:
            table.add_row(importer.name, importer.title, importer.permission)
    people.print(table)


def _print_json(document: bytes) -> None:
    sys.stdout.write(msgspec.json.format(document, indent=2).decode() + "\n")
