"""Incidents: faults, outages and degradations of assets are reported, and end with their tickets (SPEC R2.3, R2.4)."""

from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec

from busbar.sdk import (
    ACCEPTED_SITE,
    Conflict,
    Context,
    FieldError,
    InvalidPayload,
    NewTicket,
    NotFound,
    OpenedTicket,
    Opening,
    StoredEvent,
    TicketUpdated,
    execute,
    fetchrow,
    uuid7,
)
from busbar_pm.events import FaultType, Severity

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


async def follow_ticket(ctx: Context, event: StoredEvent) -> None:
    """When the ticket of an incident is closed or cancelled, it is over from that moment on, if it was not before.

    When the ticket is reopened, a fault or degradation is not over after all; an outage is, for its customers have
    supply.
    """
    ticket = msgspec.json.decode(event.data, type=TicketUpdated)
    if ticket.object_kind != "incident":
        return
    if ticket.status in ("Closed", "Cancelled"):
        await execute(
            "update pm.incident set restored_at = $2, updated_at = $2, version = version + 1 "
            "where ticket_id = $1 and restored_at is null",
            ticket.ticket_id,
            event.time,
        )
    elif ticket.action == "reopen":
        await execute(
            "update pm.incident set restored_at = null, updated_at = $2, version = version + 1 "
            "where ticket_id = $1 and fault_type <> 'outage' and restored_at is not null",
            ticket.ticket_id,
            event.time,
        )
