"""A module of the tests' own, `tst`, that reports faults; and shorthand for sites, endpoints, routes and the relay."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from busbar.auth.actor import Actor, Context
from busbar.db import execute, fetch, transaction
from busbar.events.envelope import StoredEvent
from busbar.events.outbox import publish
from busbar.events.registry import EventType
from busbar.events.relay import Relay
from busbar.kit.ids import uuid7
from busbar.routing.commands import create_route, publish_route
from busbar.routing.definition import RouteDefinition
from busbar.routing.matcher import RouteMatcher
from busbar.sites.directory import DIRECTORY


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part that is needed."""

    material_id: str
    quantity: int


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something broke."""

    title: str = "Oil temperature high"
    severity: str = "P1"
    customers: int | None = None
    parts: tuple[Part, ...] = ()


FAULT = EventType(name="TST_FAULT_REPORTED", module="tst", data=Fault)
CLEARED = EventType(name="TST_FAULT_CLEARED", module="tst", data=Fault)
ENDPOINT = "acme"


def an_actor(*, sites: Iterable[str] = ("*",), permissions: Iterable[str] = ("*",)) -> Actor:
    return Actor(user_id="u-1", username="alex", sites=tuple(sites), permissions=frozenset(permissions))


def a_context(*, sites: Iterable[str] = ("*",), origin: str | None = None) -> Context:
    return Context(actor=an_actor(sites=sites), correlation_id=str(uuid7()), origin=origin)


def a_definition(**changes: Any) -> RouteDefinition:
    fields: dict[str, Any] = {"name": "Faults to Acme", "pattern": ("TST_FAULT_*",), "endpoint_id": ENDPOINT}
    return RouteDefinition(**(fields | changes))


async def add_site(site_id: str, *modules: str) -> None:
    await execute("insert into core.site (site_id, name) values ($1, $1)", site_id)
    for module in modules:
        await execute("insert into core.site_module (site_id, module, enabled) values ($1, $2, true)", site_id, module)


async def add_endpoint(endpoint_id: str = ENDPOINT, *, sites: Sequence[str] = (), active: bool = True) -> None:
    await execute(
        "insert into core.endpoint (endpoint_id, connector, name, sites, settings, secrets, active, created_at, "
        "updated_at) values ($1, 'acme', $1, $2, '{}', '{}', $3, now(), now())",
        endpoint_id,
        list(sites),
        active,
    )


async def add_route(route_id: str | None = None, *, published: bool = True, **changes: Any) -> str:
    """Make a route, and publish it."""
    made = await create_route(a_context(), a_definition(**changes), route_id=route_id)
    if published:
        await publish_route(a_context(), made)
    return made


async def report(
    *,
    site: str = "north",
    subject: str = "T-104",
    event_type: EventType = FAULT,
    origin: str | None = None,
    **fields: Any,
) -> UUID:
    """Report a fault, as an event."""
    async with transaction():
        return await publish(
            a_context(origin=origin), event_type.name, subject=subject, site_id=site, data=Fault(**fields)
        )


class Platform:
    """What a process runs of routing: a matcher, and a relay that asks it."""

    def __init__(self) -> None:
        self.matcher = RouteMatcher(DIRECTORY)
        self.relay = Relay([self.matcher], _nowhere, refresh=self.refresh)

    async def refresh(self) -> None:
        await DIRECTORY.refresh()
        await self.matcher.refresh()

    async def relay_all(self) -> list[asyncpg.Record]:
        """Relay what is new by the routes of now; returns all deliveries, oldest first."""
        await self.refresh()
        while await self.relay.move_batch() != 0:
            pass
        return await deliveries()


async def deliveries() -> list[asyncpg.Record]:
    return await fetch("select * from core.delivery order by position, subscription")


def document_of(delivery: asyncpg.Record) -> Any:
    return None if delivery["document"] is None else msgspec.json.decode(delivery["document"])


async def _nowhere(events: Sequence[StoredEvent]) -> None:
    """The ledger is looked at by the tests themselves."""
