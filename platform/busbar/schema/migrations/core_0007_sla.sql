-- Service levels: calendars and targets by site, weather events, what each ticket was promised, and which alerts went out.

create table core.site_calendar (
    id bigserial primary key,
    site_id text not null,
    version integer not null,
    timezone text not null,
    hours jsonb,
    holidays jsonb not null,
    created_by text not null,
    created_at timestamptz not null,
    constraint site_calendar_unique unique (site_id, version)
);

create table core.sla_terms (
    scope text primary key,
    targets jsonb not null,
    warn_percent integer,
    version integer not null,
    updated_at timestamptz not null
);

create table core.weather_event (
    weather_event_id uuid primary key,
    site_id text not null,
    name text not null,
    starts_at timestamptz not null,
    ends_at timestamptz,
    withdrawn_at timestamptz,
    settled boolean not null default false,
    declared_by text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    version integer not null default 1,
    constraint weather_event_ends_later check (ends_at > starts_at)
);
create index weather_event_site on core.weather_event (site_id, created_at desc);
create index weather_event_unsettled on core.weather_event (weather_event_id) where not settled;

create table core.ticket_hold (
    id bigserial primary key,
    ticket_id text not null,
    held_from timestamptz not null,
    held_until timestamptz not null
);
create index ticket_hold_ticket on core.ticket_hold (ticket_id);

-- What was promised stands on the ticket itself, written when it is opened: later changes of calendars, targets and
-- priorities do not move it.
alter table core.ticket
    add column sla_class text not null default 'standard',
    add column weather_event_id uuid,
    add column promised_priority text,
    add column promise_before jsonb,
    add column calendar_version integer not null default 0,
    add column response_target_s integer,
    add column resolution_target_s integer,
    add column warn_percent integer not null default 80,
    add column response_deadline timestamptz,
    add column responded_at timestamptz,
    add column sla_round integer not null default 1,
    add column alerts_sent text[] not null default '{}',
    add column alert_due_at timestamptz,
    add constraint ticket_sla_class_known check (sla_class in ('standard', 'storm'));
create index ticket_alert on core.ticket (alert_due_at) where alert_due_at is not null;
create index ticket_weather_event on core.ticket (weather_event_id) where weather_event_id is not null;

-- Tickets from before: what they were promised, in whole hours, follows from their deadline; their holds from the trail.
-- Only deadlines that are still to come are watched.
update core.ticket t set
    resolution_target_s = 3600 * round((extract(epoch from t.sla_deadline - t.created_at) - t.held_s) / 3600),
    alert_due_at = case when t.status not in ('Closed', 'Cancelled') and not t.on_hold and t.sla_deadline > now()
        then t.created_at end,
    responded_at = (select min(a.at) from core.audit a
        where a.object_kind = 'ticket' and a.object_id = t.ticket_id and a.new_status <> 'Open');
insert into core.ticket_hold (ticket_id, held_from, held_until)
select object_id, at, until from (
    select object_id, action, at, lead(at) over (partition by object_id order by audit_id) as until
    from core.audit
    where object_kind = 'ticket' and action in ('ticket.hold', 'ticket.resume', 'ticket.cancel')
) turns where action = 'ticket.hold' and until > at;
