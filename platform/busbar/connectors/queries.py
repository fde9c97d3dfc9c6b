"""Reading connectors, endpoints and what came in from them; secrets are shown by name only."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from busbar.auth.actor import Context
from busbar.connectors.breaker import Phase, Reason
from busbar.connectors.configuration import secret_names
from busbar.connectors.contract import Connector
from busbar.connectors.desk import EndpointDesk
from busbar.connectors.shared_breaker import decode_breaker
from busbar.db import fetchrow
from busbar.errors import NotFound
from busbar.web.conditions import Where
from busbar.web.pagination import Page, SortColumn, fetch_page, page_request


class ConnectorView(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of external system that a plugin can talk to."""

    kind: str
    title: str
    delivery_class: Literal["A", "B", "C"]
    """A and B promise exactly-once effects; of C, possible duplicates are flagged."""
    settings_schema: dict[str, Any]
    """JSON Schema of an endpoint's settings."""
    secrets: tuple[str, ...]
    """Names of the values that are written and never read back."""
    receives: bool
    """Whether it can take webhooks, signed with the secret `webhook_secret`."""
    default_pattern: str
    """The events that a new route to it starts with."""
    quarantined: bool


class BreakerView(msgspec.Struct, frozen=True, kw_only=True):
    """Whether deliveries go out."""

    phase: Phase
    """`closed`: they do; `open`: paused; `half_open`: one is out to see whether the remote is well."""
    reason: Reason | None
    until: datetime | None
    """When the next attempt is made."""
    failures: int
    """Failed attempts in a row."""


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """A configured instance of a connector."""

    endpoint_id: str
    connector: str
    name: str
    sites: tuple[str, ...]
    """Empty for all sites."""
    settings: dict[str, Any]
    secrets: tuple[str, ...]
    """Names of the secrets that are set."""
    runner: Literal["busbar", "camel"]
    active: bool
    breaker: BreakerView
    fault: str | None
    """Why it cannot be used at all, and what to do; null when it can."""
    version: int
    created_at: datetime
    updated_at: datetime


class InboundView(msgspec.Struct, frozen=True, kw_only=True):
    """A message that came in from a remote system."""

    message_id: str
    received_at: datetime
    outcome: str


_SORT_COLUMNS = {
    "endpoint_id": SortColumn(sql="endpoint_id", type=str),
    "name": SortColumn(sql="name", type=str),
    "connector": SortColumn(sql="connector", type=str),
    "created_at": SortColumn(sql="created_at", type=datetime),
}
_INBOUND_COLUMNS = {
    "received_at": SortColumn(sql="received_at", type=datetime),
    "id": SortColumn(sql="id", type=int),
}
_MINE = "($1::text[] is null or cardinality(sites) = 0 or sites && $1)"


def list_connectors(desk: EndpointDesk) -> tuple[ConnectorView, ...]:
    """Every connector that a working plugin offers, by kind."""
    return tuple(
        ConnectorView(
            kind=kind,
            title=connector.title,
            delivery_class=connector.delivery_class.value,
            settings_schema=settings_schema(connector),
            secrets=secret_names(connector),
            receives=connector.receive is not None,
            default_pattern=connector.default_pattern,
            quarantined=desk.quarantined(kind),
        )
        for kind, connector in sorted(desk.connectors.items())
    )


def settings_schema(connector: Connector) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the connector's settings, with the object itself at the top."""
    schema = msgspec.json.schema(connector.settings)
    definitions = schema.pop("$defs", {})
    top = definitions.pop(schema["$ref"].rpartition("/")[2])
    return {**top, "$defs": definitions} if definitions else top


async def get_endpoint(ctx: Context, desk: EndpointDesk, endpoint_id: str) -> EndpointView:
    """One endpoint.

    Raises:
        NotFound: there is no such endpoint, or the actor works for none of its sites.
    """
    row = await fetchrow(
        f"select * from core.endpoint where {_MINE} and endpoint_id = $2", ctx.actor.site_filter, endpoint_id
    )
    if row is None:
        raise NotFound(f"There is no endpoint {endpoint_id}.")
    return _view(row, desk)


async def list_endpoints(
    ctx: Context, desk: EndpointDesk, *, connector: str | None, limit: int, cursor: str | None, sort: str | None
) -> Page[EndpointView]:
    """A page of the endpoints of the actor's sites."""
    asked = page_request(
        limit=limit, cursor=cursor, sort=sort, columns=_SORT_COLUMNS, default="endpoint_id", key="endpoint_id"
    )
    where = Where(_MINE, ctx.actor.site_filter)
    where.add("connector = {}", connector)
    return await fetch_page(asked, where, columns="*", source="core.endpoint", to_item=lambda row: _view(row, desk))


async def list_inbound(
    ctx: Context, desk: EndpointDesk, endpoint_id: str, *, limit: int, cursor: str | None
) -> Page[InboundView]:
    """A page of what came in from an endpoint, newest first.

    Raises:
        NotFound: as with `get_endpoint`.
    """
    await get_endpoint(ctx, desk, endpoint_id)
    asked = page_request(
        limit=limit, cursor=cursor, sort=None, columns=_INBOUND_COLUMNS, default="-received_at", key="id"
    )
    where = Where("endpoint_id = $1", endpoint_id)
    return await fetch_page(asked, where, columns="*", source="core.inbound_message", to_item=_inbound)


def _inbound(row: Any) -> InboundView:
    return InboundView(message_id=row["message_id"], received_at=row["received_at"], outcome=row["outcome"])


def _view(row: Any, desk: EndpointDesk) -> EndpointView:
    state = decode_breaker(row["breaker"])
    known = desk.get(row["endpoint_id"])
    fault = None if known is None or known.version != row["version"] else desk.fault_of(known)
    if fault is None and desk.quarantined(row["connector"]):
        fault = f"The plugin {row['connector']} is quarantined; see the plugins."
    return EndpointView(
        endpoint_id=row["endpoint_id"],
        connector=row["connector"],
        name=row["name"],
        sites=tuple(row["sites"]),
        settings=msgspec.json.decode(row["settings"]),
        secrets=tuple(sorted(msgspec.json.decode(row["secrets"], type=dict[str, str]))),
        runner=row["runner"],
        active=row["active"],
        breaker=BreakerView(phase=state.phase, reason=state.reason, until=state.until, failures=state.failures),
        fault=fault,
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
