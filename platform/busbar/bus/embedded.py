"""The transport without a broker: the ledger itself is the queue, woken by NOTIFY."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from busbar.db.wakeup import Channel, poke, signal
from busbar.events import ledger
from busbar.events.envelope import StoredEvent
from busbar.events.ledger import Claimed


class EmbeddedTransport:
    """Claims deliveries straight from the ledger."""

    async def publish(self, events: Sequence[StoredEvent]) -> None:
        poke(Channel.DELIVERIES)

    async def take(self, free_by_lane: Mapping[str, int], *, worker: int, at_most: int) -> list[Claimed]:
        return await ledger.claim(free_by_lane, worker=worker, at_most=at_most)

    def done(self, held: Claimed) -> None:
        """Nothing: the settled row is the acknowledgement."""

    def work_signal(self) -> AbstractContextManager[asyncio.Event]:
        return signal(Channel.DELIVERIES)
