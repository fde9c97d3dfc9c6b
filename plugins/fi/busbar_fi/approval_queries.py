"""Reading approval requests, and the inbox: what waits for the actor, or for those who delegated to the actor."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from busbar.sdk import Context, NotFound, Page, SortColumn, Where, fetch_page, fetchrow, module_scope, page_request
from busbar_fi import deciders
from busbar_fi.approvals import levels_of


class LevelView(msgspec.Struct, frozen=True, kw_only=True):
    """A level of a request."""

    level: int
    approver: str
    decision: str | None
    decided_by: str | None
    on_behalf_of: str | None
    decided_at: datetime | None
    comment: str | None


class ApprovalView(msgspec.Struct, frozen=True, kw_only=True):
    """An approval request; `levels` is filled where one request is read, and empty in lists."""

    approval_id: UUID
    ticket_id: str
    amount: Decimal
    currency: str
    justification: str
    cost_center_id: str
    approval_hierarchy: tuple[str, ...]
    level: int
    """The level whose turn it is, or that decided last."""
    priority: str
    status: str
    requested_by: str
    subject_kind: str | None
    subject_id: str | None
    subject_ticket_id: str | None
    waiting_since: datetime
    reminded_at: datetime | None
    decided_by: str | None
    decided_at: datetime | None
    comment: str | None
    site: str
    version: int
    created_at: datetime
    updated_at: datetime
    levels: tuple[LevelView, ...] = ()


APPROVAL_SORT: Final = {
    "created_at": SortColumn(sql="created_at", type=datetime),
    "priority": SortColumn(sql="priority", type=str),
    "amount": SortColumn(sql="amount", type=Decimal),
    "waiting_since": SortColumn(sql="waiting_since", type=datetime),
    "approval_id": SortColumn(sql="approval_id", type=UUID),
}

_COLUMNS: Final = ", ".join(
    {
        "site": "site_id as site",
        "approval_hierarchy": "array(select l.approver from fi.approval_level l where l.approval_id = "
        "fi.approval_request.approval_id order by l.level) as approval_hierarchy",
    }.get(name, name)
    for name in ApprovalView.__struct_fields__
    if name != "levels"
)
# The same rules as `deciders.who_decides` has: it is the level's turn, and one person is one pair of eyes. Each pair is
# a person in whose name the actor may decide, with one entry of a hierarchy that means this person.
_MINE: Final = """
status = 'pending' and requested_by <> {me} and not exists (
    select from fi.approval_level d where d.approval_id = fi.approval_request.approval_id
        and {me} in (d.decided_by, d.on_behalf_of)
) and exists (
    select from fi.approval_level l join unnest({people}::text[], {entries}::text[], {sites}::text[])
        as p (person, entry, site) on p.entry = l.approver
    where l.approval_id = fi.approval_request.approval_id and l.level = fi.approval_request.level
        and p.person <> requested_by and p.site in ('*', fi.approval_request.site_id) and not exists (
            select from fi.approval_level d where d.approval_id = fi.approval_request.approval_id
                and p.person in (d.decided_by, d.on_behalf_of)
        )
)
"""


async def get_approval(ctx: Context, approval_id: UUID) -> ApprovalView:
    """One approval request, with its levels.

    Raises:
        NotFound: there is no such request at the actor's sites.
    """
    row = await fetchrow(
        f"select {_COLUMNS} from fi.approval_request where approval_id = $1 and site_id = any($2)",
        approval_id,
        await module_scope(ctx, "fi"),
    )
    if row is None:
        raise NotFound(f"There is no approval request {approval_id}.")
    names = LevelView.__struct_fields__
    levels = tuple(LevelView(**{name: level[name] for name in names}) for level in await levels_of(approval_id))
    return msgspec.structs.replace(_view(row), levels=levels)


async def only_mine(ctx: Context, where: Where) -> None:
    """Limit a list to what the actor may decide now, in the own name or for somebody else."""
    people = await deciders.principals(ctx)
    triples = [(p.username, entry, site) for p in people for entry in sorted(p.entries) for site in p.sites]
    numbers = {}
    for name, values in (
        ("me", ctx.actor.username),
        ("people", [person for person, _, _ in triples]),
        ("entries", [entry for _, entry, _ in triples]),
        ("sites", [site for _, _, site in triples]),
    ):
        where.values.append(values)
        numbers[name] = f"${len(where.values)}"
    where.add_plain(_MINE.format(**numbers))


async def list_approvals(where: Where, *, limit: int, cursor: str | None, sort: str | None) -> Page[ApprovalView]:
    """A page of approval requests, the most urgent and then the oldest first unless `sort` says otherwise."""
    asked = page_request(
        limit=limit,
        cursor=cursor,
        sort=sort,
        columns=APPROVAL_SORT,
        default="priority,created_at",
        key="approval_id",
    )
    return await fetch_page(asked, where, columns=_COLUMNS, source="fi.approval_request", to_item=_view)


def _view(row: Any) -> ApprovalView:
    return ApprovalView(**{**row, "approval_hierarchy": tuple(row["approval_hierarchy"])})
