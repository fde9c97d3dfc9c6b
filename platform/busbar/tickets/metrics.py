"""The gauges of tickets: how many by status, and how many near or past their deadline (SPEC R6.1)."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Final

from busbar.db import fetch
from busbar.kit.clock import Clock
from busbar.observability.metrics import SLA_AT_RISK, TICKET_COUNT_BY_STATUS, GaugeFamily, Reading, register_collector
from busbar.tickets.lifecycle import STATUSES

AT_RISK: Final = timedelta(hours=1)
"""A ticket whose deadline is less than this away, and which is not finished or on hold, is at risk."""

_BY_STATUS = "select module, status, count(*) as tickets from core.ticket group by module, status"
_BY_DEADLINE = """
select module, case when sla_deadline < $1 then 'breached' else 'at_risk' end as state, count(*) as tickets
from core.ticket where status not in ('Closed', 'Cancelled') and not on_hold and sla_deadline < $2
group by 1, 2
"""
_RISKS: Final = ("at_risk", "breached")


def register_ticket_metrics(clock: Clock) -> None:
    """Let `/metrics` show the tickets."""

    async def collect() -> Iterable[Reading]:
        by_status = {(row["module"], row["status"]): row["tickets"] for row in await fetch(_BY_STATUS)}
        now = clock()
        rows = await fetch(_BY_DEADLINE, now, now + AT_RISK)
        by_deadline = {(row["module"], row["state"]): row["tickets"] for row in rows}
        # A value that falls to nothing is shown as 0: one that is missing looks like a gap, and alarms do not end.
        modules = sorted({module for module, _ in by_status})
        return [
            *_readings(TICKET_COUNT_BY_STATUS, "status", by_status, itertools.product(modules, STATUSES)),
            *_readings(SLA_AT_RISK, "state", by_deadline, itertools.product(modules, _RISKS)),
        ]

    register_collector("tickets", collect, families=(TICKET_COUNT_BY_STATUS, SLA_AT_RISK))


def _readings(
    family: GaugeFamily, label: str, found: Mapping[tuple[str, str], int], shown: Iterable[tuple[str, str]]
) -> Iterator[Reading]:
    for module, value in shown:
        yield Reading(family=family.name, value=found.get((module, value), 0), labels={"module": module, label: value})
