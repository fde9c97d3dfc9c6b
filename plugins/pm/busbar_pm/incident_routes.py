"""The HTTP side of incidents."""

from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from litestar import Response, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from busbar.sdk import (
    Context,
    CursorParameter,
    Identifier,
    IfMatchHeader,
    LimitParameter,
    LongText,
    Moment,
    Page,
    PositiveNumber,
    RequestContext,
    ShortText,
    Slug,
    SortParameter,
    WholeNumber,
    parse_if_match,
    versioned,
)
from busbar_pm import incident_changes, incidents, queries
from busbar_pm.events import FaultType, Severity
from busbar_pm.failure_codes import CODE_GROUPS
from busbar_pm.incident_changes import RestorationStep
from busbar_pm.incidents import NewIncident, ReportedIncident
from busbar_pm.queries import IncidentView
from busbar_pm.route_parameters import READ, WRITE, AssetFilter, SiteFilter


class IncidentBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A report that something is wrong with an asset."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "asset_id": "TRF-1042",
        "fault_type": "outage",
        "severity": "P2",
        "description": "Cable fault behind the transformer",
        "customers_affected": 148,
    }

    asset_id: Identifier
    fault_type: FaultType
    severity: Severity
    description: LongText
    started_at: Moment | None = None
    """When it began; now if left out."""
    customers_affected: WholeNumber | None = None
    """For an outage, by default all customers served through the asset."""
    source_ref: Identifier | None = None
    """The report's own id where it came from; the same one is not taken twice at a site."""


class StepBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """So many customers have supply again from this moment on."""

    restored_at: Moment
    customers_restored: PositiveNumber
    note: ShortText | None = None


class IncidentPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known better now; fields that are left out stay. `steps` are added to those there are."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "steps": [{"restored_at": "2026-11-23T14:30:00Z", "customers_restored": 120, "note": "Fed from the neighbour"}]
    }

    description: LongText | None = None
    severity: Severity | None = None
    customers_affected: WholeNumber | None = None
    object_part: Slug | None = None
    """The four failure codes are in `GET /pm/failure-codes`; `unknown` is one of each group."""
    damage: Slug | None = None
    cause: Slug | None = None
    detection: Slug | None = None
    steps: Annotated[tuple[StepBody, ...], msgspec.Meta(max_length=100)] = ()


@get("/incidents", opt=READ)
async def list_incidents(
    ctx: RequestContext,
    site: SiteFilter = None,
    asset_id: AssetFilter = None,
    fault_type: FromQuery[FaultType | None] = None,
    severity: FromQuery[Severity | None] = None,
    open_only: Annotated[bool, QueryParameter(name="open", description="Only those not yet restored.")] = False,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[IncidentView]:
    """List incidents. Can be sorted by started_at, created_at, customers_affected, severity, incident_id."""
    where = await queries.at_sites(ctx, site)
    where.add("asset_id = {}", asset_id)
    where.add("fault_type = {}", fault_type)
    where.add("severity = {}", severity)
    where.add("(restored_at is null) = {}", True if open_only else None)
    return await queries.list_incidents(where, limit=limit, cursor=cursor, sort=sort)


@post("/incidents", opt=WRITE)
async def report_incident(ctx: RequestContext, data: JSONBody[IncidentBody]) -> ReportedIncident:
    """Report an incident; opens an Incident ticket. 201 means that both, and their event, are stored for good."""
    return await incidents.report(ctx, NewIncident(**msgspec.structs.asdict(data)))


@get("/incidents/{incident_id:uuid}", opt=READ)
async def get_incident(ctx: RequestContext, incident_id: FromPath[UUID]) -> Response[IncidentView]:
    """Read one incident, with the steps of its restoration."""
    return await _incident(ctx, incident_id)


@patch("/incidents/{incident_id:uuid}", opt=WRITE)
async def change_incident(
    ctx: RequestContext,
    incident_id: FromPath[UUID],
    data: JSONBody[IncidentPatch],
    if_match: IfMatchHeader = None,
) -> Response[IncidentView]:
    """Change what is known of an incident, note what had failed, and which customers have supply again."""
    await incident_changes.change(
        ctx,
        incident_id,
        description=data.description,
        severity=data.severity,
        customers_affected=data.customers_affected,
        codes={group: code for group in CODE_GROUPS if (code := getattr(data, group)) is not None},
        steps=[RestorationStep(**msgspec.structs.asdict(step)) for step in data.steps],
        expected=parse_if_match(if_match, required=False),
    )
    return await _incident(ctx, incident_id)


async def _incident(ctx: Context, incident_id: UUID) -> Response[IncidentView]:
    incident = await queries.get_incident(ctx, incident_id)
    return versioned(incident, incident.version)


ROUTES = (list_incidents, report_incident, get_incident, change_incident)
