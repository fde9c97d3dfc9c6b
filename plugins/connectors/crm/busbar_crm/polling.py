"""What the service team changed, where no trigger tells: its changes of status and comments since the last look."""

from datetime import UTC, datetime, timedelta
from typing import Any

from busbar.sdk import Endpoint, Permanent, Polled, RemoteChange, Retryable
from busbar_crm.answers import Record, RemoteUnavailable
from busbar_crm.client import SalesforceClient
from busbar_crm.connection import client_of, note_usage, require_quota
from busbar_crm.failures import translated
from busbar_crm.inbound import is_ours, is_ticket, meaning_of, said_by
from busbar_crm.settings import CrmSettings

LOOK_BACK_S = 120.0
"""Looked at again each time: Salesforce dates a change by its start, and shows it when its transaction has ended."""
CHANGES_MAX = 900

Dated = tuple[datetime, RemoteChange | None]
"""When something was done, and what it means; None for what Busbar did itself."""


async def poll(endpoint: Endpoint, cursor: str | None) -> Polled:
    """What others than Busbar did since `cursor`, a time; the first poll starts from now.

    A change of status is read from the history of Status rather than off the Case: so none is missed that was
    followed by another, ours included. Each is marked by the id of its history entry or comment.

    Raises Permanent, Retryable, RateLimited or AuthExpired.
    """
    now = endpoint.clock()
    since = _since(cursor, now)
    require_quota(endpoint)
    with translated(endpoint, changing=False):
        client = client_of(endpoint)
        try:
            us = await client.user_id()
            dated = await _statuses(client, endpoint.settings, since, us)
            dated += await _comments(client, endpoint.settings, since, us)
        finally:
            note_usage(endpoint, client)
    dated.sort(key=lambda one: one[0])
    following = max(since, now - timedelta(seconds=LOOK_BACK_S))
    if len(dated) > CHANGES_MAX:
        dated = dated[:CHANGES_MAX]
        following = dated[-1][0]
        if following <= since:
            raise Retryable(
                f"More than {CHANGES_MAX} changes were made at {since.isoformat()}; Busbar cannot tell them."
            )
    return Polled(changes=tuple(change for _, change in dated if change is not None), cursor=_literal(following))


async def _statuses(client: SalesforceClient, settings: CrmSettings, since: datetime, us: str) -> list[Dated]:
    key = settings.external_id_field
    rows = await client.query(
        f"SELECT Id, CaseId, Case.{key}, NewValue, CreatedById, CreatedBy.Name, CreatedDate FROM CaseHistory "
        f"WHERE Field = 'Status' AND CreatedDate >= {_literal(since)} AND Case.{key} LIKE 'TKT-%' "
        f"ORDER BY CreatedDate, Id LIMIT {CHANGES_MAX + 1}",
        records_max=CHANGES_MAX + 1,
    )
    return [(_time(row), _status_change(row, settings, us)) for row in rows]


async def _comments(client: SalesforceClient, settings: CrmSettings, since: datetime, us: str) -> list[Dated]:
    key = settings.external_id_field
    rows = await client.query(
        f"SELECT Id, ParentId, Parent.{key}, CommentBody, CreatedById, CreatedBy.Name, CreatedDate FROM CaseComment "
        f"WHERE CreatedDate >= {_literal(since)} AND Parent.{key} LIKE 'TKT-%' "
        f"ORDER BY CreatedDate, Id LIMIT {CHANGES_MAX + 1}",
        records_max=CHANGES_MAX + 1,
    )
    return [(_time(row), _comment_change(row, settings, us)) for row in rows]


def _status_change(row: Record, settings: CrmSettings, us: str) -> RemoteChange | None:
    key, by = str(_of(row, "Case", settings.external_id_field)), str(_of(row, "CreatedBy", "Name"))
    if not is_ticket(key) or row.get("CreatedById") == us:
        return None
    status, comment = meaning_of(str(row.get("NewValue")), settings, by=by)
    return RemoteChange(
        remote_id=str(row.get("CaseId")), ticket_id=key, status=status, comment=comment or None, marker=str(row["Id"])
    )


def _comment_change(row: Record, settings: CrmSettings, us: str) -> RemoteChange | None:
    key, body = str(_of(row, "Parent", settings.external_id_field)), str(row.get("CommentBody") or "")
    if not is_ticket(key) or row.get("CreatedById") == us or is_ours(body):
        return None
    comment = said_by(str(_of(row, "CreatedBy", "Name")), body)
    if not comment:
        return None
    return RemoteChange(remote_id=str(row.get("ParentId")), ticket_id=key, comment=comment, marker=str(row["Id"]))


def _since(cursor: str | None, now: datetime) -> datetime:
    if cursor is None:
        return now
    try:
        return datetime.fromisoformat(cursor)
    except ValueError as error:
        raise Permanent(f"The cursor {cursor!r} is no time.") from error


def _time(row: Record) -> datetime:
    try:
        return datetime.fromisoformat(str(row.get("CreatedDate")))
    except ValueError as error:
        raise RemoteUnavailable("A change has no time that can be read.") from error


def _literal(time: datetime) -> str:
    """A time as SOQL takes it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _of(row: Record, parent: str, field: str) -> Any:
    """A field of the record that a reference leads to; "" where it leads nowhere."""
    found = row.get(parent)
    return (found.get(field) or "") if isinstance(found, dict) else ""
