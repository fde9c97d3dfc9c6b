"""`busbar reference`: writes the reference pages from the code, or tells where they and the code disagree."""

import sys
from pathlib import Path

from busbar.cli import reference_pages as pages
from busbar.cli.console import people
from busbar.cli.reference_sdk import sdk_page
from busbar.cli.session import plugins
from busbar.events.compatibility import incompatibilities, not_published, publish_schemas
from busbar.events.registry import EventRegistry
from busbar.host.catalog import Catalog
from busbar.host.loader import Plugin, PluginRefused

SCHEMAS = "events"
"""Folder of the published event schemas, beside the pages."""


def run_reference(folder: Path, *, check: bool) -> None:
    """Write the pages and the event schemas to `folder`.

    With `check` nothing is written: each difference is told in a sentence, and the command ends with 1 if there is one.

    Raises:
        PluginRefused: an installed plugin is quarantined, so that the pages would lack what it declares.
        Incompatible: a published event was changed in a way that its consumers cannot follow.
    """
    loaded = plugins()
    registry = _registry(loaded)
    if check:
        if sentences := differences(folder, loaded, registry):
            for sentence in sentences:
                people.print(sentence, markup=False)
            sys.exit(1)
        return
    written = [path.name for path in publish_schemas(registry, folder / SCHEMAS)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in rendered(loaded, registry).items():
        path = folder / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            written.append(name)
    people.print(f"Written: {', '.join(written)}." if written else "The reference is up to date.", markup=False)


def rendered(loaded: list[Plugin], registry: EventRegistry) -> dict[str, str]:
    """Every page by its file name; the same code gives the same text, byte for byte."""
    return {
        "README.md": pages.index_page(),
        "settings.md": pages.settings_page(loaded),
        "hooks.md": pages.hooks_page(),
        "events.md": pages.events_page(registry),
        "permissions.md": pages.permissions_page(loaded),
        "errors.md": pages.errors_page(),
        "commands.md": pages.commands_page(),
        "sdk.md": sdk_page(),
    }


def differences(folder: Path, loaded: list[Plugin], registry: EventRegistry) -> list[str]:
    """One sentence for each page or schema that is not what the code says; best none."""
    sentences = incompatibilities(registry, folder / SCHEMAS)
    for name, text in rendered(loaded, registry).items():
        path = folder / name
        if not path.exists():
            sentences.append(f"{path} is not written yet; run make docs.")
        elif path.read_text("utf-8") != text:
            sentences.append(f"{path} is not what the code says; run make docs.")
    sentences += [f"{sentence} Run make docs." for sentence in not_published(registry, folder / SCHEMAS)]
    return sentences


def _registry(loaded: list[Plugin]) -> EventRegistry:
    registry = EventRegistry()
    Catalog(loaded).register_event_types(registry)
    if faults := [plugin.fault for plugin in loaded if plugin.fault is not None]:
        raise PluginRefused(" ".join(faults))
    return registry
