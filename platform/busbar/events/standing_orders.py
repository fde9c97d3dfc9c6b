"""What plugins subscribed to when they last worked, so that deliveries pile up for one that cannot be imported now."""

from collections.abc import Collection, Sequence

from busbar.auth.actor import Context
from busbar.db import execute, fetch, transaction
from busbar.errors import Unavailable
from busbar.events.envelope import StoredEvent
from busbar.events.subscriptions import Subscription

_KEEP = """
insert into core.subscription as s (name, module, pattern, ordered) values ($1, $2, $3, $4)
on conflict (name) do update set module = excluded.module, pattern = excluded.pattern, ordered = excluded.ordered
where (s.module, s.pattern, s.ordered) is distinct from (excluded.module, excluded.pattern, excluded.ordered)
"""
_DROP = "delete from core.subscription where module = any($1) and name <> all ($2)"
_RECALL = "select name, module, pattern, ordered from core.subscription where module = any($1) order by name"


async def keep(subscriptions: Sequence[Subscription], *, modules: Collection[str]) -> None:
    """Note all subscriptions of these working plugins; what they no longer subscribe to is forgotten."""
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


async def _not_there(ctx: Context, event: StoredEvent) -> None:
    raise Unavailable("The plugin that would handle this is quarantined.", retry_after_s=60)
