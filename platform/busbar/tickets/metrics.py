"""The gauges of tickets: how many by status, and how many near or past their deadline (SPEC R6.1)."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from busbar.db import fetch
from busbar.kit.clock import Clock
from busbar.observability.metrics import SLA_AT_RISK, TICKET_COUNT_BY_STATUS, Reading, register_collector

AT_RISK: Final = timedelta(hours=1)
"""A ticket whose deadline is less than this away, and which is not finished or on hold, is at risk."""

_BY_STATUS = "select module, status, count(*) as tickets from core.ticket group by module, status"
_BY_DEADLINE = """
select module, case when sla_deadline < $1 then 'breached' else 'at_risk' end as state, count(*) as tickets
from core.ticket where status not in ('Closed', 'Cancelled') and not on_hold and sla_deadline < $2
group by 1, 2
"""


def register_ticket_metrics(clock: Clock) -> None:
    """Let `/metrics` show the tickets."""

    async def collect() -> Iterable[Reading]:
        by_status = [
            Reading(
                family=TICKET_COUNT_BY_STATUS.name,
                value=row["tickets"],
                labels={"module": row["module"], "status": row["status"]},
            )
            for row in await fetch(_BY_STATUS)
        ]
        now = clock()
        by_deadline = [
            Reading(
                family=SLA_AT_RISK.name, value=row["tickets"], labels={"module": row["module"], "state": row["state"]}
            )
            for row in await fetch(_BY_DEADLINE, now, now + AT_RISK)
        ]
        return [*by_status, *by_deadline]

    register_collector("tickets", collect, families=(TICKET_COUNT_BY_STATUS, SLA_AT_RISK))
