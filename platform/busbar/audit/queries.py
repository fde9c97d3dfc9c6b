"""Reading the trail; entries of other sites, and for site-bound readers those of no site, are not shown."""

from datetime import datetime
from typing import Any, Final

import msgspec

from busbar.audit.trail import ContextOfEntry
from busbar.web.conditions import Where
from busbar.web.pagination import Page, SortColumn, fetch_page, page_request


class AuditEntryView(msgspec.Struct, frozen=True, kw_only=True):
    """One act: who changed what, when, and why."""

    audit_id: int
    at: datetime
    actor_id: str
    actor_name: str
    action: str
    object_kind: str
    object_id: str
    site_id: str | None
    previous_status: str | None
    new_status: str | None
    comment: str | None
    details: Any
    """What else there is to know, as JSON; null when nothing."""
    correlation_id: str


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries are asked for; what is None does not matter."""

    actor: str | None = None
    """The user name, or the user id."""
    action: str | None = None
    object_kind: str | None = None
    object_id: str | None = None
    site_id: str | None = None
    correlation_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Exclusive."""


SORT: Final = {"audit_id": SortColumn(sql="audit_id", type=int)}

_COLUMNS: Final = """
audit_id, at, actor_id, actor_name, action, object_kind, object_id, site_id, previous_status, new_status,
    comment, details::text as details, correlation_id
"""


async def list_entries(
    ctx: ContextOfEntry, asked_for: AuditFilter, *, limit: int, cursor: str | None, sort: str | None
) -> Page[AuditEntryView]:
    """A page of the trail, newest first unless sorted otherwise."""
    asked = page_request(limit=limit, cursor=cursor, sort=sort, columns=SORT, default="-audit_id", key="audit_id")
    where = _conditions(ctx, asked_for)
    return await fetch_page(asked, where, columns=_COLUMNS, source="core.audit", to_item=_entry)


def _conditions(ctx: ContextOfEntry, asked_for: AuditFilter) -> Where:
    where = Where()
    where.add("site_id = any({})", ctx.actor.site_filter)
    where.add("(actor_name = {} or actor_id = {})", asked_for.actor)
    where.add("action = {}", asked_for.action)
    where.add("object_kind = {}", asked_for.object_kind)
    where.add("object_id = {}", asked_for.object_id)
    where.add("site_id = {}", asked_for.site_id)
    where.add("correlation_id = {}", asked_for.correlation_id)
    where.add("at >= {}", asked_for.since)
    where.add("at < {}", asked_for.until)
    return where


def _entry(row: Any) -> AuditEntryView:
    details = None if row["details"] is None else msgspec.json.decode(row["details"])
    return AuditEntryView(**{**row, "details": details})
