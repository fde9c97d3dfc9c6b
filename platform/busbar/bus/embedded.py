"""The transport without a broker: the ledger itself is the queue, woken by NOTIFY.

Where a subscription had fewer ready than were asked for, the rest waits, mostly behind earlier deliveries of its keys.
Until there is news, or `LOOK_S` has passed, only the next of a key whose delivery has ended is asked for: to look at
all that wait, each time one of them ends, costs the more the more wait.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from busbar.bus.transport import Key, keys_with_room
from busbar.db.wakeup import Channel, poke, signal
from busbar.events import ledger
from busbar.events.envelope import StoredEvent
from busbar.events.ledger import Claimed

LOOK_S: Final = 0.5
"""So often all that wait are looked at without news: for retries that are due, and what other processes left."""


class EmbeddedTransport:
    """Claims deliveries straight from the ledger."""

    def __init__(self) -> None:
        self._ended: set[Key] = set()
        """Subscriptions and keys of which a delivery has ended here, and the next was not asked for yet."""
        self._had_less: set[str] = set()
        """Subscriptions that had fewer ready than were asked for."""
        self._looked_s = 0.0
        self._news = asyncio.Event()

    async def publish(self, events: Sequence[StoredEvent]) -> None:
        poke(Channel.DELIVERIES)

    async def take(self, free_by_lane: Mapping[str, int], *, worker: int, at_most: int) -> list[Claimed]:
        free = Counter(free_by_lane)
        taken = await self._take_next(free, worker=worker, at_most=at_most)
        free.subtract(Counter(held.subscription for held in taken))
        now_s = time.monotonic()
        if self._news.is_set() or now_s - self._looked_s >= LOOK_S:
            self._news.clear()
            self._had_less.clear()
            self._looked_s = now_s
        asked = {name: room for name, room in free.items() if room > 0 and name not in self._had_less}
        left = at_most - len(taken)
        if not asked or left <= 0:
            return taken
        found = await ledger.claim(asked, worker=worker, at_most=left)
        if len(found) < left:
            by_lane = Counter(held.subscription for held in found)
            self._had_less |= {name for name, room in asked.items() if by_lane[name] < room}
        return taken + found

    def done(self, held: Claimed) -> None:
        """The settled row is the acknowledgement; the next of its key may be ready."""
        if held.ordering_key is not None:
            self._ended.add((held.subscription, held.ordering_key))

    @contextlib.contextmanager
    def work_signal(self) -> Iterator[asyncio.Event]:
        with signal(Channel.DELIVERIES) as self._news, signal(Channel.DELIVERIES) as there_is_work:
            yield there_is_work

    async def _take_next(self, free: Mapping[str, int], *, worker: int, at_most: int) -> list[Claimed]:
        """Claim the next of each key of which a delivery has ended, as far as there is room."""
        keys = keys_with_room(self._ended, free, at_most=at_most)
        if not keys:
            return []
        taken = await ledger.claim_next(keys, worker=worker)
        self._ended.difference_update(keys)
        return taken
