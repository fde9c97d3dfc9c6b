"""The HTTP side of approval requests, their rules and delegations, under /api/v1/fi."""

from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from litestar import Response, delete, get, patch, post, put
from litestar.params import FromPath, FromQuery, JSONBody, Parameter, QueryParameter

from busbar.sdk import (
    Context,
    CursorParameter,
    Identifier,
    IfMatchHeader,
    LimitParameter,
    Moment,
    Name,
    Page,
    PositiveMoney,
    RequestContext,
    ShortText,
    SortParameter,
    Text,
    module_site,
    needs,
    parse_if_match,
    versioned,
)
from busbar_fi import approval_queries, approval_rules, approvals, decisions, delegations, queries
from busbar_fi.approval_queries import ApprovalView
from busbar_fi.approval_rules import LEVELS_MAX, REMIND_AFTER_H, ApprovalPolicy, ApprovalRule
from busbar_fi.approvals import NewRequest, OpenedRequest, Priority
from busbar_fi.delegations import DelegationView
from busbar_fi.events import ApprovalStatus

_READ = needs("fi.read")
_WRITE = needs("fi.write")
_APPROVE = needs("fi.approve")

SiteFilter = Annotated[
    str | None, QueryParameter(name="site", max_length=40, pattern="^[a-z][a-z0-9_-]*$", description="Only this site.")
]
SiteNamed = Annotated[
    str | None,
    QueryParameter(
        name="site",
        max_length=40,
        pattern="^[a-z][a-z0-9_-]*$",
        description="May be left out by who works for one site only.",
    ),
]
Approvers = Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=LEVELS_MAX)]
WITHDRAWN = "Withdrawn by the requester."


class ApprovalBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An amount that is asked for."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "amount": "18000.00",
        "justification": "Replacement of the oil pump in substation Mill Lane",
        "cost_center_id": "CC-4100",
        "approval_hierarchy": ["role:Finance_Officer"],
    }

    amount: PositiveMoney
    justification: Text
    cost_center_id: Identifier
    approval_hierarchy: Approvers
    """User names, or `role:<name>` for anybody with the role, in the order in which they decide."""
    priority: Priority | None = None
    """By default P3, and P2 from 50,000 on."""


class ApprovalPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different in one's own request, before anybody has decided."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"amount": "17500.00"}

    amount: PositiveMoney | None = None
    justification: Text | None = None


class Approval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A yes, with a comment if there is something to say."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"comment": "Within the plan for this year"}

    comment: Text | None = None


class Rejection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A no, with its reason."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"comment": "Repair it instead"}

    comment: Text


class RuleBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to an amount, these decide, in order."""

    approvers: Approvers
    up_to: PositiveMoney | None = None
    """Inclusive; one rule has none, for whatever is above the others."""


class PolicyBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a site has requests that come by themselves decided, and when approvers are reminded."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "rules": [
            {"up_to": "5000.00", "approvers": ["role:Finance_Officer"]},
            {"approvers": ["role:Finance_Officer", "role:Finance_Approver"]},
        ],
        "remind_after_h": 24,
    }

    rules: Annotated[tuple[RuleBody, ...], msgspec.Meta(max_length=20)]
    remind_after_h: Annotated[int, msgspec.Meta(ge=1, le=24 * 90)] = REMIND_AFTER_H


class DelegationBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody is to decide for you."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"delegate": "bea", "valid_until": "2027-08-15T00:00:00Z", "reason": "Holiday"}

    delegate: Name
    valid_until: Moment
    """The first moment at which it does not hold any more."""
    valid_from: Moment | None = None
    """Now, if left out."""
    reason: ShortText = ""


@get("/approval-requests", opt=_READ)
async def list_approvals(
    ctx: RequestContext,
    site: SiteFilter = None,
    mine: Annotated[bool, QueryParameter(description="Only what waits for your decision now.")] = False,
    status: FromQuery[ApprovalStatus | None] = None,
    priority: FromQuery[Priority | None] = None,
    requested_by: Annotated[str | None, Parameter(max_length=120, pattern=r"^[^\x00-\x1f\x7f]*$")] = None,
    cost_center_id: Annotated[str | None, Parameter(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")] = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[ApprovalView]:
    """List approval requests, most urgent first. Can be sorted by priority, created_at, amount, waiting_since."""
    where = await queries.at_sites(ctx, site)
    where.add("status = {}", status)
    where.add("priority = {}", priority)
    where.add("requested_by = {}", requested_by)
    where.add("cost_center_id = {}", cost_center_id)
    if mine:
        await approval_queries.only_mine(ctx, where)
    return await approval_queries.list_approvals(where, limit=limit, cursor=cursor, sort=sort)


@post("/approval-requests", opt=_WRITE)
async def request_approval(ctx: RequestContext, data: JSONBody[ApprovalBody]) -> OpenedRequest:
    """Ask for an amount; opens a Finance_Approval ticket."""
    return await approvals.request(ctx, NewRequest(**msgspec.structs.asdict(data)))


@get("/approval-requests/{approval_id:uuid}", opt=_READ)
async def get_approval(ctx: RequestContext, approval_id: FromPath[UUID]) -> Response[ApprovalView]:
    """Read one approval request, with its levels."""
    return await _approval(ctx, approval_id)


@patch("/approval-requests/{approval_id:uuid}", opt=_WRITE)
async def change_approval(
    ctx: RequestContext, approval_id: FromPath[UUID], data: JSONBody[ApprovalPatch], if_match: IfMatchHeader = None
) -> Response[ApprovalView]:
    """Change one's own request, as long as nobody has decided."""
    expected = parse_if_match(if_match, required=False)
    await approvals.change(ctx, approval_id, amount=data.amount, justification=data.justification, expected=expected)
    return await _approval(ctx, approval_id)


@delete("/approval-requests/{approval_id:uuid}", opt=_WRITE, status_code=204)
async def withdraw_approval(ctx: RequestContext, approval_id: FromPath[UUID], if_match: IfMatchHeader = None) -> None:
    """Withdraw one's own request; it stays on record, and its ticket is cancelled."""
    expected = parse_if_match(if_match, required=False)
    await decisions.withdraw(ctx, approval_id, comment=WITHDRAWN, expected=expected)


@post("/approval-requests/{approval_id:uuid}/approve", opt=_APPROVE, status_code=200)
async def approve(
    ctx: RequestContext,
    approval_id: FromPath[UUID],
    data: JSONBody[Approval | None] = None,
    if_match: IfMatchHeader = None,
) -> Response[ApprovalView]:
    """Approve at the level whose turn it is; the last level completes the request and closes its ticket."""
    expected = parse_if_match(if_match, required=False)
    await decisions.approve(ctx, approval_id, comment=(data or Approval()).comment, expected=expected)
    return await _approval(ctx, approval_id)


@post("/approval-requests/{approval_id:uuid}/reject", opt=_APPROVE, status_code=200)
async def reject(
    ctx: RequestContext, approval_id: FromPath[UUID], data: JSONBody[Rejection], if_match: IfMatchHeader = None
) -> Response[ApprovalView]:
    """Reject at the level whose turn it is; ends the request and cancels its ticket."""
    expected = parse_if_match(if_match, required=False)
    await decisions.reject(ctx, approval_id, comment=data.comment, expected=expected)
    return await _approval(ctx, approval_id)


@get("/approval-rules", opt=_READ)
async def get_rules(ctx: RequestContext, site: SiteNamed = None) -> Response[ApprovalPolicy]:
    """Read how a site has requests decided that come by themselves, as those of requisitions do."""
    policy = await approval_rules.read(ctx, await module_site(ctx, "fi", site, thing="rules"))
    return versioned(policy, policy.version)


@put("/approval-rules", opt=_WRITE)
async def replace_rules(
    ctx: RequestContext, data: JSONBody[PolicyBody], site: SiteNamed = None, if_match: IfMatchHeader = None
) -> Response[ApprovalPolicy]:
    """Set all rules of a site at once; they hold for requests that are opened from now on."""
    rules = [ApprovalRule(up_to=rule.up_to, approvers=rule.approvers) for rule in data.rules]
    expected = parse_if_match(if_match, required=False)
    site_id = await module_site(ctx, "fi", site, thing="rules")
    await approval_rules.replace(ctx, site_id, rules=rules, remind_after_h=data.remind_after_h, expected=expected)
    policy = await approval_rules.read(ctx, site_id)
    return versioned(policy, policy.version)


@get("/delegations", opt=_READ)
async def list_delegations(
    ctx: RequestContext,
    current: Annotated[bool, QueryParameter(description="Only those that hold, or will.")] = False,
) -> tuple[DelegationView, ...]:
    """List the latest 200 delegations, newest first: yours; all for who writes finance at every site."""
    return await delegations.listed(ctx, current_only=current)


@post("/delegations", opt=_APPROVE)
async def delegate(ctx: RequestContext, data: JSONBody[DelegationBody]) -> DelegationView:
    """Let somebody decide for you, for a time."""
    return await delegations.delegate(
        ctx,
        delegate=data.delegate,
        valid_from=data.valid_from,
        valid_until=data.valid_until,
        reason=data.reason,
    )


@delete("/delegations/{delegation_id:uuid}", opt=_APPROVE, status_code=204)
async def revoke(ctx: RequestContext, delegation_id: FromPath[UUID]) -> None:
    """End a delegation that you gave or have."""
    await delegations.revoke(ctx, delegation_id)


async def _approval(ctx: Context, approval_id: UUID) -> Response[ApprovalView]:
    approval = await approval_queries.get_approval(ctx, approval_id)
    return versioned(approval, approval.version)


APPROVAL_ROUTES = (
    list_approvals,
    request_approval,
    get_approval,
    change_approval,
    withdraw_approval,
    approve,
    reject,
    get_rules,
    replace_rules,
    list_delegations,
    delegate,
    revoke,
)
