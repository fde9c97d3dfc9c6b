"""What service levels do by the clock, in one process at a time."""

from typing import Final

from busbar.auth.actor import Context
from busbar.bus.jobs import Job
from busbar.tickets.retargeting import settle_all
from busbar.tickets.sla_alerts import tell_alerts


async def _run(ctx: Context) -> None:
    # Classes first: a ticket that is in a weather event must not be told by the targets of the other class.
    await settle_all(ctx)
    await tell_alerts(ctx)


SLA_JOB: Final = Job(name="core.sla", module="core", every_s=10, run=_run)
