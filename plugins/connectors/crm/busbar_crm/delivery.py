"""Delivery of one event: look what the Case has been told, then upsert it by its external id (class A)."""

import msgspec

from busbar.sdk import Attempt, Endpoint, Permanent, Receipt
from busbar_crm.answers import Record
from busbar_crm.client import Part, SalesforceClient, Upserted, id_of, text_literal, upserted
from busbar_crm.connection import client_of, note_usage, require_quota
from busbar_crm.failures import translated
from busbar_crm.mapping import Telling, telling_of
from busbar_crm.marker import Marker
from busbar_crm.settings import CrmSettings

CASE, COMMENT = "Case", "CaseComment"
COMMENTS_MAX = 2000
"""How many comments of a Case are looked through for a late one."""


async def deliver(endpoint: Endpoint, attempt: Attempt) -> Receipt:
    """Tell the organization of one event; one Case for each ticket, never set back by a late event.

    The Case is looked at first, for its marker; it is then upserted by its external id, so that not even two writers
    at once make a second one. A comment goes in one composite request with the marker that remembers it: both are
    written or neither, so that a repeat adds no second. A late event adds its comment if it is not there.

    Raises Permanent, Retryable, RateLimited or AuthExpired.
    """
    telling = telling_of(attempt.event, attempt.document, endpoint.settings)
    require_quota(endpoint)
    team = _Team(endpoint, attempt)
    try:
        return await _deliver(team, telling)
    finally:
        note_usage(endpoint, team.client)


async def _deliver(team: "_Team", telling: Telling) -> Receipt:
    found = await team.look(telling.key)
    if found is None:
        return await team.tell(telling, None, Marker(), telling.fields_of_new())
    told = _told(found, team.settings)
    if telling.marker.exceeds(told):
        return await team.tell(telling, found, told, telling.news(told))
    if telling.comment and telling.marker.trails(told) and not await team.has_comment(found, telling):
        return await team.add_comment(found, telling)
    return team.untouched(found)


class _Team:
    """One attempt's view of the organization: every call carries the attempt's correlation id."""

    def __init__(self, endpoint: Endpoint, attempt: Attempt) -> None:
        self.settings: CrmSettings = endpoint.settings
        self.client: SalesforceClient = client_of(endpoint, correlation_id=attempt.correlation_id)
        self._endpoint = endpoint
        self._attempt = attempt

    async def look(self, key: str) -> Record | None:
        """The Case with this external id."""
        with translated(self._endpoint, changing=False):
            return await self.client.get(CASE, self.settings.external_id_field, key, fields=looked_at(self.settings))

    async def tell(self, telling: Telling, found: Record | None, told: Marker, fields: Record) -> Receipt:
        """Upsert the Case with the fields and what it has been told then, and its comment with it."""
        marker = telling.marker.including(told).text(self._attempt.correlation_id)
        record = {**fields, self.settings.marker_field: marker}
        field = self.settings.external_id_field
        with translated(self._endpoint, changing=True):
            if not telling.comment:
                written = await self.client.upsert(CASE, field, telling.key, record)
            else:
                written = await self._upsert_with_comment(telling, found, record)
        return self._receipt(written.id or str((found or {}).get("Id") or telling.key), found, fields, telling.comment)

    async def _upsert_with_comment(self, telling: Telling, found: Record | None, record: Record) -> Upserted:
        path = self.client.path("sobjects", CASE, self.settings.external_id_field, telling.key)
        parent = "@{case.id}" if found is None else str(found["Id"])
        parts = (
            Part(method="PATCH", path=path, reference="case", body=record),
            Part(
                method="POST",
                path=self.client.path("sobjects", COMMENT),
                reference="comment",
                body=self._comment(parent, telling),
            ),
        )
        answers = await self.client.composite(parts)
        id_of(answers[1])
        return upserted(answers[0])

    async def has_comment(self, found: Record, telling: Telling) -> bool:
        """Whether the Case has the comment. Not every version can search in its text, so the comments are read."""
        with translated(self._endpoint, changing=False):
            comments = await self.client.query(comments_of(str(found["Id"])), records_max=COMMENTS_MAX)
        return any(telling.reference in str(comment.get("CommentBody")) for comment in comments)

    async def add_comment(self, found: Record, telling: Telling) -> Receipt:
        """Add the comment of a late event, and leave the Case as it is."""
        with translated(self._endpoint, changing=True):
            await self.client.create(COMMENT, self._comment(str(found["Id"]), telling))
        return self._receipt(str(found["Id"]), found, {}, telling.comment)

    def untouched(self, found: Record) -> Receipt:
        """A receipt for an event that the Case knows."""
        receipt = self._receipt(str(found["Id"]), found, {}, "")
        detail = f"Case {found.get('CaseNumber')} has been told of this already."
        return msgspec.structs.replace(receipt, duplicate=True, detail=detail)

    def _comment(self, parent: str, telling: Telling) -> Record:
        return {"ParentId": parent, **telling.comment_fields(public=self.settings.comments_public)}

    def _receipt(self, record_id: str, found: Record | None, fields: Record, comment: str) -> Receipt:
        changed = [*fields, *(["a comment"] if comment else [])]
        if found is None:
            outcome = "A Case was opened."
        else:
            outcome = f"Case {found.get('CaseNumber')} was changed: {', '.join(changed) or 'its marker'}."
        remark = note_usage(self._endpoint, self.client)
        return Receipt(
            remote_id=record_id,
            remote_url=f"{self.settings.base_url.rstrip('/')}/lightning/r/Case/{record_id}/view",
            detail=f"{outcome} {remark}".strip(),
        )


def looked_at(settings: CrmSettings) -> tuple[str, ...]:
    """The fields of a Case that are read before anything is written."""
    return ("Id", "CaseNumber", settings.marker_field)


def comments_of(case_id: str) -> str:
    """The query for the comments of a Case."""
    return f"SELECT Id, CommentBody FROM {COMMENT} WHERE ParentId = {text_literal(case_id)}"


def _told(found: Record, settings: CrmSettings) -> Marker:
    """What the Case has been told. Raises Permanent if that is hidden from us."""
    if settings.marker_field not in found:
        raise Permanent(
            f"{settings.marker_field} of Case {found.get('CaseNumber')} cannot be read, so Busbar does not know what "
            "it has told. Let the integration user read and write that field."
        )
    return Marker.of(str(found[settings.marker_field] or ""))
