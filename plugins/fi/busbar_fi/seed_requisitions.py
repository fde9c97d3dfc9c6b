"""Demo data: decides the requests for approval that came of demo requisitions, once they are there."""

from collections.abc import Mapping
from typing import Final

from busbar.sdk import Context, fetch
from busbar_fi import decisions

DECISIONS: Final[Mapping[str, str | None]] = {
    "Meters that leave calibration this year": None,
    "Winter stock": None,
    "Terminations for the ring at the mill": None,
    "Joints for five years": "We buy for a year at a time.",
}
"""By the justification of the requisition: why it is rejected, or None where it is approved."""

_WAITING: Final = """
select r.approval_id, split_part(r.justification, E'\\n', 1) as reason, l.approver
from fi.approval_request r join fi.approval_level l on l.approval_id = r.approval_id and l.level = r.level
where r.site_id = $1 and r.status = 'pending' and r.subject_kind = 'requisition'
    and split_part(r.justification, E'\\n', 1) = any($2) and l.approver = any($3)
order by r.created_at
"""


async def decide_requisitions(site_id: str, deciders: Mapping[str, Context]) -> None:
    """Decide what waits of the demo requisitions, level by level; `deciders` act where their name stands in a rule."""
    while waiting := await fetch(_WAITING, site_id, list(DECISIONS), list(deciders)):
        for row in waiting:
            refusal = DECISIONS[row["reason"]]
            if refusal is None:
                await decisions.approve(
                    deciders[row["approver"]], row["approval_id"], comment="Within this year's plan."
                )
            else:
                await decisions.reject(deciders[row["approver"]], row["approval_id"], comment=refusal)
