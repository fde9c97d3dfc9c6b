"""Writes events into core.event, in the transaction of the change they tell of."""

from datetime import datetime
from uuid import UUID

import msgspec

from busbar.auth.actor import Context
from busbar.db import execute, in_transaction, on_commit
from busbar.db.wakeup import Channel, poke
from busbar.events.registry import REGISTRY
from busbar.kit.ids import uuid7

_INSERT = """
insert into core.event (event_id, event_type, module, site_id, subject, time, data, schema_version, correlation_id,
                        traceparent, actor_id, origin)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""


class NotInTransaction(RuntimeError):
    """An event was published outside of a transaction, where it could tell of a change that did not happen."""


async def publish(
    ctx: Context,
    event_type: str,
    *,
    subject: str,
    site_id: str,
    data: msgspec.Struct,
    time: datetime | None = None,
) -> UUID:
    """Write an event with the change it tells of; returns its id.

    `subject` is the id of what it is about, and by default the key within which order is kept. `time` is the moment of
    the fact, by default now.

    Raises:
        NotInTransaction: no transaction is open.
        EventTypeRefused: no plugin declares `event_type`.
        TypeError: `data` is not the Struct that the type declares.
    """
    if not in_transaction():
        raise NotInTransaction(f"{event_type} must be published inside the transaction of the change it tells of")
    declared = REGISTRY.get(event_type)
    if type(data) is not declared.data:
        raise TypeError(f"{event_type} takes {declared.data.__name__}, not {type(data).__name__}")
    event_id = uuid7()
    await execute(
        _INSERT,
        event_id,
        event_type,
        declared.module,
        site_id,
        subject,
        time or ctx.clock(),
        msgspec.json.encode(data).decode(),
        declared.version,
        ctx.correlation_id,
        ctx.traceparent,
        ctx.actor.user_id,
        ctx.origin,
    )
    on_commit(wake_relay)
    return event_id


def wake_relay() -> None:
    """Tell the relays that there are new events."""
    poke(Channel.EVENTS)
