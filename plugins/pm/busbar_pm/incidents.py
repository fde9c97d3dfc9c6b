"""Incidents: faults, outages and degradations of assets (SPEC R2.3, R2.4); outages are restored in steps."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from busbar.sdk import (
    ACCEPTED_SITE,
    ANY_VERSION,
    Conflict,
    Context,
    FieldError,
    IfMatch,
    InvalidPayload,
    NewTicket,
    NotFound,
    OpenedTicket,
    Opening,
    RuleViolated,
    StoredEvent,
    TicketUpdated,
    execute,
    fetchrow,
    module_scope,
    publish,
    record,
    set_priority,
    transaction,
    uuid7,
)
from busbar_pm.events import FaultType, IncidentFacts, IncidentUpdated, Severity

FUTURE_MAX = timedelta(minutes=5)
"""How far ahead of ours the reporter's clock may be."""


class NewIncident(msgspec.Struct, frozen=True, kw_only=True):
    """A report that something is wrong with an asset."""

    asset_id: str
    fault_type: FaultType
    severity: Severity
    description: str
    started_at: datetime | None = None
    """When it began; now if left out."""
    customers_affected: int | None = None
    """For an outage, by default all customers served through the asset; else 0."""
    source_ref: str | None = None
    """The report's own id where it came from; the same one is not taken twice at a site."""
    restored_at: datetime | None = None
    """For reports of the past: when it was over. An outage is then restored in one step."""


class ReportedIncident(msgspec.Struct, frozen=True, kw_only=True):
    """What was opened."""

    incident_id: str
    ticket_id: str


class RestorationStep(msgspec.Struct, frozen=True, kw_only=True):
    """So many customers have supply again from this moment on."""

    restored_at: datetime
    customers_restored: int
    note: str | None = None


_CUSTOMERS = "coalesce(a.customers, case a.fault_type when 'outage' then asset.customers_served else 0 end)"
_OPENING = Opening(
    module="pm",
    event_type="PM_TICKET_CREATED",
    columns={
        "incident_id": "uuid",
        "asset_id": "text",
        "fault_type": "text",
        "started_at": "timestamptz",
        "customers": "int",
        "source_ref": "text",
        "restored_at": "timestamptz",
    },
    join="join pm.asset on asset.asset_id = a.asset_id",
    where=ACCEPTED_SITE.format(site="asset.site_id", module="pm"),
    computed={
        "site_id": "asset.site_id",
        "customers": _CUSTOMERS,
        "data": f"""a.data || jsonb_build_object('incident', a.data -> 'incident' || jsonb_build_object(
            'asset_name', asset.name, 'asset_type', asset.asset_type, 'latitude', asset.latitude,
            'longitude', asset.longitude, 'customers_affected', {_CUSTOMERS}, 'customers_restored',
            case when a.fault_type = 'outage' and a.restored_at is not null then {_CUSTOMERS} else 0 end))""",
    },
    own=[
        (
            "incident",
            """insert into pm.incident (incident_id, ticket_id, asset_id, fault_type, severity, description,
                started_at, restored_at, customers_affected, site_id, source_ref, created_at, updated_at)
            select incident_id, ticket_id, asset_id, fault_type, priority, description, started_at, restored_at,
                customers, site_id, source_ref, $2, $2 from opened""",
        ),
        (
            "restoration_step",
            """insert into pm.restoration_step (incident_id, step, restored_at, customers_restored)
            select incident_id, 1, restored_at, customers from opened
            where fault_type = 'outage' and restored_at is not null and customers > 0""",
        ),
    ],
)


async def report(ctx: Context, new: NewIncident) -> ReportedIncident:
    """Open an incident and its ticket; both, the audit entry and the event are one statement.

    Raises:
        NotFound: there is no such asset at the actor's sites, or plant maintenance is not enabled there.
        InvalidPayload: it begins or ends in the future, or ends before it begins.
        Conflict: the site has an incident with this `source_ref`.
        Unavailable: too many writes wait; nothing was written.
    """
    ctx.require("pm.write")
    now = ctx.clock()
    started_at = new.started_at or now
    check_times(started_at, new.restored_at, now=now)
    incident_id = uuid7()
    try:
        opened = await _open(ctx, new, incident_id, started_at)
    except asyncpg.UniqueViolationError:
        raise Conflict(f"There is an incident with the source reference {new.source_ref} already.") from None
    if opened is None:
        raise await _why_not(ctx, new.asset_id)
    return ReportedIncident(incident_id=str(incident_id), ticket_id=opened.ticket_id)


def check_times(started_at: datetime, restored_at: datetime | None, *, now: datetime) -> None:
    """Refuse an incident that cannot have been seen yet.

    Raises:
        InvalidPayload: naming the field.
    """
    error = None
    if started_at > now + FUTURE_MAX:
        error = FieldError(field="started_at", message="lies in the future")
    elif restored_at is not None and not started_at <= restored_at <= now + FUTURE_MAX:
        error = FieldError(field="restored_at", message="lies before the start, or in the future")
    if error is not None:
        raise InvalidPayload(f"The incident's {error.field} {error.message}.", errors=[error])


async def _open(ctx: Context, new: NewIncident, incident_id: UUID, started_at: datetime) -> OpenedTicket | None:
    return await _OPENING.open(
        ctx,
        NewTicket(
            ticket_type="Incident",
            title=_title(new),
            description=new.description,
            priority=new.severity,
            object_kind="incident",
            object_id=str(incident_id),
        ),
        facts={
            "incident": {
                "incident_id": incident_id,
                "asset_id": new.asset_id,
                "fault_type": new.fault_type,
                "severity": new.severity,
                "started_at": started_at,
                "restored_at": new.restored_at,
            }
        },
        values=(
            incident_id,
            new.asset_id,
            new.fault_type,
            started_at,
            new.customers_affected,
            new.source_ref,
            new.restored_at,
        ),
    )


def _title(new: NewIncident) -> str:
    first_line = new.description.strip().split("\n", 1)[0]
    return f"{new.fault_type.capitalize()} at {new.asset_id}: {first_line}"[:200]


async def _why_not(ctx: Context, asset_id: str) -> NotFound:
    row = await fetchrow("select site_id from pm.asset where asset_id = $1", asset_id)
    if row is None or not ctx.actor.sees_site(row["site_id"]):
        return NotFound(f"There is no asset {asset_id}.")
    return NotFound(f"The module pm is not enabled at the site {row['site_id']}; an administrator can enable it.")


async def restore(
    ctx: Context, incident_id: UUID, steps: Sequence[RestorationStep], *, expected: IfMatch = ANY_VERSION
) -> int:
    """Note that customers have supply again, in one or more steps; returns the incident's new version.

    When all affected customers are restored, `restored_at` of the incident is the last step's.

    Raises:
        NotFound: there is no such incident at the actor's sites.
        StaleVersion: somebody else changed it meanwhile.
        InvalidPayload: a step lies before the outage, or in the future.
        RuleViolated: more customers would be restored than are affected, or it is not an outage.
    """
    async with transaction():
        incident = await _lock(ctx, incident_id, expected)
        await _add_steps(ctx, incident, steps)
        await _settle(incident)
        return await _tell_update(ctx, incident, ("restoration",))


async def change(
    ctx: Context,
    incident_id: UUID,
    *,
    description: str | None = None,
    severity: Severity | None = None,
    customers_affected: int | None = None,
    steps: Sequence[RestorationStep] = (),
    expected: IfMatch = ANY_VERSION,
) -> int:
    """Change what is known of an incident, all at once; returns its new version.

    The severity changes the ticket's priority, not its deadline: that was promised when it was opened.

    Raises:
        NotFound, StaleVersion, InvalidPayload, RuleViolated: as with `restore`; also when fewer customers would be
            affected than have been restored.
    """
    async with transaction():
        incident = await _lock(ctx, incident_id, expected)
        new = {"description": description, "severity": severity, "customers_affected": customers_affected}
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
            "update pm.incident set description = $2, severity = $3, customers_affected = $4, restored_at = $5 "
            "where incident_id = $1",
            incident_id,
            merged["description"],
            merged["severity"],
            merged["customers_affected"],
            merged["restored_at"],
        )
        if "severity" in changed:
            await set_priority(ctx, incident["ticket_id"], priority=merged["severity"])
        if steps:
            await _add_steps(ctx, merged, steps)
            changed = (*changed, "restoration")
        await _settle(merged)
        return await _tell_update(ctx, merged, changed)


async def follow_ticket(ctx: Context, event: StoredEvent) -> None:
    """When the ticket of an outage is closed or cancelled, whoever is not yet restored is from that moment on."""
    ticket = msgspec.json.decode(event.data, type=TicketUpdated)
    if ticket.object_kind != "incident" or ticket.status not in ("Closed", "Cancelled"):
        return
    await execute(
        "update pm.incident set restored_at = $2, updated_at = $2, version = version + 1 "
        "where ticket_id = $1 and restored_at is null",
        ticket.ticket_id,
        event.time,
    )


_FIND = """
select i.*, a.name as asset_name, a.asset_type, a.latitude, a.longitude, coalesce(
    (select sum(s.customers_restored) from pm.restoration_step s where s.incident_id = i.incident_id), 0
)::int as customers_restored
from pm.incident i join pm.asset a using (asset_id) where i.incident_id = $1 and i.site_id = any($2)
"""


async def _lock(ctx: Context, incident_id: UUID, expected: IfMatch) -> dict[str, Any]:
    ctx.require("pm.write")
    row = await fetchrow(f"{_FIND} for update of i", incident_id, module_scope(ctx, "pm"))
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
