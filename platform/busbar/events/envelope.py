"""The CloudEvents 1.0 envelope (SPEC, REST contract: Events)."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

CONTENT_TYPE = "application/cloudevents+json"


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as the outbox holds it; `data` is JSON, not yet decoded."""

    event_id: UUID
    event_type: str
    module: str
    site_id: str
    subject: str
    time: datetime
    data: msgspec.Raw
    schema_version: int
    correlation_id: str
    traceparent: str | None
    actor_id: str
    origin: str | None
    position: int | None = None

    def cloud_event(self) -> "CloudEvent":
        """The same in the form that leaves Busbar."""
        return CloudEvent(
            id=str(self.event_id),
            source=f"/busbar/{self.site_id}/{self.module}",
            type=self.event_type,
            subject=self.subject,
            time=self.time,
            data=self.data,
            correlationid=self.correlation_id,
            site=self.site_id,
            schemaversion=self.schema_version,
            traceparent=self.traceparent or msgspec.UNSET,
        )


COLUMNS = (
    "event_id, event_type, module, site_id, subject, time, data, schema_version, correlation_id, traceparent, "
    "actor_id, origin, position"
)
"""The columns of core.event in the order of `StoredEvent`'s fields."""


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A CloudEvents 1.0 event in structured JSON, with Busbar's extension attributes in lower case."""

    specversion: str = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: str = "application/json"
    data: msgspec.Raw
    correlationid: str
    site: str
    schemaversion: int
    traceparent: str | msgspec.UnsetType = msgspec.UNSET


def stored(row: Any) -> StoredEvent:
    """A `StoredEvent` from a row that has the columns of core.event."""
    return StoredEvent(
        event_id=row["event_id"],
        event_type=row["event_type"],
        module=row["module"],
        site_id=row["site_id"],
        subject=row["subject"],
        time=row["time"],
        data=msgspec.Raw(row["data"].encode()),
        schema_version=row["schema_version"],
        correlation_id=row["correlation_id"],
        traceparent=row["traceparent"],
        actor_id=row["actor_id"],
        origin=row["origin"],
        position=row["position"],
    )


def as_dict(event: StoredEvent) -> dict[str, Any]:
    """The CloudEvent as plain data: what filters, mappings and connectors read."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(event.cloud_event()))
    return document
