"""What is known of an incident changes: its severity, who is affected, and who has supply again (SPEC R2.3, R2.4)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from busbar.sdk import (
    ANY_VERSION,
    Context,
    FieldError,
    IfMatch,
    InvalidPayload,
    NotFound,
    RuleViolated,
    execute,
    fetchrow,
    module_scope,
    publish,
    record,
    set_priority,
    transaction,
)
from busbar_pm.events import IncidentFacts, IncidentUpdated, Severity
from busbar_pm.failure_codes import CODE_GROUPS, require_codes
from busbar_pm.incidents import FUTURE_MAX


class RestorationStep(msgspec.Struct, frozen=True, kw_only=True):
    """So many customers have supply again from this moment on."""

    restored_at: datetime
    customers_restored: int
    note: str | None = None


async def change(
    ctx: Context,
    incident_id: UUID,
    *,
    description: str | None = None,
    severity: Severity | None = None,
    customers_affected: int | None = None,
    steps: Sequence[RestorationStep] = (),
    codes: Mapping[str, str] | None = None,
    expected: IfMatch = ANY_VERSION,
) -> int:
    """Change what is known of an incident, all at once; returns its new version.

    `codes` say what had failed, by group.

    The severity changes the ticket's priority, not its deadline: that was promised when it was opened.

    When all affected customers are restored, `restored_at` of the incident is the last step's.

    Raises:
        NotFound: there is no such incident at the actor's sites.
        StaleVersion: somebody else changed it meanwhile.
        InvalidPayload: a step lies before the outage, or in the future; or a code is not in the catalogue.
        RuleViolated: more customers would be restored than are affected, or fewer affected than have been restored;
            or it is restored and no outage.
    """
    async with transaction():
        incident = await _lock(ctx, incident_id, expected)
        new: dict[str, Any] = {
            "description": description,
            "severity": severity,
            "customers_affected": customers_affected,
        }
        if codes:
            await require_codes(codes)
            new |= codes
        changed = tuple(name for name, value in new.items() if value is not None and value != incident[name])
        if not changed and not steps:
            return int(incident["version"])
        merged = dict(incident) | {name: new[name] for name in changed}
        if merged["customers_affected"] < incident["customers_restored"]:
            raise RuleViolated(f"{incident['customers_restored']} customers have been restored already.")
        if 0 < incident["customers_restored"] == incident["customers_affected"] < merged["customers_affected"]:
            # More were affected than those who have been restored: some are without supply still.
            merged["restored_at"] = None
        await execute(
            "update pm.incident set description = $2, severity = $3, customers_affected = $4, restored_at = $5, "
            f"{', '.join(f'{group} = ${n}' for n, group in enumerate(CODE_GROUPS, start=6))} where incident_id = $1",
            incident_id,
            merged["description"],
            merged["severity"],
            merged["customers_affected"],
            merged["restored_at"],
            *(merged[group] for group in CODE_GROUPS),
        )
        if "severity" in changed:
            await set_priority(ctx, incident["ticket_id"], priority=merged["severity"])
        if steps:
            await _add_steps(ctx, merged, steps)
            changed = (*changed, "restoration")
        await _settle(merged)
        return await _tell_update(ctx, merged, changed)


_FIND = """
select i.*, a.name as asset_name, a.asset_type, a.latitude, a.longitude, coalesce(
    (select sum(s.customers_restored) from pm.restoration_step s where s.incident_id = i.incident_id), 0
)::int as customers_restored
from pm.incident i join pm.asset a using (asset_id) where i.incident_id = $1 and i.site_id = any($2)
"""


async def _lock(ctx: Context, incident_id: UUID, expected: IfMatch) -> dict[str, Any]:
    ctx.require("pm.write")
    row = await fetchrow(f"{_FIND} for update of i", incident_id, await module_scope(ctx, "pm"))
    if row is None:
        raise NotFound(f"There is no incident {incident_id}.")
    expected.require(row["version"])
    return dict(row)


async def _add_steps(ctx: Context, incident: dict[str, Any], steps: Sequence[RestorationStep]) -> None:
    if incident["fault_type"] != "outage":
        raise RuleViolated("Only an outage is restored; this is no outage.")
    latest = ctx.clock() + FUTURE_MAX
    errors = [
        FieldError(field=f"steps[{n}].restored_at", message="lies before the outage, or in the future")
        for n, step in enumerate(steps)
        if not incident["started_at"] <= step.restored_at <= latest
    ]
    if errors:
        raise InvalidPayload("A restoration step has a wrong time.", errors=errors)
    restored = incident["customers_restored"] + sum(step.customers_restored for step in steps)
    if restored > incident["customers_affected"]:
        raise RuleViolated(
            f"{restored} customers would be restored, but only {incident['customers_affected']} are affected."
        )
    await execute(
        """insert into pm.restoration_step (incident_id, step, restored_at, customers_restored, note)
        select $1, n + (select count(*) from pm.restoration_step where incident_id = $1), at, customers, note
        from unnest($2::timestamptz[], $3::int[], $4::text[]) with ordinality as s (at, customers, note, n)""",
        incident["incident_id"],
        [step.restored_at for step in steps],
        [step.customers_restored for step in steps],
        [step.note for step in steps],
    )
    incident["customers_restored"] = restored


async def _settle(incident: dict[str, Any]) -> None:
    """An outage whose customers are all restored was over with the last step."""
    if not 0 < incident["customers_restored"] == incident["customers_affected"]:
        return
    last = "select max(restored_at) from pm.restoration_step where incident_id = $1"
    row = await fetchrow(
        f"update pm.incident set restored_at = ({last}) where incident_id = $1 returning restored_at",
        incident["incident_id"],
    )
    assert row is not None, "the incident is locked"
    incident["restored_at"] = row["restored_at"]


async def _tell_update(ctx: Context, incident: dict[str, Any], changed: tuple[str, ...]) -> int:
    now = ctx.clock()
    await execute(
        "update pm.incident set version = version + 1, updated_at = $2 where incident_id = $1",
        incident["incident_id"],
        now,
    )
    await record(
        ctx,
        action="incident.change",
        object_kind="ticket",
        object_id=incident["ticket_id"],
        site_id=incident["site_id"],
        details={"incident_id": str(incident["incident_id"]), "changed": list(changed)},
    )
    await publish(
        ctx,
        "PM_INCIDENT_UPDATED",
        subject=incident["ticket_id"],
        site_id=incident["site_id"],
        time=now,
        data=IncidentUpdated(
            ticket_id=incident["ticket_id"],
            description=incident["description"],
            changed=changed,
            incident=IncidentFacts(
                incident_id=str(incident["incident_id"]),
                **{name: incident[name] for name in IncidentFacts.__struct_fields__ if name != "incident_id"},
            ),
        ),
    )
    return int(incident["version"]) + 1
