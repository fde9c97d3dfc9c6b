"""The transport over RabbitMQ: the broker carries, the ledger decides.

A message says that an event is there for a subscription. It is held, unacknowledged, until its delivery is claimed in
the ledger and the outcome is committed there; prefetch bounds how many are held. One that cannot be claimed is
acknowledged: its delivery is finished, or held by another worker, or waits behind an earlier one of its key.

What no message will bring is claimed from the ledger itself: retries, the next of a key whose turn has come, all of a
subscription whose queue is not consumed now, and what the bus lost or is late with. So a dead broker stops nothing: the
ledger carries on, and what was on its way when it died is late by `LATE_S` (decision 0017).
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final
from uuid import UUID

import msgspec
import structlog

from busbar.bus.broker import Broker
from busbar.bus.broker_metrics import bus_taken
from busbar.bus.consumers import Handle, Incoming, Refused
from busbar.bus.topology import Queue, deliver_queue
from busbar.bus.transport import Key, keys_with_room
from busbar.db.wakeup import Channel, poke, signal
from busbar.events import ledger
from busbar.events.envelope import StoredEvent
from busbar.events.ledger import Claimed

log = structlog.get_logger()

PREFETCH: Final = 256
"""Messages of one queue that a worker holds."""
HELD_S: Final = 300.0
"""A message that could not be claimed for so long, say for a paused endpoint, is acknowledged; the ledger has it."""
LATE_S: Final = 2.0
"""A delivery that is due for so long is taken from the ledger, though its message may come yet."""
LATE_WHILE_HEARD_S: Final = 20.0
"""The same while messages of its subscription keep coming: there is a line, and it will most likely be its turn."""
HEARD_S: Final = 1.0
SWEEP_S: Final = 0.5
"""So often, while messages come, the ledger is looked at for what they do not bring."""
RENEW_S: Final = 10.0
"""A consumer that brings nothing while its deliveries are late is begun anew, at most so often (LESSONS B2)."""
NEXT_S: Final = 0.1
"""So often it is looked whether a key has become free whose earlier delivery another process works on."""
KEYS_MAX: Final = 1_000
"""Keys that are looked after; the deliveries of more are taken when they are late."""


class Told(msgspec.Struct, eq=False):
    """A message that is held."""

    event_id: UUID
    since_s: float
    settled: asyncio.Future[None]
    claimed: bool = False

    def settle(self) -> None:
        """Let the message be acknowledged."""
        if not self.settled.done():
            self.settled.set_result(None)


class RabbitTransport:
    """Takes deliveries by the messages of the broker, and from the ledger what they do not bring.

    `subscriptions` gives the routing keys of every subscription that has a queue now; `follow` asks it again.
    """

    def __init__(self, broker: Broker, subscriptions: Callable[[], Mapping[str, Sequence[str]]]) -> None:
        self._broker = broker
        self._subscriptions = subscriptions
        self._queues: dict[str, Queue] = {}
        self._told: dict[str, dict[UUID, Told]] = {}
        self._claimed: dict[int, Told] = {}
        self._waiting_keys: set[Key] = set()
        """Keys of messages that were let go, for an earlier delivery of the key was unfinished."""
        self._free_keys: set[Key] = set()
        """Those of them whose earlier delivery this process has just finished."""
        self._looked_s = self._swept_s = 0.0
        self._heard_s: dict[str, float] = {}
        """When the last message of a subscription came, or its consumer was begun anew."""
        self._wake = asyncio.Event()

    def follow(self) -> None:
        """Consume for the subscriptions that there are now; call it on changes, and now and then."""
        self._let_go_of_old_ones()
        queues = {name: deliver_queue(name, keys) for name, keys in self._subscriptions().items() if keys}
        for name, queue in queues.items():
            if self._queues.get(name) != queue:
                self._broker.consume(queue, self._taker(name), prefetch=PREFETCH)
        for name in self._queues.keys() - queues.keys():
            self._broker.forget(self._queues[name].name)
        self._queues = queues

    def bound(self) -> set[str]:
        """The binding keys for which there must be a queue."""
        return {binding.key for queue in self._queues.values() for binding in queue.bindings}

    async def publish(self, events: Sequence[StoredEvent]) -> None:
        """Nothing, for `Publication` follows the positions; while it cannot, wake the workers, who have the ledger."""
        if not self._broker.connected.is_set():
            poke(Channel.DELIVERIES)

    async def take(self, free_by_lane: Mapping[str, int], *, worker: int, at_most: int) -> list[Claimed]:
        free = dict(free_by_lane)
        taken = await self._take_told(free, worker=worker, at_most=at_most)
        by_message = len(taken)
        taken += await self._take_next(free, worker=worker, at_most=at_most - len(taken))
        now_s = time.monotonic()
        if len(taken) < at_most and (now_s - self._swept_s >= SWEEP_S or not by_message):
            taken += await self._sweep(free, worker=worker, at_most=at_most - len(taken))
            self._swept_s = now_s
        bus_taken.labels("bus").inc(by_message)
        bus_taken.labels("ledger").inc(len(taken) - by_message)
        return taken

    def done(self, held: Claimed) -> None:
        key = (held.subscription, held.ordering_key or "")
        if key in self._waiting_keys:
            self._free_keys.add(key)
        told = self._claimed.pop(held.delivery_id, None)
        if told is not None:
            told.settle()

    @contextlib.contextmanager
    def work_signal(self) -> Iterator[asyncio.Event]:
        with signal(Channel.DELIVERIES) as self._wake:
            yield self._wake

    async def _sweep(self, free: Mapping[str, int], *, worker: int, at_most: int) -> list[Claimed]:
        """Claim from the ledger: what is late with its message, and all that no message can bring now."""
        now_s = time.monotonic()
        by_lateness: dict[float, dict[str, int]] = {}
        for name, room in free.items():
            if room <= 0:
                continue
            late_s = 0.0
            if name in self._queues and self._queues[name].name in self._broker.consuming:
                late_s = LATE_WHILE_HEARD_S if now_s - self._heard_s.get(name, 0.0) < HEARD_S else LATE_S
            by_lateness.setdefault(late_s, {})[name] = room
        taken: list[Claimed] = []
        for late_s, rooms in by_lateness.items():
            found = await ledger.claim(rooms, worker=worker, late_s=late_s, at_most=at_most - len(taken))
            for name in {held.subscription for held in found if held.attempt == 1 and late_s == LATE_S}:
                self._doubt(name)
            taken += found
        return taken

    def _let_go_of_old_ones(self) -> None:
        oldest_s = time.monotonic() - HELD_S
        for told in [told for waiting in self._told.values() for told in waiting.values()]:
            if told.since_s < oldest_s and not told.claimed:
                told.settle()

    def _doubt(self, name: str) -> None:
        """A first delivery came late without its message; a consumer that is silent all the while is not believed."""
        now_s = time.monotonic()
        if now_s - self._heard_s.get(name, 0.0) > RENEW_S:
            self._heard_s[name] = now_s
            log.warning("consumer_silent", queue=self._queues[name].name, silent_for_s=RENEW_S)
            self._broker.renew(self._queues[name].name)

    async def _take_told(self, free: dict[str, int], *, worker: int, at_most: int) -> list[Claimed]:
        """Claim what messages tell of, up to what is free; what cannot be claimed is let go."""
        asked: dict[tuple[str, UUID], Told] = {}
        for name, room in free.items():
            waiting = (told for told in self._told.get(name, {}).values() if not told.claimed)
            room = min(room, at_most - len(asked))
            asked |= {(name, told.event_id): told for told in itertools.islice(waiting, room)}
        if not asked:
            return []
        taken = await ledger.claim_told(list(asked), worker=worker)
        for held in taken:
            told = asked.pop((held.subscription, held.event.event_id))
            told.claimed = True
            self._claimed[held.delivery_id] = told
            free[held.subscription] -= 1
        if asked:
            self._waiting_keys |= await ledger.waiting_keys(list(asked))
            for told in asked.values():
                told.settle()
        return taken

    async def _take_next(self, free: dict[str, int], *, worker: int, at_most: int) -> list[Claimed]:
        """Claim the next of each key whose turn has come."""
        if not self._waiting_keys:
            return []
        looked_s = time.monotonic()
        if looked_s - self._looked_s >= NEXT_S:
            self._waiting_keys = await ledger.open_keys(sorted(self._waiting_keys)[:KEYS_MAX])
            self._free_keys = set(self._waiting_keys)
            self._looked_s = looked_s
            asyncio.get_running_loop().call_later(NEXT_S, self._wake.set)
        keys = keys_with_room(self._free_keys, free, at_most=at_most)
        if not keys:
            return []
        taken = await ledger.claim_next(keys, worker=worker)
        self._free_keys = self._free_keys.difference(keys)
        for held in taken:
            free[held.subscription] -= 1
        return taken

    def _taker(self, subscription: str) -> Handle:
        async def arrived(incoming: Incoming) -> None:
            try:
                event_id = UUID(incoming.message_id)
            except ValueError:
                raise Refused(f"{incoming.message_id!r} is not the id of an event.") from None
            self._heard_s[subscription] = time.monotonic()
            waiting = self._told.setdefault(subscription, {})
            if event_id in waiting:
                return
            told = Told(event_id, time.monotonic(), asyncio.get_running_loop().create_future())
            waiting[event_id] = told
            self._wake.set()
            try:
                await told.settled
            finally:
                del waiting[event_id]

        return arrived
