"""Delivery of one event: look for the ticket's record, then open it or tell it what it has not been told (class B)."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

import msgspec

from busbar.sdk import Attempt, Endpoint, Permanent, Receipt, Retryable
from busbar_itsm.answers import Record, RecordGone
from busbar_itsm.client import TableClient
from busbar_itsm.connection import client_of
from busbar_itsm.failures import translated
from busbar_itsm.mapping import Telling, telling_of
from busbar_itsm.marker import Marker
from busbar_itsm.overrides import RESERVED
from busbar_itsm.settings import ItsmSettings

FIELDS = ("number", "correlation_id", "correlation_display", "sys_created_on")
OLDEST_FIRST = "sys_created_on"
RECORDS_MAX = 10
"""How many records with one correlation id are looked at."""


class _Found(msgspec.Struct, frozen=True):
    """The ticket's record, and what to say about others that carry its id."""

    record: Record
    remark: str = ""


async def deliver(endpoint: Endpoint, attempt: Attempt) -> Receipt:
    """Tell the instance of one event; exactly one record per ticket, never set back by a late event.

    The record is looked for at every attempt, the first too: one short request, and then no mistake about which
    attempt is the first can open a second record. An event that finds no record opens it, whatever it tells of, so a
    dead-lettered creation holds up nothing.

    Raises Permanent, Retryable, RateLimited, AuthExpired or NothingToTell.
    """
    telling = telling_of(attempt.event, attempt.document, endpoint.settings)
    with translated(endpoint, changing=False):
        desk = _Desk(endpoint, attempt)
        found = await desk.by_remote_id(telling.ticket_id) or await desk.by_correlation_id(telling.ticket_id)
    if found is None:
        return await desk.open(telling)
    if not telling.is_news(_told(found.record)):
        return desk.untouched(found)
    return await desk.change(found, telling)


class _Desk:
    """One attempt's view of the instance: every call carries the attempt's correlation id."""

    def __init__(self, endpoint: Endpoint, attempt: Attempt) -> None:
        settings: ItsmSettings = endpoint.settings
        self._endpoint = endpoint
        self._attempt = attempt
        self._table = settings.table
        self._base_url = settings.base_url.rstrip("/")
        self._client: TableClient = client_of(endpoint)
        self._headers = {"X-Correlation-ID": attempt.correlation_id}

    async def by_remote_id(self, ticket_id: str) -> _Found | None:
        """The record that an earlier delivery learnt of, unless it is gone or has become another ticket's."""
        if self._attempt.remote_id is None:
            return None
        record = await self._client.get(self._table, self._attempt.remote_id, fields=FIELDS, headers=self._headers)
        return _Found(record) if record and record.get("correlation_id") in (ticket_id, "") else None

    async def by_correlation_id(self, ticket_id: str) -> _Found | None:
        """The oldest record with the ticket's id."""
        records = await self._client.find(
            self._table,
            {"correlation_id": ticket_id},
            fields=FIELDS,
            limit=RECORDS_MAX,
            order_by=OLDEST_FIRST,
            headers=self._headers,
        )
        if not records:
            return None
        # Creation times count in seconds, so two of one second are told apart by number.
        records.sort(key=_age)
        return _Found(records[0], _remark(ticket_id, records))

    async def open(self, telling: Telling) -> Receipt:
        """Create the ticket's record."""
        fields = telling.record(self._attempt.correlation_id)
        with translated(self._endpoint, changing=True):
            record = await self._client.create(self._table, fields, headers=self._headers)
        return self._written(record, fields, "was opened.")

    async def change(self, found: _Found, telling: Telling) -> Receipt:
        """Tell an existing record what is new to it."""
        told = _told(found.record)
        news = telling.news(told)
        display = told.including(telling.marker).display(self._attempt.correlation_id)
        fields = {**news, "correlation_id": telling.ticket_id, "correlation_display": display}
        with translated(self._endpoint, changing=True):
            try:
                record = await self._client.update(self._table, found.record["sys_id"], fields, headers=self._headers)
            except RecordGone as error:
                raise Retryable(f"{_name(found.record)} was deleted just now; the next attempt looks again.") from error
        return self._written(record, fields, f"was changed: {', '.join(news) or 'nothing to show'}.", found.remark)

    def untouched(self, found: _Found) -> Receipt:
        """The record has been told of this, or of something newer."""
        receipt = self._receipt(found.record, "has been told of this already.", found.remark)
        return msgspec.structs.replace(receipt, duplicate=True)

    def _written(self, record: Record, fields: Mapping[str, str], outcome: str, remark: str = "") -> Receipt:
        """A receipt with the revision that our write made, so that the webhook about it is known for an echo."""
        # An access rule on a field drops it without a word; without these two a repeat could double the record.
        if lost := [name for name in RESERVED if record.get(name) != fields[name]]:
            remark = f"The instance did not keep {' and '.join(lost)}: let the integration user write it. {remark}"
        revision = str(record.get("sys_mod_count") or "") or None
        return msgspec.structs.replace(self._receipt(record, outcome, remark.strip()), marker=revision)

    def _receipt(self, record: Record, outcome: str, remark: str) -> Receipt:
        address = quote(f"/{self._table}.do?sys_id={record['sys_id']}", safe="")
        return Receipt(
            remote_id=record["sys_id"],
            remote_url=f"{self._base_url}/nav_to.do?uri={address}",
            detail=" ".join(part for part in (f"{_name(record)} {outcome}", remark) if part),
        )


def _told(record: Record) -> Marker:
    """What the record has been told. Raises Permanent if that is hidden from us."""
    display = record.get("correlation_display")
    if not isinstance(display, str):
        raise Permanent(
            f"correlation_display of {_name(record)} cannot be read, so Busbar does not know what it has told. "
            "Let the integration user read and write that field."
        )
    return Marker.of(display)


def _age(record: Record) -> tuple[str, int, str]:
    number = _name(record)
    return str(record.get("sys_created_on")), len(number), number


def _name(record: Record) -> str:
    """The number that people know the record by."""
    return str(record.get("number") or record["sys_id"])


def _remark(ticket_id: str, records: Sequence[Record]) -> str:
    if len(records) == 1:
        return ""
    others = ", ".join(_name(record) for record in records[1:])
    return f"{len(records)} records carry {ticket_id}; the oldest is used, close the others: {others}."
