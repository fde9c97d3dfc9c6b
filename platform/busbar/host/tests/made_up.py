"""Plugins that exist only in these tests, and a module `acme` that notes in a table of its own what it was told."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler

from busbar.auth.actor import Context
from busbar.auth.permissions import Permission
from busbar.db import execute, transaction
from busbar.db.migrations import SchemaApp
from busbar.events.envelope import StoredEvent
from busbar.events.outbox import publish
from busbar.events.registry import EventType
from busbar.events.subscriptions import Subscription
from busbar.hookspecs import PluginInfo, hookimpl
from busbar.host.loader import Plugin, load
from busbar.web.access import needs

Source = tuple[str, Callable[[], ModuleType]]


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened at a made-up plugin."""

    n: int


def source(name: str, /, *functions: Any, info: dict[str, Any] | None = None, **hooks: Any) -> Source:
    """An entry point: `hooks` are the hooks' answers by name without `busbar_`, `functions` further members."""
    answers = {"plugin": PluginInfo(**{"name": name, "title": name, "version": "1", "core": ">=0", **(info or {})})}
    answers.update(hooks)
    module = ModuleType(f"made_up_{name}")
    for hook, answer in answers.items():
        setattr(module, f"busbar_{hook}", hookimpl(_giving(answer)))
    for function in functions:
        setattr(module, function.__name__, function)
    return name, lambda: module


def failing(name: str, error: BaseException) -> Source:
    """An entry point whose module cannot be imported."""

    def fail() -> ModuleType:
        raise error

    return name, fail


def only(plugin: Source) -> Plugin:
    """What becomes of this one plugin."""
    (loaded,) = load([plugin])
    return loaded


def route(path: str = "/things", opt: dict[str, Any] | None = None) -> HTTPRouteHandler:
    """A GET that answers `fine`."""

    @get(path, opt=needs("plugins.read") if opt is None else opt)
    async def fine() -> str:
        return "fine"

    return fine


def event_of(name: str) -> EventType:
    return EventType(name=f"{name.upper()}_HAPPENED", module=name, data=Happened)


def subscription(name: str, *, pattern: str = "ACME_HAPPENED", called: str | None = None) -> Subscription:
    """Counts in `core.site` names what it was told: the plugin needs no table, and the effect can be seen in SQL."""

    async def count(ctx: Context, event: StoredEvent) -> None:
        await execute("update core.site set name = name || ' ' || $1 where site_id = $2", f"{name}!", event.site_id)

    return Subscription(name=called or f"{name}.count", module=name, pattern=(pattern,), handler=count)


def module_plugin(name: str, **hooks: Any) -> Source:
    """A business module with an event, a subscription to ACME_HAPPENED, a permission and a route."""
    declared: dict[str, Any] = {
        "event_types": (event_of(name),),
        "subscriptions": (subscription(name),),
        "permissions": (Permission(name=f"{name}.read", title=f"Read {name}"),),
        "routes": (route(opt=needs(f"{name}.read")),),
    }
    return source(name, info={"module": True}, **{**declared, **hooks})


@contextmanager
def schema(folder: Path, name: str, sql: str) -> Iterator[SchemaApp]:
    """A schema with one migration, in a package that can be imported inside the block."""
    package = folder / f"made_up_{name}_migrations"
    package.mkdir()
    (package / "__init__.py").write_text('"""Migrations."""\n')
    (package / f"{name}_0001_first.sql").write_text(sql)
    sys.path.insert(0, str(folder))
    try:
        yield SchemaApp(name=name, tables=(), migrations=package.name)
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(package.name, None)


async def happen(ctx: Context, *, site: str = "a", n: int = 1, subject: str = "thing") -> None:
    """Tell ACME_HAPPENED."""
    async with transaction():
        await publish(ctx, "ACME_HAPPENED", subject=subject, site_id=site, data=Happened(n=n))


def _giving(answer: Any) -> Callable[[], Any]:
    def hook() -> Any:
        return answer

    return hook
