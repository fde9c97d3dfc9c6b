"""What `/metrics` shows of the outbox and the ledger (SPEC R6.1)."""

import itertools
import time
from collections.abc import Iterable, Iterator

from busbar.db import fetch, fetchrow
from busbar.events.deliveries import STATES
from busbar.observability.metrics import (
    DEAD_LETTER_AGE,
    DELIVERIES_BY_STATE,
    OUTBOX_LAG,
    OUTBOX_WAITING,
    SUBSCRIPTION_SUSPENDED,
    Reading,
    register_collector,
)

_OUTBOX = """
select count(*) as waiting,
    coalesce(extract(epoch from clock_timestamp() - min(time)), 0)::float8 as lag_s
from core.event where position is null
"""
_OPEN_AND_DEAD = """
select subscription, state, count(*) as count,
    coalesce(extract(epoch from clock_timestamp() - min(finished_at)), 0)::float8 as age_s
from core.delivery where state in ('pending', 'retrying', 'in_flight', 'dead') group by subscription, state
"""
_FINISHED = """
select subscription, state, count(*) as count
from core.delivery where state in ('delivered', 'skipped') group by subscription, state
"""
_SUSPENDED = "select name, suspended_at is not null as suspended from core.subscription order by name"
_KEPT_TIMES_COST = 20
"""Counting the finished deliveries takes longer as they grow; it is repeated after so many times as long."""


class LedgerReadings:
    """Reads the outbox and the ledger for the gauges."""

    def __init__(self) -> None:
        self._finished: dict[tuple[str, str], int] = {}
        self._finished_until_s = 0.0

    async def collect(self) -> Iterable[Reading]:
        """Lag and length of the outbox, deliveries by subscription and state, the oldest dead letter, who is suspended.

        In a large ledger the numbers of delivered and skipped ones may be a few seconds old.
        """
        outbox = await fetchrow(_OUTBOX)
        assert outbox is not None
        rows = await fetch(_OPEN_AND_DEAD)
        oldest_dead_s = max((row["age_s"] for row in rows if row["state"] == "dead"), default=0.0)
        return [
            Reading(family=OUTBOX_LAG.name, value=max(0.0, outbox["lag_s"])),
            Reading(family=OUTBOX_WAITING.name, value=outbox["waiting"]),
            *[
                Reading(
                    family=SUBSCRIPTION_SUSPENDED.name,
                    value=float(row["suspended"]),
                    labels={"subscription": row["name"]},
                )
                for row in await fetch(_SUSPENDED)
            ],
            Reading(family=DEAD_LETTER_AGE.name, value=max(0.0, oldest_dead_s)),
            *_by_state({(row["subscription"], row["state"]): row["count"] for row in rows} | await self._counted()),
        ]

    async def _counted(self) -> dict[tuple[str, str], int]:
        started_s = time.monotonic()
        if started_s >= self._finished_until_s:
            self._finished = {(row["subscription"], row["state"]): row["count"] for row in await fetch(_FINISHED)}
            cost_s = time.monotonic() - started_s
            self._finished_until_s = started_s + cost_s * _KEPT_TIMES_COST
        return self._finished


def register_ledger_metrics() -> None:
    """Let `/metrics` show the outbox and the ledger; call it once the database is open."""
    register_collector(
        "ledger",
        LedgerReadings().collect,
        families=(OUTBOX_LAG, OUTBOX_WAITING, DELIVERIES_BY_STATE, DEAD_LETTER_AGE, SUBSCRIPTION_SUSPENDED),
    )


def _by_state(found: dict[tuple[str, str], int]) -> Iterator[Reading]:
    """A state without deliveries is shown as 0: a value that is missing looks like a gap, and alarms do not end."""
    subscriptions = sorted({subscription for subscription, _ in found})
    for subscription, state in itertools.product(subscriptions, STATES):
        labels = {"subscription": subscription, "state": state}
        yield Reading(family=DELIVERIES_BY_STATE.name, value=found.get((subscription, state), 0), labels=labels)
