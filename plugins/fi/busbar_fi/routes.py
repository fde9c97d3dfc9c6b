"""The HTTP side of cost centers, budgets, commitments and entries, under /api/v1/fi."""

from datetime import date
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

import msgspec
from litestar import Response, delete, get, patch, post, put
from litestar.params import FromPath, FromQuery, JSONBody, Parameter, QueryParameter

from busbar.sdk import (
    CursorParameter,
    Identifier,
    IfMatchHeader,
    LimitParameter,
    Money,
    Name,
    Page,
    PositiveMoney,
    RequestContext,
    SearchParameter,
    ShortText,
    Slug,
    SortParameter,
    Text,
    module_site,
    needs,
    parse_if_match,
    versioned,
)
from busbar_fi import cost_centers, entries, queries
from busbar_fi.approval_routes import APPROVAL_ROUTES
from busbar_fi.cost_centers import NewCostCenter
from busbar_fi.entries import NewEntry
from busbar_fi.events import CommitmentStatus, CostType, OverBudget
from busbar_fi.queries import BudgetView, CommitmentView, CostCenterView, EntryView
from busbar_fi.report_routes import REPORT_ROUTES

_READ = needs("fi.read")
_WRITE = needs("fi.write")

FiscalYear = Annotated[int, msgspec.Meta(ge=1900, le=2200)]
Month = Annotated[int, msgspec.Meta(ge=1, le=12)]
CurrencyCode = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
SiteFilter = Annotated[
    str | None, QueryParameter(name="site", max_length=40, pattern="^[a-z][a-z0-9_-]*$", description="Only this site.")
]
YearFilter = Annotated[int | None, QueryParameter(name="fiscal_year", ge=1900, le=2200)]
CenterFilter = Annotated[
    str | None, QueryParameter(name="cost_center_id", max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")
]
TicketFilter = Annotated[str | None, QueryParameter(name="ticket_id", max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")]
CenterId = Annotated[str, Parameter(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")]
YearInPath = Annotated[int, Parameter(ge=1900, le=2200)]


class CostCenterBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cost center to be added, with the budget of its first fiscal year."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "cost_center_id": "CC-4100",
        "name": "Network operation north",
        "budget_amount": "250000.00",
        "fiscal_year": 2027,
        "responsible_manager": "Anna Berg",
        "site": "depot-north",
        "over_budget": "warn",
    }

    cost_center_id: Identifier
    name: Name
    budget_amount: Money
    fiscal_year: FiscalYear
    responsible_manager: Name
    site: Slug | None = None
    """May be left out by who works for one site only."""
    parent_id: Identifier | None = None
    fiscal_year_start_month: Month | None = None
    """The first month of its fiscal years, which are named by the year in which they begin; by default the parent's."""
    currency: CurrencyCode | None = None
    """ISO 4217; by default the parent's, or EUR."""
    over_budget: OverBudget = "warn"
    """What happens when a budget has no room: nothing, a warning, or a refusal."""
    is_default: bool = False
    """Whether costs of the site that name no cost center go here."""


class CostCenterPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; fields that are left out stay. The budget is that of the fiscal year it shows."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"over_budget": "stop"}

    name: Name | msgspec.UnsetType = msgspec.UNSET
    budget_amount: Money | msgspec.UnsetType = msgspec.UNSET
    fiscal_year: FiscalYear | msgspec.UnsetType = msgspec.UNSET
    responsible_manager: Name | msgspec.UnsetType = msgspec.UNSET
    parent_id: Identifier | msgspec.UnsetType | None = msgspec.UNSET
    over_budget: OverBudget | msgspec.UnsetType = msgspec.UNSET
    is_default: bool | msgspec.UnsetType = msgspec.UNSET
    status: Literal["active", "closed"] | msgspec.UnsetType = msgspec.UNSET


class BudgetBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The budget of a fiscal year."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"budget_amount": "260000.00"}

    budget_amount: Money


class EntryBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cost that is to be posted."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "ticket_id": "TKT-PM-20270301-0001",
        "amount": "1250.50",
        "cost_type": "OPEX",
        "cost_center_id": "CC-4100",
        "description": "Crane for a day",
    }

    ticket_id: Identifier
    """A ticket of any module, at a site of yours."""
    amount: PositiveMoney
    cost_type: CostType
    cost_center_id: Identifier
    posting_date: date | None = None
    """When it arose, which decides the fiscal year; today if left out."""
    description: ShortText = ""


class ReversalBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a cost is taken back."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"reason": "Posted on the wrong ticket"}

    reason: Text


class PostedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What was posted."""

    entry_id: UUID


@get("/cost-centers", opt=_READ)
async def list_cost_centers(
    ctx: RequestContext,
    site: SiteFilter = None,
    parent_id: Annotated[str | None, Parameter(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")] = None,
    status: FromQuery[Literal["active", "closed"] | None] = None,
    text: SearchParameter = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[CostCenterView]:
    """List cost centers. Can be sorted by cost_center_id, name, created_at."""
    where = await queries.at_sites(ctx, site)
    where.add("parent_id = {}", parent_id)
    where.add("status = {}", status)
    where.add("to_tsvector('simple', cost_center_id || ' ' || name) @@ plainto_tsquery('simple', {})", text)
    return await queries.list_cost_centers(where, limit=limit, cursor=cursor, sort=sort)


@post("/cost-centers", opt=_WRITE)
async def create_cost_center(ctx: RequestContext, data: JSONBody[CostCenterBody]) -> Response[CostCenterView]:
    """Add a cost center."""
    given = msgspec.structs.asdict(data)
    site_id = await module_site(ctx, "fi", given.pop("site"), thing="cost center")
    created = await cost_centers.create(ctx, NewCostCenter(**given), site_id=site_id)
    center = await queries.get_cost_center(ctx, created)
    return versioned(center, center.version, status_code=201)


@get("/cost-centers/{cost_center_id:str}", opt=_READ)
async def get_cost_center(ctx: RequestContext, cost_center_id: CenterId) -> Response[CostCenterView]:
    """Read one cost center."""
    center = await queries.get_cost_center(ctx, cost_center_id)
    return versioned(center, center.version)


@patch("/cost-centers/{cost_center_id:str}", opt=_WRITE)
async def change_cost_center(
    ctx: RequestContext, cost_center_id: CenterId, data: JSONBody[CostCenterPatch], if_match: IfMatchHeader = None
) -> Response[CostCenterView]:
    """Change a cost center."""
    changes = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not msgspec.UNSET}
    await cost_centers.change(ctx, cost_center_id, changes, expected=parse_if_match(if_match, required=False))
    center = await queries.get_cost_center(ctx, cost_center_id)
    return versioned(center, center.version)


@delete("/cost-centers/{cost_center_id:str}", opt=_WRITE, status_code=204)
async def delete_cost_center(ctx: RequestContext, cost_center_id: CenterId, if_match: IfMatchHeader = None) -> None:
    """Delete a cost center that nothing refers to; otherwise set its status to closed."""
    await cost_centers.remove(ctx, cost_center_id, expected=parse_if_match(if_match, required=False))


@get("/cost-centers/{cost_center_id:str}/budgets", opt=_READ)
async def list_budgets(ctx: RequestContext, cost_center_id: CenterId) -> tuple[BudgetView, ...]:
    """Read the fiscal years of a cost center: budget, actual costs, commitments, and what is available."""
    return await queries.budgets_of(ctx, cost_center_id)


@put("/cost-centers/{cost_center_id:str}/budgets/{fiscal_year:int}", opt=_WRITE)
async def set_budget(
    ctx: RequestContext,
    cost_center_id: CenterId,
    fiscal_year: YearInPath,
    data: JSONBody[BudgetBody],
    if_match: IfMatchHeader = None,
) -> Response[tuple[BudgetView, ...]]:
    """Set the budget of a fiscal year; answers with all of them. If-Match is the cost center's version."""
    expected = parse_if_match(if_match, required=False)
    version = await cost_centers.set_budget(ctx, cost_center_id, fiscal_year, data.budget_amount, expected=expected)
    return versioned(await queries.budgets_of(ctx, cost_center_id), version)


@get("/commitments", opt=_READ)
async def list_commitments(
    ctx: RequestContext,
    site: SiteFilter = None,
    cost_center_id: CenterFilter = None,
    fiscal_year: YearFilter = None,
    status: FromQuery[CommitmentStatus | None] = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[CommitmentView]:
    """List commitments. Can be sorted by created_at, amount, commitment_id."""
    where = await queries.at_sites(ctx, site)
    where.add("cost_center_id = {}", cost_center_id)
    where.add("fiscal_year = {}", fiscal_year)
    where.add("status = {}", status)
    return await queries.list_commitments(where, limit=limit, cursor=cursor, sort=sort)


@get("/cost-entries", opt=_READ)
async def list_entries(
    ctx: RequestContext,
    site: SiteFilter = None,
    cost_center_id: CenterFilter = None,
    ticket_id: TicketFilter = None,
    fiscal_year: YearFilter = None,
    cost_type: FromQuery[CostType | None] = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[EntryView]:
    """List cost entries. Can be sorted by created_at, posting_date, amount, entry_id."""
    where = await queries.at_sites(ctx, site)
    where.add("cost_center_id = {}", cost_center_id)
    where.add("ticket_id = {}", ticket_id)
    where.add("fiscal_year = {}", fiscal_year)
    where.add("cost_type = {}", cost_type)
    return await queries.list_entries(where, limit=limit, cursor=cursor, sort=sort)


@post("/cost-entries", opt=_WRITE)
async def post_entry(ctx: RequestContext, data: JSONBody[EntryBody]) -> PostedEntry:
    """Post a cost on a ticket. Entries are never changed: reverse one that is wrong, and post another."""
    return PostedEntry(entry_id=await entries.post(ctx, NewEntry(**msgspec.structs.asdict(data))))


@get("/cost-entries/{entry_id:uuid}", opt=_READ)
async def get_entry(ctx: RequestContext, entry_id: FromPath[UUID]) -> EntryView:
    """Read one cost entry."""
    return await queries.get_entry(ctx, entry_id)


@post("/cost-entries/{entry_id:uuid}/reverse", opt=_WRITE)
async def reverse_entry(ctx: RequestContext, entry_id: FromPath[UUID], data: JSONBody[ReversalBody]) -> PostedEntry:
    """Take a cost back by an entry of the opposite amount."""
    return PostedEntry(entry_id=await entries.reverse(ctx, entry_id, reason=data.reason))


ROUTES = (
    list_cost_centers,
    create_cost_center,
    get_cost_center,
    change_cost_center,
    delete_cost_center,
    list_budgets,
    set_budget,
    list_commitments,
    list_entries,
    post_entry,
    get_entry,
    reverse_entry,
    *APPROVAL_ROUTES,
    *REPORT_ROUTES,
)
