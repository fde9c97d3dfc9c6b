"""Publication: brings every event to the broker's topic exchange, at least once and in the order of positions.

A cursor in the database says how far the bus has come; positions have no gaps, so nothing can be skipped. It moves only
after the broker has confirmed (publisher confirms, persistent, LESSONS B3 and B6); processes take turns by a lock that
ends with the transaction. An event that is published again, after a crash in between, has the same id.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec
import structlog

from busbar.bus.broker import Broker, BrokerTrouble, Outgoing
from busbar.bus.broker_metrics import PUBLICATION_LAG
from busbar.bus.topology import EVENTS, routing_key
from busbar.db import DATABASE_TROUBLE, execute, fetch, fetchrow, fetchval, transaction
from busbar.db.wakeup import Channel, signal, wait_for
from busbar.events.envelope import COLUMNS, CONTENT_TYPE, StoredEvent, stored
from busbar.kit.crash import crash_point
from busbar.observability.metrics import Reading, register_collector

log = structlog.get_logger()

BATCH_MAX: Final = 250
"""Events whose confirms are awaited together."""
POLL_S: Final = 1.0
_TURN_S: Final = 0.02
_LOCK_KEY: Final = 0x7075_626C_6973_68
"""Advisory lock of the publishers; "publish" in ASCII."""

_BEGIN = """
update core.publication set position = (select coalesce(max(position), 0) from core.event) where position is null
"""
_NEXT = f"select {COLUMNS} from core.event where position > $1 order by position limit $2"
_LAG = """
select coalesce((select max(position) from core.event) - position, 0) as waiting from core.publication
"""


class Publication:
    """The publisher of this process. `wanted` gives the binding keys for which there must be a queue."""

    def __init__(self, broker: Broker, wanted: Callable[[], Collection[str]]) -> None:
        self._broker = broker
        self._wanted = wanted

    async def run(self) -> None:
        """Work until cancelled; waits while there is no broker."""
        with signal(Channel.STREAM) as there_are_events:
            while True:
                await self._broker.connected.wait()
                try:
                    moved = await self.publish_batch()
                except (*DATABASE_TROUBLE, BrokerTrouble) as error:
                    log.warning("publication_round_failed", error=str(error) or repr(error))
                    await asyncio.sleep(POLL_S / 2)
                    continue
                if moved is None:
                    await asyncio.sleep(_TURN_S)
                elif moved < BATCH_MAX:
                    await wait_for(there_are_events, poll_s=POLL_S)

    async def publish_batch(self) -> int | None:
        """Publish up to `BATCH_MAX` events; returns how many, or None when another process has its turn.

        The first time ever it begins with what happens from now on: history is read by the API.

        Raises:
            BrokerTrouble: not all are confirmed; they are published again.
        """
        async with transaction():
            if not await fetchval("select pg_try_advisory_xact_lock($1)", _LOCK_KEY):
                return None
            position = await fetchval("select position from core.publication")
            if position is None:
                await execute(_BEGIN)
                return 0
            events = [stored(row) for row in await fetch(_NEXT, position, BATCH_MAX)]
            if not events:
                return 0
            await self._send(events)
            crash_point("publication_before_cursor")
            await execute("update core.publication set position = $1", events[-1].position)
            return len(events)

    async def _send(self, events: Sequence[StoredEvent]) -> None:
        wanted = self._wanted()
        returned = await self._broker.publish([_message(event, wanted) for event in events])
        if not returned:
            return
        # A queue that should be there is not: somebody deleted it. It is made anew, and what came back sent again.
        log.warning("queues_missing", messages=len(returned), example=returned[0].routing_key)
        await self._broker.restore()
        if again := await self._broker.publish(returned):
            # The ledger has their deliveries, and the workers take them from there.
            log.error("events_unroutable", messages=len(again), example=again[0].routing_key)


def register_publication_metrics() -> None:
    """Let `/metrics` show how far the bus is behind."""
    register_collector("publication", _readings, families=(PUBLICATION_LAG,))


async def _readings() -> Iterable[Reading]:
    row: Mapping[str, int] | None = await fetchrow(_LAG)
    assert row is not None
    return [Reading(family=PUBLICATION_LAG.name, value=row["waiting"])]


def _message(event: StoredEvent, wanted: Collection[str]) -> Outgoing:
    key = routing_key(event.site_id, event.module, event.event_type)
    return Outgoing(
        exchange=EVENTS,
        routing_key=key,
        body=msgspec.json.encode(event.cloud_event()),
        message_id=str(event.event_id),
        correlation_id=event.correlation_id,
        headers={"traceparent": event.traceparent} if event.traceparent else {},
        content_type=CONTENT_TYPE,
        mandatory=any(each in wanted for each in _keys_that_fit(key)),
    )


def _keys_that_fit(key: str) -> list[str]:
    """The binding keys, of the forms that `topology.binding_keys` makes, that a routing key fits."""
    site, module, name = key.split(".", 2)
    ends = (f"{module}.{name}", f"{module}.*", "*.*")
    return [f"{place}.{end}" for place in (site, "*") for end in ends]
