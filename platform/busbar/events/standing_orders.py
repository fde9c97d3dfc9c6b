"""What plugins subscribed to when they last worked, so that deliveries pile up for one that cannot be imported now; and
whose handlers fail with everything."""

from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec

from busbar.auth.actor import Context
from busbar.db import execute, fetch, transaction
from busbar.errors import Unavailable
from busbar.events.envelope import StoredEvent
from busbar.events.subscriptions import Subscription

_KEEP = """
insert into core.subscription as s (name, module, pattern, ordered) values ($1, $2, $3, $4)
on conflict (name) do update set module = excluded.module, pattern = excluded.pattern, ordered = excluded.ordered,
    suspended_at = null, suspended_for = null
where (s.module, s.pattern, s.ordered, s.suspended_at)
    is distinct from (excluded.module, excluded.pattern, excluded.ordered, null)
"""
_DROP = "delete from core.subscription where module = any($1) and name <> all ($2)"
_RECALL = "select name, module, pattern, ordered from core.subscription where module = any($1) order by name"

_SUSPEND = """
update core.subscription set suspended_at = coalesce(suspended_at, $2), suspended_for = $3 where name = $1
"""
_RESUME = "update core.subscription set suspended_at = null, suspended_for = null where name = $1"
_SUSPENDED = """
select name, module, suspended_at as since, suspended_for as detail from core.subscription
where suspended_at is not null order by name
"""


class Suspended(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription whose handler fails with everything; its deliveries wait, and are tried now and then."""

    name: str
    module: str
    since: datetime
    detail: str
    """What it failed with the last time."""


async def keep(subscriptions: Sequence[Subscription], *, modules: Collection[str]) -> None:
    """Note all subscriptions of these working plugins, as working; what they no longer subscribe to is forgotten."""
    async with transaction():
        for each in sorted(subscriptions, key=lambda subscription: subscription.name):
            await execute(_KEEP, each.name, each.module, list(each.pattern), each.ordered)
        await execute(_DROP, list(modules), [each.name for each in subscriptions])


async def recall(modules: Collection[str]) -> list[Subscription]:
    """What these plugins subscribed to when they last worked; nothing can be handled until they work again."""
    return [
        Subscription(
            name=row["name"],
            module=row["module"],
            pattern=tuple(row["pattern"]),
            handler=_not_there,
            ordered=row["ordered"],
        )
        for row in await fetch(_RECALL, list(modules))
    ]


async def suspend(name: str, *, since: datetime, detail: str) -> None:
    """Let everybody know that the handler of a subscription fails with everything."""
    await execute(_SUSPEND, name, since, detail)


async def resume(name: str) -> None:
    """Let everybody know that it works again."""
    await execute(_RESUME, name)


async def suspended() -> list[Suspended]:
    """The subscriptions whose handlers fail with everything, in at least one worker."""
    return [Suspended(**row) for row in await fetch(_SUSPENDED)]


async def _not_there(ctx: Context, event: StoredEvent) -> None:
    raise Unavailable("The plugin that would handle this is quarantined.", retry_after_s=60)
