"""Everything a plugin may import. What is not here is not promised to stay.

Declaring: `hookimpl`, `PluginInfo`, `SchemaApp`, `EventType`, `Subscription`, `Permission`, `RoleDefault`, `Connector`,
`Importer`, `Job`. Routes: Litestar handlers with `ctx: RequestContext`, `opt=needs("<plugin>.<verb>")` and the field
types (`Name`, `Text`, …); lists: a `Where`, then `fetch_page`.
Changing data: a command takes a `Context`, opens a `transaction()`, writes, calls `record` and `publish`. Opening
tickets: an `Opening`. Delivering: a `Connector` raises `Retryable`, `Permanent`, `RateLimited` or `AuthExpired`.
"""

from busbar.audit import record, record_many
from busbar.auth.actor import Actor, Context, system_actor
from busbar.auth.guards import RequestContext
from busbar.auth.people import require_people, works_at
from busbar.auth.permissions import Permission, RoleDefault
from busbar.bus.jobs import Job
from busbar.connectors.contract import (
    Attempt,
    AuthExpired,
    ConnectionReport,
    Connector,
    DeliveryClass,
    DeliveryError,
    Endpoint,
    InboundMessage,
    NothingToTell,
    Permanent,
    Polled,
    RateLimited,
    Receipt,
    RemoteChange,
    Retryable,
    RunningSimulator,
    SecretBag,
)
from busbar.connectors.egress_url import EgressRefused
from busbar.connectors.http import failure_of, failure_of_status
from busbar.connectors.secrets import Secret
from busbar.connectors.signature import BadSigningSecret, new_signing_secret, read_signing_secrets
from busbar.connectors.signature import sign as sign_webhook
from busbar.db import DB, execute, fetch, fetchrow, fetchval, in_transaction, on_commit, spawn, transaction
from busbar.db.engine import copy_rows
from busbar.db.group_write import GroupWriter
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
from busbar.events.outbox import publish, wake_relay
from busbar.events.registry import EventType
from busbar.events.subscriptions import Subscription
from busbar.hookspecs import DemoData, PluginInfo, hookimpl
from busbar.imports.contract import ALL_OR_NOTHING, PARTIAL, Importer, ImportRun
from busbar.imports.mapping import Mapping, RowConverter, convert_rows, suggest_mapping
from busbar.imports.readers import UnreadableFile, format_of, open_source
from busbar.imports.report import CellError, ImportReport, ReportBuilder
from busbar.imports.threads import iterate_in_thread
from busbar.imports.workbooks import WorkbookLimits, read_workbook
from busbar.kit.clock import Clock, utc_now
from busbar.kit.ids import uuid7
from busbar.sites.directory import DIRECTORY as SITES
from busbar.sites.scope import module_scope, module_site
from busbar.tickets.commands import advance_to, assign, cancel, change_status, hold, note, reopen, resume, set_priority
from busbar.tickets.events import TicketCreated, TicketUpdated
from busbar.tickets.opening import ACCEPTED_SITE, NewTicket, OpenedTicket, Opening
from busbar.tickets.references import TicketReference, ticket_reference
from busbar.web.access import AUTHENTICATED, needs
from busbar.web.conditional import ANY_VERSION, IfMatch, IfMatchHeader, parse_if_match, versioned
from busbar.web.conditions import Where
from busbar.web.pagination import (
    CursorParameter,
    LimitParameter,
    Page,
    SearchParameter,
    SortColumn,
    SortParameter,
    columns_of,
    fetch_page,
    page_request,
)
from busbar.web.text import (
    Identifier,
    Latitude,
    Longitude,
    LongText,
    Moment,
    Money,
    Name,
    PositiveMoney,
    PositiveNumber,
    PositiveQuantity,
    Quantity,
    ShortText,
    SignedQuantity,
    Slug,
    Text,
    UnitPrice,
    WholeNumber,
)

__all__ = [
    "ACCEPTED_SITE", "ALL_OR_NOTHING", "ANY_VERSION", "AUTHENTICATED", "DB", "PARTIAL", "SITES", "Actor", "Attempt",
    "AuthExpired", "BadSigningSecret", "BusbarError", "CellError", "Clock", "Conflict", "ConnectionReport", "Connector",
    "Context", "CursorParameter", "DeliveryClass", "DeliveryError", "DemoData", "EgressRefused", "Endpoint",
    "EventType", "FieldError", "Forbidden", "GroupWriter", "Identifier", "IfMatch", "IfMatchHeader", "ImportReport",
    "ImportRun", "Importer", "InboundMessage", "InvalidPayload", "Job", "Latitude", "LimitParameter", "LongText",
    "Longitude", "Mapping", "Moment", "Money", "Name", "NewTicket", "NotFound", "NothingToTell", "OpenedTicket",
    "Opening", "Page", "Permanent", "Permission", "PluginInfo", "Polled", "PositiveMoney", "PositiveNumber",
    "PositiveQuantity", "PreconditionRequired", "Quantity", "RateLimited", "Receipt", "RemoteChange", "ReportBuilder",
    "RequestContext", "Retryable", "RoleDefault", "RowConverter", "RuleViolated", "RunningSimulator", "SchemaApp",
    "SearchParameter", "Secret", "SecretBag", "ShortText", "SignedQuantity", "Slug", "SortColumn", "SortParameter",
    "StaleVersion", "StoredEvent", "Subscription", "Text", "TicketCreated", "TicketReference", "TicketUpdated",
    "Unavailable", "UnitPrice", "UnreadableFile", "Where", "WholeNumber", "WorkbookLimits", "advance_to", "assign",
    "cancel", "change_status", "columns_of", "convert_rows", "copy_rows", "execute", "failure_of", "failure_of_status",
    "fetch", "fetch_page", "fetchrow", "fetchval", "format_of", "hold", "hookimpl", "in_transaction",
    "iterate_in_thread", "module_scope", "module_site", "needs", "new_signing_secret", "note", "on_commit",
    "open_source", "page_request", "parse_if_match", "publish", "read_signing_secrets", "read_workbook", "record",
    "record_many", "reopen", "require_people", "resume", "set_priority", "sign_webhook", "spawn", "suggest_mapping",
    "system_actor", "ticket_reference", "transaction", "utc_now", "uuid7", "versioned", "wake_relay", "works_at",
]  # fmt: skip
