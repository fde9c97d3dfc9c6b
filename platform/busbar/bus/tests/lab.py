"""A handler's lane with a real worker on a real ledger, and an effect that can be counted."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from busbar.auth.actor import Context
from busbar.bus.embedded import EmbeddedTransport
from busbar.bus.handlers import HandlerLane
from busbar.bus.transport import Transport
from busbar.bus.worker import Lane, Worker
from busbar.db import execute, fetch, spawn
from busbar.db.wakeup import Channel, poke
from busbar.events import ledger
from busbar.events.envelope import StoredEvent
from busbar.events.subscriptions import Handler
from busbar.events.tests.facts import a_relay, a_subscription, tell
from busbar.kit.clock import Clock, utc_now

LANE = "tst.reader"


def an_hour_ago() -> datetime:
    """A clock that is slow, so that every retry is due at once."""
    return utc_now() - timedelta(hours=1)


async def have_effect(ctx: Context, event: StoredEvent) -> None:
    await execute(
        "insert into public.effect (subject, correlation_id) values ($1, $2)", event.subject, ctx.correlation_id
    )


@asynccontextmanager
async def working(
    handler: Handler,
    *,
    number: int = 1,
    quarantined: Callable[[str], bool] = lambda name: False,
    clock: Clock = an_hour_ago,
    transport: Transport | None = None,
) -> AsyncIterator[Worker]:
    """A worker that runs the handler for everything that the module tells, for the time of the block."""
    lane = HandlerLane(a_subscription(LANE, handler=handler), clock=clock, quarantined=quarantined)
    lanes: Mapping[str, Lane] = {LANE: lane}
    worker = Worker(transport or EmbeddedTransport(), lambda: lanes, number=number)
    task = spawn(worker.run(), name=f"worker-{number}", pool="background")
    try:
        yield worker
    finally:
        await worker.stop(within_s=5)
        task.cancel()
        await asyncio.wait([task])


async def relay_facts(*subjects: str) -> None:
    for n, subject in enumerate(subjects):
        await tell(n, subject=subject, correlation_id=f"c-{subject}")
    await a_relay(a_subscription(LANE)).move_batch()
    poke(Channel.DELIVERIES)


async def all_finished() -> None:
    """Wait until every delivery is delivered, parked or skipped."""
    async with asyncio.timeout(30):
        while await ledger.open_count():
            await asyncio.sleep(0.01)


async def effects() -> list[str]:
    """The subjects of the events that had their effect, in order."""
    return [row["subject"] for row in await fetch("select subject from public.effect order by n")]
