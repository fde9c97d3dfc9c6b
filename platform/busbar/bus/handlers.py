"""The lane of a plugin's handler: its effect and the ledger's row are one transaction, so the effect happens once.

Under load that transaction is shared: what waits at the same time is handled one after the other, settled by one
statement and committed once (decision 0018). A lane earns this by handling well and quickly; one failure undoes the
shared transaction, has each of its deliveries tried alone, and takes the trust away.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

import structlog

from busbar.auth.actor import Context, system_actor
from busbar.bus.suspension import WAIT_S_MAX, Suspension
from busbar.bus.worker import PER_LANE_MAX
from busbar.db import execute, transaction
from busbar.db.group_write import GroupWriter
from busbar.db.trouble import CONNECTION_LOST
from busbar.errors import BusbarError, Unavailable
from busbar.events import ledger
from busbar.events.ledger import Claimed, Outcome
from busbar.events.subscriptions import Subscription
from busbar.kit.backoff import delay_s
from busbar.kit.clock import Clock
from busbar.observability.correlation import correlated

log = structlog.get_logger()

ATTEMPTS_MAX: Final = 8
TIMEOUT_S: Final = 30.0
"""So long a handler may take; below the lease, and below the time after which the server ends an idle transaction."""
TRUSTED_AFTER: Final = 32
"""So many deliveries in a row a lane must have handled well and quickly, one by one, before they share transactions."""
QUICK_S: Final = 0.05
"""A handler that takes longer is better off side by side with others."""
HELD_MAX: Final = 128
"""Deliveries that a trusted lane holds: while some share a transaction, the next are claimed."""
SHARED_MAX: Final = 64
SHARED_S: Final = 0.03
"""A shared transaction begins with no further delivery after so long: others wait for the rows that it has locked."""
TURN_S: Final = 5.0
"""When trust is lost, what is held and cannot begin alone within this time is given back; well below the lease."""
SHARED_LOCK_MS: Final = 100
"""A shared transaction waits no longer for a lock: it holds those of several deliveries, in no order of its own. Longer
than another one lasts, or two that want the same row, such as a budget, would undo each other."""


class LeaseLost(Exception):
    """Another worker took the attempt over meanwhile; this one's effect is undone."""


class HandlerLane:
    """Runs a plugin's handler."""

    def __init__(self, subscription: Subscription, *, clock: Clock, quarantined: Callable[[str], bool]) -> None:
        self._subscription = subscription
        self._clock = clock
        self._quarantined = quarantined
        self._handled_well = 0
        self._suspension = Suspension(subscription.name, clock=clock)
        self._turns = asyncio.Semaphore(PER_LANE_MAX)
        self._together: GroupWriter[Claimed, bool | None] = GroupWriter(
            self._share, name=subscription.name, batch_max=SHARED_MAX, pool="background"
        )

    def free(self, running: int) -> int:
        if self._quarantined(self._subscription.module) or self._suspension.resting:
            return 0
        return (HELD_MAX if self._trusted else PER_LANE_MAX) - running

    async def attempt(self, held: Claimed) -> Outcome | None:
        while self._trusted:
            done = await self._together.submit(held)
            if done:
                return None
            if done is False:
                break
        try:
            async with asyncio.timeout(TURN_S):
                await self._turns.acquire()
        except TimeoutError:
            return Outcome(state="pending", detail="given back: its turn did not come in time", charge=False)
        try:
            started_s = time.monotonic()
            outcome = await self._alone(held)
            await self._suspension.tell()
            good = outcome is None and time.monotonic() - started_s < QUICK_S
            self._handled_well = self._handled_well + 1 if good else 0
            return outcome
        finally:
            self._turns.release()

    @property
    def _trusted(self) -> bool:
        return self._handled_well >= TRUSTED_AFTER

    async def _share(self, batch: Sequence[Claimed]) -> Sequence[bool | None]:
        """Handle in one transaction what fits into `SHARED_S`.

        True for what is done, None for what had no turn, False for all when nothing has happened.
        """
        if len(batch) == 1:
            return [False]
        done: list[Claimed] = []
        try:
            async with asyncio.timeout(TIMEOUT_S), transaction():
                await execute(f"set local lock_timeout = {SHARED_LOCK_MS}")
                began_s = time.monotonic()
                for held in batch:
                    with correlated(held.event.correlation_id, traceparent=held.event.traceparent):
                        await self._handle(held)
                    done.append(held)
                    if time.monotonic() - began_s > SHARED_S:
                        break
                if len(await ledger.settle([(held, Outcome(state="delivered")) for held in done])) < len(done):
                    raise LeaseLost
        except Exception as error:  # noqa: BLE001 - whose fault it is, shows when each is tried alone
            log.info("not_handled_together", subscription=self._subscription.name, count=len(batch), error=repr(error))
            self._handled_well = 0
            return [False] * len(batch)
        self._suspension.handled()
        if time.monotonic() - began_s > QUICK_S * len(done):
            self._handled_well = 0
        return [True if n < len(done) else None for n in range(len(batch))]

    async def _handle(self, held: Claimed) -> None:
        event = held.event
        ctx = Context(
            actor=system_actor(self._subscription.module),
            correlation_id=event.correlation_id,
            clock=self._clock,
            traceparent=event.traceparent,
        )
        await self._subscription.handler(ctx, event)

    async def _alone(self, held: Claimed) -> Outcome | None:
        try:
            async with asyncio.timeout(TIMEOUT_S), transaction():
                await self._handle(held)
                if not await ledger.settle([(held, Outcome(state="delivered"))]):
                    raise LeaseLost
        except LeaseLost:
            return Outcome(state="retrying", detail="taken over by another worker", charge=False)
        except Unavailable as error:
            return self._again(held, error.detail, charge=False)
        except BusbarError as error:
            # A rule said no, and would say so again.
            self._suspension.handled()
            return Outcome(state="dead", detail=f"{error.code}: {error.detail}")
        except CONNECTION_LOST as error:
            return self._again(held, f"database: {error!r}", charge=False)
        except TimeoutError:
            return self._failed(held, f"took longer than {TIMEOUT_S:g} s")
        except Exception as error:  # noqa: BLE001 - written to the ledger, and logged
            # Any other trouble with the database too: a statement that it refuses is the handler's fault.
            return self._failed(held, repr(error), error=error)
        self._suspension.handled()
        return None

    def _failed(self, held: Claimed, detail: str, *, error: Exception | None = None) -> Outcome:
        if self._suspension.failed(held.delivery_id, detail):
            return self._again(held, detail, charge=False, max_s=WAIT_S_MAX)
        log.error("handler_failed", subscription=self._subscription.name, detail=detail, exc_info=error)
        if held.charged + 1 >= ATTEMPTS_MAX:
            return Outcome(state="dead", detail=detail)
        return self._again(held, detail, charge=True)

    def _again(self, held: Claimed, detail: str, *, charge: bool, max_s: float = 300) -> Outcome:
        wait = delay_s(held.attempt, first_s=0.5, max_s=max_s)
        return Outcome(state="retrying", detail=detail, retry_at=self._clock() + timedelta(seconds=wait), charge=charge)
