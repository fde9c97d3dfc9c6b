"""Everything a plugin may import. What is not here is not promised to stay.

Declaring: `hookimpl`, `PluginInfo`, `SchemaApp`, `EventType`, `Subscription`, `Permission`, `RoleDefault`, `Connector`,
`Importer`. Routes: Litestar handlers with `opt=needs("<plugin>.<verb>")` and the field types (`Name`, `Text`, …).
Changing data: a command takes a `Context`, opens a `transaction()`, writes, calls `record` and `publish`. Opening
tickets: an `Opening`. Delivering: a `Connector` raises `Retryable`, `Permanent`, `RateLimited` or `AuthExpired`.
"""

from busbar.audit import record
from busbar.auth.actor import Actor, Context, system_actor
from busbar.auth.permissions import Permission, RoleDefault
from busbar.connectors.contract import (
    Attempt,
    AuthExpired,
    ConnectionReport,
    Connector,
    DeliveryClass,
    Endpoint,
    InboundMessage,
    Permanent,
    RateLimited,
    Receipt,
    RemoteChange,
    Retryable,
    RunningSimulator,
    Secret,
)
from busbar.db import DB, execute, fetch, fetchrow, fetchval, in_transaction, on_commit, spawn, transaction
from busbar.db.engine import copy_rows
from busbar.db.migrations import SchemaApp
from busbar.errors import (
    BusbarError,
    Conflict,
    FieldError,
    Forbidden,
    InvalidPayload,
    NotFound,
    PreconditionRequired,
    RuleViolated,
    StaleVersion,
    Unavailable,
)
from busbar.events.envelope import StoredEvent
from busbar.events.outbox import publish
from busbar.events.registry import EventType
from busbar.events.subscriptions import Subscription
from busbar.hookspecs import DemoData, PluginInfo, hookimpl
from busbar.kit.clock import Clock, utc_now
from busbar.kit.ids import uuid7
from busbar.sites.directory import DIRECTORY as SITES
from busbar.sites.scope import module_scope
from busbar.tickets.commands import advance_to, assign, cancel, change_status, hold, reopen, resume, set_priority
from busbar.tickets.events import TicketCreated, TicketUpdated
from busbar.tickets.opening import ACCEPTED_SITE, NewTicket, OpenedTicket, Opening
from busbar.web.access import AUTHENTICATED, needs
from busbar.web.conditional import ANY_VERSION, IfMatch, IfMatchHeader, parse_if_match, versioned
from busbar.web.pagination import (
    CursorParameter,
    LimitParameter,
    Page,
    SearchParameter,
    SortColumn,
    SortParameter,
    count_sql,
    page_request,
)
from busbar.web.text import (
    Identifier,
    Latitude,
    Longitude,
    LongText,
    Moment,
    Name,
    PositiveNumber,
    ShortText,
    Slug,
    Text,
    WholeNumber,
)

__all__ = [
    "ACCEPTED_SITE",
    "ANY_VERSION",
    "AUTHENTICATED",
    "DB",
    "SITES",
    "Actor",
    "Attempt",
    "AuthExpired",
    "BusbarError",
    "Clock",
    "Conflict",
    "ConnectionReport",
    "Connector",
    "Context",
    "CursorParameter",
    "DeliveryClass",
    "DemoData",
    "Endpoint",
    "EventType",
    "FieldError",
    "Forbidden",
    "Identifier",
    "IfMatch",
    "IfMatchHeader",
    "InboundMessage",
    "InvalidPayload",
    "Latitude",
    "LimitParameter",
    "LongText",
    "Longitude",
    "Moment",
    "Name",
    "NewTicket",
    "NotFound",
    "OpenedTicket",
    "Opening",
    "Page",
    "Permanent",
    "Permission",
    "PluginInfo",
    "PositiveNumber",
    "PreconditionRequired",
    "RateLimited",
    "Receipt",
    "RemoteChange",
    "Retryable",
    "RoleDefault",
    "RuleViolated",
    "RunningSimulator",
    "SchemaApp",
    "SearchParameter",
    "Secret",
    "ShortText",
    "Slug",
    "SortColumn",
    "SortParameter",
    "StaleVersion",
    "StoredEvent",
    "Subscription",
    "Text",
    "TicketCreated",
    "TicketUpdated",
    "Unavailable",
    "WholeNumber",
    "advance_to",
    "assign",
    "cancel",
    "change_status",
    "copy_rows",
    "count_sql",
    "execute",
    "fetch",
    "fetchrow",
    "fetchval",
    "hold",
    "hookimpl",
    "in_transaction",
    "module_scope",
    "needs",
    "on_commit",
    "page_request",
    "parse_if_match",
    "publish",
    "record",
    "reopen",
    "resume",
    "set_priority",
    "spawn",
    "system_actor",
    "transaction",
    "utc_now",
    "uuid7",
    "versioned",
]
