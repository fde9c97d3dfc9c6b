"""The dead-letter desk: send a delivery again, as it was, corrected or worked out anew; or give it up with a reason.

`replays.py` sends many again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from busbar.audit import record
from busbar.auth.actor import Context
from busbar.db import execute, fetchrow, on_commit, transaction
from busbar.db.wakeup import Channel, poke
from busbar.errors import Conflict, NotFound, RuleViolated
from busbar.events.access import reach_of
from busbar.events.envelope import stored
from busbar.events.subscriptions import Match, Matcher

_LOCK = """
select d.*, e.event_type, e.module, e.subject, e.time, e.data, e.schema_version, e.correlation_id, e.traceparent,
    e.actor_id, e.origin
from core.delivery d join core.event e using (event_id) where d.delivery_id = $1 for update of d
"""
_AGAIN = """
update core.delivery
set state = 'pending', charged = 0, next_attempt_at = now(), worker = null, lease_until = null, finished_at = null,
    updated_at = now(), document = $2::jsonb, route_version = $3, endpoint_id = $4
where delivery_id = $1
"""
_GIVE_UP = """
update core.delivery
set state = 'skipped', last_error = $2, worker = null, lease_until = null, finished_at = now(), updated_at = now()
where delivery_id = $1
"""


async def replay(
    ctx: Context,
    delivery_id: int,
    *,
    reason: str,
    document: Mapping[str, Any] | None = None,
    work_out_anew: bool = False,
    matchers: Sequence[Matcher] = (),
) -> None:
    """Send a dead or retrying delivery now, with its attempts counted from the start again; former tries are kept.

    `document` replaces what is sent. `work_out_anew` asks `matchers` what the event leads to by today's rules; so does
    a delivery that never could be worked out.

    Raises:
        NotFound: there is no such delivery, or the actor may not see it.
        Conflict: a worker is trying it just now.
        RuleViolated: it was delivered or skipped, a handler was given a document, or today's rules do not send it.
    """
    async with transaction():
        row = await _lock(ctx, delivery_id)
        if row["state"] not in ("dead", "retrying"):
            raise RuleViolated(f"The delivery is {row['state']}; only dead and retrying ones can be sent again.")
        if document is not None and row["endpoint_id"] is None:
            raise RuleViolated(f"{row['subscription']} is a handler: it takes the event, and a document means nothing.")
        never_worked_out = row["state"] == "dead" and row["attempts"] == 0
        text, version, endpoint_id = row["document"], row["route_version"], row["endpoint_id"]
        if document is not None:
            text = msgspec.json.encode(document).decode()
        elif work_out_anew or never_worked_out:
            match = _worked_out(row, matchers)
            text = None if match.document is None else msgspec.json.encode(match.document).decode()
            version, endpoint_id = match.route_version, match.endpoint_id
        await execute(_AGAIN, delivery_id, text, version, endpoint_id)
        await record(
            ctx,
            action="delivery.replay",
            object_kind="delivery",
            object_id=str(delivery_id),
            site_id=row["site_id"],
            previous_status=row["state"],
            new_status="pending",
            comment=reason,
            details=_changes(row, text, version),
        )
        on_commit(_wake_workers)


async def discard(ctx: Context, delivery_id: int, *, reason: str) -> None:
    """Give a delivery up: it is marked skipped with the reason, and kept; what waits behind it goes on.

    Raises:
        NotFound: there is no such delivery, or the actor may not see it.
        Conflict: a worker is trying it just now.
        RuleViolated: it is finished.
    """
    async with transaction():
        row = await _lock(ctx, delivery_id)
        if row["state"] not in ("dead", "retrying", "pending"):
            raise RuleViolated(f"The delivery is {row['state']}; there is nothing to give up.")
        await execute(_GIVE_UP, delivery_id, f"given up by {ctx.actor.username}: {reason}")
        await record(
            ctx,
            action="delivery.discard",
            object_kind="delivery",
            object_id=str(delivery_id),
            site_id=row["site_id"],
            previous_status=row["state"],
            new_status="skipped",
            comment=reason,
            details={"last_error": row["last_error"]},
        )
        on_commit(_wake_workers)


async def _lock(ctx: Context, delivery_id: int) -> asyncpg.Record:
    row = await fetchrow(_LOCK, delivery_id)
    if row is None or not reach_of(ctx.actor).includes(site_id=row["site_id"], module=row["module"]):
        raise NotFound(f"There is no delivery {delivery_id}.")
    if row["handed_over_at"] is not None:
        raise Conflict("Camel has the delivery; try again when it has told how that ended.")
    if row["state"] == "in_flight":
        raise Conflict("The delivery is being tried just now; try again when that has ended.")
    return row


def _worked_out(row: asyncpg.Record, matchers: Sequence[Matcher]) -> Match:
    event = stored(row)
    for matcher in matchers:
        for match in matcher.match(event):
            if match.subscription != row["subscription"]:
                continue
            if match.state != "pending":
                raise RuleViolated(f"By today's rules it would not be sent: {match.reason}")
            return match
    raise RuleViolated(f"{row['subscription']} takes no such event any more; give it a document, or discard it.")


def _changes(row: asyncpg.Record, document: str | None, version: int | None) -> dict[str, Any]:
    """What the trail keeps of the former delivery, which the ledger overwrites."""
    changes: dict[str, Any] = {"attempts": row["attempts"], "last_error": row["last_error"]}
    if document != row["document"]:
        changes["document_before"] = msgspec.Raw((row["document"] or "null").encode())
        changes["document_after"] = msgspec.Raw((document or "null").encode())
    if version != row["route_version"]:
        changes["route_version_before"], changes["route_version_after"] = row["route_version"], version
    return changes


def _wake_workers() -> None:
    poke(Channel.DELIVERIES)
