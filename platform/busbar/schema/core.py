"""The core's own tables, as one schema app."""

from busbar.audit.tables import AuditEntry, AuditSeal
from busbar.auth.tables import LoginFailure, RefreshToken, Role, SigningKey, User
from busbar.bus.tables import JobRow, PublicationRow
from busbar.connectors.tables import EndpointRow, InboundMessageRow, PollCursor, RemoteReference
from busbar.db.migrations import SchemaApp
from busbar.events.tables import ConfigurationRow, Delivery, DeliveryAttempt, Event, SubscriptionRow
from busbar.imports.tables import ImportJob
from busbar.routing.tables import RouteRow, RouteVersion
from busbar.sites.tables import Site, SiteCalendar, SiteModule
from busbar.tickets.tables import SlaTerms, Ticket, TicketCounter, TicketHold, WeatherEvent
from busbar.web.tables import IdempotencyRecord

CORE = SchemaApp(
    name="core",
    tables=(
        AuditEntry,
        AuditSeal,
        ConfigurationRow,
        Delivery,
        DeliveryAttempt,
        EndpointRow,
        Event,
        IdempotencyRecord,
        ImportJob,
        InboundMessageRow,
        JobRow,
        LoginFailure,
        PollCursor,
        PublicationRow,
        RefreshToken,
        RemoteReference,
        Role,
        RouteRow,
        RouteVersion,
        SigningKey,
        Site,
        SiteCalendar,
        SiteModule,
        SlaTerms,
        SubscriptionRow,
        Ticket,
        TicketCounter,
        TicketHold,
        User,
        WeatherEvent,
    ),
    migrations="busbar.schema.migrations",
    depends_on=(),
)
