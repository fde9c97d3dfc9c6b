"""A module of the tests' own, `tst`, that tells of facts; and shorthand for telling, relaying and subscribing."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from busbar.auth.actor import Actor, Context
from busbar.db import fetchval, transaction
from busbar.events.envelope import StoredEvent
from busbar.events.outbox import publish
from busbar.events.registry import EventType
from busbar.events.relay import Relay
from busbar.events.subscriptions import HandlerMatcher, Matcher, Subscription
from busbar.kit.ids import uuid7


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened."""

    n: int
    note: str = ""


class OtherFact(msgspec.Struct, frozen=True, kw_only=True):
    """Something else happened, in another module."""

    n: int


FACT = EventType(name="TST_FACT", module="tst", data=Fact)
NEWS = EventType(name="TST_NEWS", module="tst", data=Fact)
OTHER = EventType(name="OTH_FACT", module="oth", data=OtherFact)


def an_actor(*, sites: tuple[str, ...] = ("*",), permissions: Iterable[str] = ("*",)) -> Actor:
    return Actor(user_id="u-1", username="alex", sites=sites, permissions=frozenset(permissions))


def a_context(actor: Actor | None = None, *, correlation_id: str | None = None) -> Context:
    return Context(actor=actor or an_actor(), correlation_id=correlation_id or str(uuid7()))


async def tell(
    n: int = 0,
    *,
    subject: str = "S-1",
    site: str = "north",
    event_type: EventType = FACT,
    correlation_id: str | None = None,
) -> UUID:
    """Write an event, with a transaction of its own unless one is open."""
    data: Any = OtherFact(n=n) if event_type is OTHER else Fact(n=n)
    async with transaction():
        return await publish(
            a_context(correlation_id=correlation_id), event_type.name, subject=subject, site_id=site, data=data
        )


async def ignore(ctx: Context, event: StoredEvent) -> None:
    """A handler without an effect."""


def a_subscription(name: str = "tst.reader", **changes: Any) -> Subscription:
    """A subscription to everything of the module."""
    fields: dict[str, Any] = {"module": "tst", "pattern": ("TST_*",), "handler": ignore, **changes}
    return Subscription(name=name, **fields)


async def _nowhere(events: Sequence[StoredEvent]) -> None:
    """The ledger is looked at by the tests themselves."""


async def _known() -> None:
    """These matchers do not read the database."""


def a_relay(*subscriptions: Subscription, matchers: Sequence[Matcher] = ()) -> Relay:
    """A relay that knows these subscriptions; their modules are enabled everywhere but at the site `bare`."""
    handlers = HandlerMatcher(subscriptions, lambda site, module: site != "bare")
    return Relay([handlers, *matchers], _nowhere, refresh=_known)


async def rows_read(work: Callable[[], Awaitable[object]]) -> int:
    """How many rows of the ledger a piece of work reads; it runs in a transaction."""
    async with transaction():
        before = await fetchval(_ROWS_READ)
        await work()
        return int(await fetchval(_ROWS_READ) - before)


# What this connection has counted and not yet handed in; it may be of several transactions.
_ROWS_READ = """
select coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables
where schemaname = 'core' and relname = 'delivery'
"""
