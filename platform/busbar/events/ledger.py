"""The ledger of deliveries: claim, outcome, give back. It is the truth; a broker only carries its messages.

    pending ──► in_flight ──► delivered
                 │  ▲  └────► dead        (replay: dead ──► pending)
                 ▼  │
               retrying                    skipped: a rule said no

A delivery that is in flight is held by a worker, and by its lease; once it is handed over to another runner, by its
lease alone, for that runner goes on when the worker is gone.

A delivery whose worker is lost may be what ended it. After `RISKY_LOST` such attempts in a row it is risky: a worker
takes it with nothing else at work, so that it takes nothing with it, and after `LOST_MAX` it is dead.

At every moment: deliveries = delivered + skipped + pending + retrying + in_flight + dead, and nothing is removed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from busbar.db import fetch, fetchval
from busbar.db.wakeup import WORKER_GONE
from busbar.events import ledger_statements as sql
from busbar.events.envelope import StoredEvent, stored

HANDOVER_LEASE_S = 600
"""After so long without an outcome another runner is taken to have lost what was handed over to it."""
HANDING_OVER_S = 30
"""So long the handing over itself may take; a process that dies in it leaves nothing waiting for longer."""


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that this worker holds."""

    delivery_id: int
    subscription: str
    ordering_key: str | None
    endpoint_id: str | None
    route_id: str | None
    site_id: str
    attempt: int
    charged: int
    worker: int
    document: msgspec.Raw | None
    event: StoredEvent
    claimed_at: datetime


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended: `delivered`, `retrying`, `dead`, `skipped`, or `pending` when it was given back unused.

    `in_flight`: it has not ended, and another runner that it was handed over to will tell.
    """

    state: str
    detail: str | None = None
    remote_id: str | None = None
    retry_at: datetime | None = None
    charge: bool = True
    """Whether the attempt counts towards the limit."""
    uncertain: bool = True
    """Whether the remote may have it, though the attempt did not end well."""
    runner: str = "busbar"
    """Who tried: `busbar` or `camel`."""
    started_at: datetime | None = None
    """Since when it tried; None for the time of the claim."""
    finished_at: datetime | None = None
    """Until when; None for now."""


class WithRunner(msgspec.Struct, frozen=True, kw_only=True):
    """The deliveries of one endpoint that were handed over and have no outcome yet."""

    count: int
    oldest_s: float
    """How long the oldest of them is under way."""


async def claim(
    free_by_lane: Mapping[str, int], *, worker: int, late_s: float = 0.0, at_most: int | None = None
) -> list[Claimed]:
    """Take deliveries that are due, up to so many for each subscription and in all, oldest first.

    A delivery waits while an earlier one of the same subscription and ordering key is not finished. One that was never
    tried is taken only when it is `late_s` seconds overdue: before that, something else brings it.
    """
    rows = await fetch(sql.CLAIM_DUE, worker, list(free_by_lane), list(free_by_lane.values()), late_s, at_most)
    return _claimed(rows)


async def claim_told(told: Sequence[tuple[str, UUID]], *, worker: int) -> list[Claimed]:
    """Take the deliveries of these subscriptions and events, so far as they are due and wait for none before them."""
    rows = await fetch(sql.CLAIM_TOLD, worker, [name for name, _ in told], [event_id for _, event_id in told])
    return _claimed(rows)


async def claim_next(finished: Sequence[tuple[str, str]], *, worker: int) -> list[Claimed]:
    """Take the next delivery of each of these subscriptions and ordering keys, where there is one that is due."""
    rows = await fetch(sql.CLAIM_NEXT, worker, [name for name, _ in finished], [key for _, key in finished])
    return _claimed(rows)


async def has_risky(subscriptions: Sequence[str]) -> bool:
    """Whether there is a risky delivery to be tried alone."""
    return bool(await fetchval(sql.HAS_RISKY, list(subscriptions)))


async def claim_risky(subscriptions: Sequence[str], *, worker: int) -> Claimed | None:
    """Take the oldest risky delivery that is due; the worker must have nothing else at work until it has ended."""
    return next(iter(_claimed(await fetch(sql.CLAIM_RISKY, worker, list(subscriptions)))), None)


async def waiting_keys(told: Sequence[tuple[str, UUID]]) -> set[tuple[str, str]]:
    """The subscription and ordering key of those of these deliveries that still wait to be tried for the first time."""
    rows = await fetch(sql.WAITING_KEYS, [name for name, _ in told], [event_id for _, event_id in told])
    return {(row["subscription"], row["ordering_key"]) for row in rows}


async def open_keys(keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of these subscriptions and ordering keys that still have a delivery to be claimed."""
    rows = await fetch(sql.OPEN_KEYS, [name for name, _ in keys], [key for _, key in keys])
    return {(row["subscription"], row["ordering_key"]) for row in rows}


def _claimed(rows: Sequence[asyncpg.Record]) -> list[Claimed]:
    claimed = [
        Claimed(
            delivery_id=row["delivery_id"],
            subscription=row["subscription"],
            ordering_key=row["ordering_key"],
            endpoint_id=row["endpoint_id"],
            route_id=row["route_id"],
            site_id=row["site_id"],
            attempt=row["attempts"],
            charged=row["charged"],
            worker=row["worker"],
            document=None if row["document"] is None else msgspec.Raw(row["document"].encode()),
            event=stored(row),
            claimed_at=row["claimed_at"],
        )
        for row in rows
    ]
    return sorted(claimed, key=lambda delivery: delivery.event.position or 0)


async def settle(outcomes: Sequence[tuple[Claimed, Outcome]]) -> set[int]:
    """Write the outcomes of attempts; returns the deliveries for which this worker still held the attempt.

    An outcome is refused when the attempt was taken over meanwhile: whoever holds it now tells how it ends. One that
    was handed over is written when its runner has told; nothing is to be written now.
    """
    ended = [(held, outcome) for held, outcome in outcomes if outcome.state != "in_flight"]
    others = {held.delivery_id for held, outcome in outcomes if outcome.state == "in_flight"}
    if not ended:
        return others
    rows = await fetch(
        sql.SETTLE,
        [held.delivery_id for held, _ in ended],
        [held.worker for held, _ in ended],
        [held.attempt for held, _ in ended],
        [outcome.state for _, outcome in ended],
        [outcome.detail for _, outcome in ended],
        [outcome.remote_id for _, outcome in ended],
        [outcome.retry_at for _, outcome in ended],
        [outcome.charge for _, outcome in ended],
        [outcome.started_at or held.claimed_at for held, outcome in ended],
        [outcome.finished_at for _, outcome in ended],
        [outcome.runner for _, outcome in ended],
        [outcome.uncertain for _, outcome in ended],
    )
    return others | {row["delivery_id"] for row in rows}


async def hand_over(held: Sequence[Claimed], *, lease_s: int = HANDOVER_LEASE_S) -> set[int]:
    """Hold these for another runner, for `lease_s` seconds from now; returns those whose attempt had not ended.

    From now on the end of the worker gives nothing back; an outcome does, or the end of the lease.
    """
    rows = await fetch(
        sql.HAND_OVER,
        [each.delivery_id for each in held],
        [each.worker for each in held],
        [each.attempt for each in held],
        lease_s,
    )
    return {row["delivery_id"] for row in rows}


async def handed_over(attempts: Sequence[tuple[int, int]]) -> dict[int, Claimed]:
    """Of these deliveries and attempts those that another runner still has, by delivery."""
    rows = await fetch(sql.HANDED_OVER, [delivery for delivery, _ in attempts], [attempt for _, attempt in attempts])
    return {held.delivery_id: held for held in _claimed(rows)}


async def with_runners() -> dict[str, WithRunner]:
    """What other runners have now, by endpoint."""
    rows = await fetch(sql.WITH_RUNNERS)
    return {row["endpoint_id"]: WithRunner(count=row["count"], oldest_s=row["oldest_s"]) for row in rows}


async def suspects() -> set[int]:
    """Workers that hold deliveries and whose process seems gone."""
    rows = await fetch(
        "select distinct worker from core.delivery "
        f"where state = 'in_flight' and handed_over_at is null and {WORKER_GONE}"
    )
    return {row["worker"] for row in rows}


async def take_over(workers: set[int]) -> int:
    """Give back what the gone workers held, and every attempt whose lease has run out; returns how many.

    What was lost for the `LOST_MAX`-th time in a row is dead instead.
    """
    return len(await fetch(sql.TAKE_OVER, sorted(workers)))


async def open_count() -> int:
    """How many deliveries are not finished."""
    count = await fetchval("select count(*) from core.delivery where state in ('pending', 'retrying', 'in_flight')")
    return int(count)


async def release(worker: int) -> None:
    """Give back, uncharged, everything that a stopping worker still holds."""
    await fetch(sql.RELEASE, worker)
