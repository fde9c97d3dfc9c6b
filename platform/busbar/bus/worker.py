"""The worker: takes deliveries, runs their attempts side by side, writes the outcomes to the ledger."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from busbar.bus.attempts import count_attempt, worker_running
from busbar.bus.transport import Transport
from busbar.db import DATABASE_TROUBLE, spawn
from busbar.db.group_write import GroupWriter
from busbar.db.wakeup import wait_for
from busbar.events import ledger, ledger_statements
from busbar.events.ledger import Claimed, Outcome
from busbar.kit.backoff import delay_s
from busbar.kit.clock import Clock, utc_now
from busbar.kit.crash import crash_point
from busbar.observability.correlation import correlated

log = structlog.get_logger()

POLL_S = 1.0
RUNNING_MAX = 256
PER_LANE_MAX = 16
RISKY_S = 2.0
"""So often a worker looks for deliveries that must be tried alone, and so long it goes on with them."""


class Lane(Protocol):
    """Where the deliveries of one subscription are worked on."""

    def free(self, running: int) -> int:
        """How many more attempts may start now, when `running` are under way; 0 while paused."""

    async def attempt(self, held: Claimed) -> Outcome | None:
        """Try once; None when the outcome has been written together with the effect. Must not raise."""


class Worker:
    """Runs attempts; `number` names this process in the ledger and in the lock that its listener holds."""

    def __init__(
        self,
        transport: Transport,
        lanes: Callable[[], Mapping[str, Lane]],
        *,
        number: int,
        clock: Clock = utc_now,
    ) -> None:
        self._transport = transport
        self._lanes = lanes
        self._number = number
        self._clock = clock
        self._running: dict[asyncio.Task[None], Claimed] = {}
        self._stopping = False
        self._risky_s = time.monotonic()
        self._settle: GroupWriter[tuple[Claimed, Outcome], bool] = GroupWriter(
            self._write_outcomes, name="outcomes", batch_max=128, waiting_max=10_000, flushers=1, pool="background"
        )

    async def run(self) -> None:
        """Work until cancelled or stopped."""
        with self._transport.work_signal() as there_is_work, worker_running.track_inprogress():
            self._wake = there_is_work
            while not self._stopping:
                try:
                    taken = await self._take_risky() or await self._take()
                except DATABASE_TROUBLE as error:
                    log.warning("worker_round_failed", error=str(error) or repr(error))
                    await asyncio.sleep(POLL_S / 2)
                    continue
                if not taken:
                    await wait_for(there_is_work, poll_s=POLL_S)

    async def stop(self, *, within_s: float) -> None:
        """Take nothing new, let what runs finish for so long, and give the rest back."""
        self._stopping = True
        if self._running:
            await asyncio.wait(list(self._running), timeout=within_s)
        left = [task for task in self._running if not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=2)
        await ledger.release(self._number)

    async def _take(self) -> int:
        room = RUNNING_MAX - len(self._running)
        running = Counter(held.subscription for held in self._running.values())
        lanes = self._lanes()
        free = {name: min(room, lane.free(running[name])) for name, lane in lanes.items()}
        open_lanes = [name for name, count in free.items() if count > 0]
        if not open_lanes:
            return 0
        random.shuffle(open_lanes)  # where all have much to do, none is always the last
        held = await self._transport.take({name: free[name] for name in open_lanes}, worker=self._number, at_most=room)
        for one in held:
            self._start(lanes[one.subscription], one)
        return len(held)

    async def _take_risky(self) -> int:
        """Try what has lost its worker before, one by one with nothing else at work; returns how many.

        If it is what ends processes it takes nothing else with it, and the ledger parks it.
        """
        if time.monotonic() - self._risky_s < RISKY_S:
            return 0
        tried = 0
        lanes = {name: lane for name, lane in self._lanes().items() if lane.free(0) > 0}
        if await ledger.has_risky(list(lanes)):
            await self._nothing_at_work()
            until_s = time.monotonic() + RISKY_S
            while not self._stopping and time.monotonic() < until_s:
                one = await ledger.claim_risky(list(lanes), worker=self._number)
                if one is None:
                    break
                log.warning("tried_alone", delivery_id=one.delivery_id, subscription=one.subscription)
                self._start(lanes[one.subscription], one)
                await self._nothing_at_work()
                tried += 1
        self._risky_s = time.monotonic()
        return tried

    async def _nothing_at_work(self) -> None:
        while self._running:
            await asyncio.wait(list(self._running))

    def _start(self, lane: Lane, held: Claimed) -> None:
        task = spawn(self._attempt(lane, held), name=f"delivery-{held.delivery_id}", pool="background")
        self._running[task] = held
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        held = self._running.pop(task)
        if not task.cancelled():  # one that is stopped is given back
            self._transport.done(held)
        self._wake.set()

    async def _attempt(self, lane: Lane, held: Claimed) -> None:
        crash_point("worker_after_claim")
        with correlated(held.event.correlation_id, traceparent=held.event.traceparent):
            outcome = await lane.attempt(held)
            state = "delivered"
            if outcome is not None:
                crash_point("worker_before_ledger")
                state = outcome.state if await self._write_outcome(held, outcome) else "taken over"
                crash_point("worker_after_ledger")
            count_attempt(held, state, now=self._clock())
            log.info(
                "delivery",
                delivery_id=held.delivery_id,
                subscription=held.subscription,
                event_id=str(held.event.event_id),
                event_type=held.event.event_type,
                attempt=held.attempt,
                state=state,
                detail=outcome.detail if outcome else None,
                remote_id=outcome.remote_id if outcome else None,
            )

    async def _write_outcome(self, held: Claimed, outcome: Outcome) -> bool:
        """Write it as soon as the database takes it, while the attempt is ours; whether it still was."""
        for attempt in itertools.count(1):
            try:
                return await self._settle.submit((held, outcome))
            except DATABASE_TROUBLE as error:
                if self._clock() - held.claimed_at > timedelta(seconds=ledger_statements.LEASE_S):
                    raise  # by now another worker may have it
                log.warning("outcome_not_written_yet", delivery_id=held.delivery_id, error=str(error) or repr(error))
            await asyncio.sleep(delay_s(attempt, first_s=0.1, max_s=2.0))
        raise AssertionError("the loop ends by return or raise")

    async def _write_outcomes(self, outcomes: Sequence[tuple[Claimed, Outcome]]) -> Sequence[bool]:
        settled = await ledger.settle(outcomes)
        return [held.delivery_id in settled for held, _ in outcomes]
