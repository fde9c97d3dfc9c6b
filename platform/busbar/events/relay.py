"""The relay: gives new events their position in the stream, and writes one delivery for each subscription.

Relays of several processes take turns by an advisory lock that ends with the transaction, so positions follow the
order of commits without gaps, and a stream that resumes after a position misses nothing. New events are found by
status, never by "id > last seen": ids are not in the order of commits (LESSONS D8).

What goes where is known in memory; before each batch the relay compares one number with the database's, so that no
event passes by a route, site or module that was there before it (decision 0021).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import msgspec
import structlog

from busbar.db import DATABASE_TROUBLE, fetch, fetchrow, fetchval, transaction
from busbar.db.wakeup import Channel, poke, signal, wait_for
from busbar.events.envelope import COLUMNS, StoredEvent, stored
from busbar.events.subscriptions import Match, Matcher
from busbar.kit.crash import crash_point

log = structlog.get_logger()

BATCH_MAX = 500
POLL_S = 1.0
_LOCK_KEY = 0x7265_6C61_79
"""Advisory lock of the relays; "relay" in ASCII."""
_TURN_S = 0.02

_CLAIM = f"""
select {COLUMNS} from core.event where position is null order by seq limit $1 for update skip locked
"""
_STANDING = """
select coalesce(max(position), 0) as last, (select version from core.configuration where name = 'routing') as routing
from core.event
"""
_POSITION = """
update core.event e set position = n.position
from unnest($1::uuid[], $2::bigint[]) as n (event_id, position) where e.event_id = n.event_id
"""
_DELIVER = """
insert into core.delivery (event_id, position, subscription, endpoint_id, route_id, route_version, site_id,
    ordering_key, state, document, last_error, next_attempt_at, created_at, updated_at, finished_at)
select event_id, position, subscription, endpoint_id, route_id, route_version, site_id, ordering_key, state,
    document::jsonb, last_error, now(), now(), now(), case when state in ('skipped', 'dead') then now() end
from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::int[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::text[]) as n (event_id, position, subscription, endpoint_id, route_id,
    route_version, site_id, ordering_key, state, document, last_error)
on conflict (event_id, subscription) do nothing
"""

_Row = tuple[Any, ...]
"""A new delivery: the columns of `n` above."""


class Relay:
    """Moves events from the outbox to the ledger."""

    def __init__(
        self,
        matchers: Sequence[Matcher],
        publish: Callable[[Sequence[StoredEvent]], Awaitable[None]],
        *,
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        """`refresh` brings what the matchers know up to date; it is called when something changed."""
        self._matchers = tuple(matchers)
        self._publish = publish
        self._refresh = refresh
        self._routing: int | None = None

    async def run(self) -> None:
        """Work until cancelled; a failed round is logged and tried again."""
        with signal(Channel.EVENTS) as there_is_work:
            while True:
                try:
                    moved = await self.move_batch()
                except DATABASE_TROUBLE as error:
                    log.warning("relay_round_failed", error=str(error) or repr(error))
                    await asyncio.sleep(POLL_S / 2)
                    continue
                except Exception as error:
                    # A fault of ours or of a matcher must not end the relay: nothing would be delivered any more.
                    log.error("relay_round_failed", error=repr(error), exc_info=error)
                    await asyncio.sleep(POLL_S)
                    continue
                if moved is None:
                    await asyncio.sleep(_TURN_S)
                elif moved < BATCH_MAX:
                    await wait_for(there_is_work, poll_s=POLL_S)

    async def move_batch(self) -> int | None:
        """Move up to `BATCH_MAX` events; returns how many, or None when another relay has its turn.

        A delivery that the database refuses, say for a character that it cannot store, becomes a dead letter with the
        reason; everything else goes on.
        """
        try:
            return await self._move_batch(_write)
        except asyncpg.DataError:
            return await self._move_batch(_write_one_by_one)

    async def _move_batch(self, write: Callable[[Sequence[_Row]], Awaitable[None]]) -> int | None:
        async with transaction():
            if not await fetchval("select pg_try_advisory_xact_lock($1)", _LOCK_KEY):
                return None
            events = [stored(row) for row in await fetch(_CLAIM, BATCH_MAX)]
            if not events:
                return 0
            crash_point("relay_after_claim")
            standing = await fetchrow(_STANDING)
            assert standing is not None, "an aggregate has a row"
            await self._catch_up(standing["routing"])
            positions = [standing["last"] + n for n in range(1, len(events) + 1)]
            await fetch(_POSITION, [event.event_id for event in events], positions)
            rows: list[_Row] = []
            for event, position in zip(events, positions, strict=True):
                rows += [_row(event, position, match) for matcher in self._matchers for match in matcher.match(event)]
                await asyncio.sleep(0)  # a thousand filters over a full batch would hold the loop for seconds
            if rows:
                await write(rows)
            crash_point("relay_before_commit")
        crash_point("relay_after_commit")
        await self._publish(events)
        poke(Channel.STREAM)
        return len(events)

    async def _catch_up(self, routing: int) -> None:
        """Match by what was committed before the events: who published a route and then reported gets it delivered."""
        if routing != self._routing:
            await self._refresh()
            self._routing = routing


async def _write(rows: Sequence[_Row]) -> None:
    await fetch(_DELIVER, *(list(column) for column in zip(*rows, strict=True)))


async def _write_one_by_one(rows: Sequence[_Row]) -> None:
    for row in rows:
        try:
            async with transaction():
                await _write([row])
        except asyncpg.DataError as error:
            event_id, position, subscription = row[:3]
            log.warning("delivery_refused", event_id=str(event_id), subscription=subscription, error=str(error))
            reason = f"the database refuses what the mapping made: {error}"
            await _write([(event_id, position, *row[2:8], "dead", None, reason)])


def _row(event: StoredEvent, position: int, match: Match) -> _Row:
    state, reason, document = match.state, match.reason, None
    if match.document is not None:
        try:
            document = msgspec.json.encode(match.document).decode()
        except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
            state, reason = "dead", f"what the mapping made is not JSON: {error}"
    return (
        event.event_id,
        position,
        match.subscription,
        match.endpoint_id,
        match.route_id,
        match.route_version,
        event.site_id,
        match.ordering_key,
        state,
        document,
        reason,
    )
