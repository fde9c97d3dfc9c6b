"""Reminders: a level that has not decided within the site's hours is reminded, once in each such interval."""

from datetime import timedelta
from typing import Final
from uuid import UUID

import msgspec

from busbar.sdk import SITES, Context, execute, fetch, fetchrow, publish, ticket_reference, transaction
from busbar_fi import approvals
from busbar_fi.approval_rules import REMIND_AFTER_H
from busbar_fi.events import ApprovalReminded

BATCH_MAX: Final = 500
"""Requests that one run reminds of; the next run goes on."""

_DUE_WHERE: Final = f"""
a.status = 'pending' and coalesce(a.reminded_at, a.waiting_since)
    <= $1::timestamptz - make_interval(hours => coalesce(p.remind_after_h, {REMIND_AFTER_H}))
"""
_DUE: Final = f"""
select a.approval_id from fi.approval_request a left join fi.approval_policy p using (site_id)
where {_DUE_WHERE} and a.site_id = any($2) order by a.waiting_since limit {BATCH_MAX}
"""
_STILL_DUE: Final = f"""
select a.* from fi.approval_request a left join fi.approval_policy p using (site_id)
where {_DUE_WHERE} and a.approval_id = $2 for update of a skip locked
"""


async def remind(ctx: Context) -> None:
    """Remind of every request that waits for too long. What somebody is deciding just now is left alone."""
    for row in await fetch(_DUE, ctx.clock(), SITES.sites_with("fi")):
        await _remind_of(ctx, row["approval_id"])


async def _remind_of(ctx: Context, approval_id: UUID) -> None:
    now = ctx.clock()
    async with transaction():
        row = await fetchrow(_STILL_DUE, now, approval_id)
        if row is None:
            return
        # The reminder belongs to the case, and not to the run of the job that happened to make it.
        case = (await ticket_reference(ctx, row["ticket_id"])).correlation_id
        ctx = msgspec.structs.replace(ctx, correlation_id=case)
        await execute("update fi.approval_request set reminded_at = $2 where approval_id = $1", approval_id, now)
        levels = await approvals.levels_of(approval_id)
        waiting_for = levels[row["level"] - 1]["approver"]
        await approvals.note(ctx, row, "remind", details={"level": row["level"], "waiting_for": waiting_for})
        await publish(
            ctx,
            "FI_APPROVAL_REMINDED",
            subject=row["ticket_id"],
            site_id=row["site_id"],
            data=ApprovalReminded(
                ticket_id=row["ticket_id"],
                approval=approvals.facts_of(row, levels),
                waiting_for=waiting_for,
                waiting_h=(now - row["waiting_since"]) // timedelta(hours=1),
            ),
        )
