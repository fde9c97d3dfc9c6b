-- What lists, the relay and the workers look up, and what keeps the trail append-only.

create index ticket_created on core.ticket (created_at desc, ticket_id desc);
create index ticket_site_created on core.ticket (site_id, created_at desc, ticket_id desc);
create index ticket_status_created on core.ticket (status, created_at desc, ticket_id desc);
create index ticket_deadline on core.ticket (sla_deadline, ticket_id) where status not in ('Closed', 'Cancelled');
create index ticket_object on core.ticket (object_kind, object_id);
create index ticket_correlation on core.ticket (correlation_id);
create index ticket_text on core.ticket using gin (to_tsvector('simple', title || ' ' || description));

create index event_unpositioned on core.event (seq) where position is null;
create index event_correlation on core.event (correlation_id);
create index event_subject on core.event (subject, position);

-- Work that is due, in the order of the events; and what is still open before it for the same key.
create index delivery_due on core.delivery (subscription, position) where state in ('pending', 'retrying');
create index delivery_in_flight on core.delivery (lease_until) where state = 'in_flight';
create index delivery_open_by_key on core.delivery (subscription, ordering_key, position)
    where state in ('pending', 'retrying', 'in_flight');
create index delivery_state on core.delivery (state, delivery_id desc);
create index delivery_attempts on core.delivery_attempt (delivery_id, attempt);

create index audit_object on core.audit (object_kind, object_id, audit_id);
create index audit_correlation on core.audit (correlation_id);
create index refresh_token_family on core.refresh_token (family);
create index refresh_token_user on core.refresh_token (user_id);
create index refresh_token_revoked on core.refresh_token (revoked_at) where revoked_at is not null;
create index login_failure_recent on core.login_failure (at);
create index remote_reference_remote on core.remote_reference (endpoint_id, remote_id);
create index idempotency_age on core.idempotency (created_at);

create function core.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'core.% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end $$;
create trigger audit_append_only before update or delete on core.audit
    for each row execute function core.refuse_change();
create trigger audit_not_truncated before truncate on core.audit
    for each statement execute function core.refuse_change();
