-- The core's tables. Piccolo's table classes are the definition; a test compares the two.

CREATE TABLE core.audit (
    audit_id BIGSERIAL PRIMARY KEY NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    actor_id TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    action TEXT NOT NULL,
    object_kind TEXT NOT NULL,
    object_id TEXT NOT NULL,
    site_id TEXT,
    previous_status TEXT,
    new_status TEXT,
    comment TEXT,
    details JSONB,
    correlation_id TEXT NOT NULL);
CREATE TABLE core.audit_seal (
    seal_id BIGINT PRIMARY KEY NOT NULL,
    audit_id BIGINT UNIQUE NOT NULL,
    hash BYTEA NOT NULL);
CREATE TABLE core.delivery (
    delivery_id BIGSERIAL PRIMARY KEY NOT NULL,
    event_id UUID NOT NULL,
    position BIGINT NOT NULL,
    subscription TEXT NOT NULL,
    endpoint_id TEXT,
    route_id TEXT,
    route_version INTEGER,
    site_id TEXT NOT NULL,
    ordering_key TEXT,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    charged INTEGER NOT NULL DEFAULT 0,
    next_attempt_at TIMESTAMPTZ NOT NULL,
    worker INTEGER,
    lease_until TIMESTAMPTZ,
    document JSONB,
    last_error TEXT,
    remote_id TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ);
ALTER TABLE core.delivery ADD CONSTRAINT delivery_once UNIQUE (event_id, subscription);
ALTER TABLE core.delivery ADD CONSTRAINT delivery_state_known CHECK (state in ('pending', 'in_flight', 'retrying', 'delivered', 'dead', 'skipped'));
CREATE TABLE core.delivery_attempt (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    delivery_id BIGINT NOT NULL,
    attempt INTEGER NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT,
    worker INTEGER NOT NULL);
CREATE TABLE core.endpoint (
    endpoint_id TEXT PRIMARY KEY NOT NULL,
    connector TEXT NOT NULL,
    name TEXT NOT NULL,
    sites TEXT[] NOT NULL,
    settings JSONB NOT NULL,
    secrets JSONB NOT NULL,
    runner TEXT NOT NULL DEFAULT 'busbar',
    active BOOLEAN NOT NULL DEFAULT true,
    breaker JSONB,
    version INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL);
ALTER TABLE core.endpoint ADD CONSTRAINT endpoint_runner_known CHECK (runner in ('busbar', 'camel'));
CREATE TABLE core.event (
    event_id UUID PRIMARY KEY NOT NULL,
    seq BIGSERIAL NOT NULL,
    event_type TEXT NOT NULL,
    module TEXT NOT NULL,
    site_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    data JSONB NOT NULL,
    schema_version INTEGER NOT NULL DEFAULT 1,
    correlation_id TEXT NOT NULL,
    traceparent TEXT,
    actor_id TEXT NOT NULL,
    origin TEXT,
    position BIGINT UNIQUE);
CREATE TABLE core.idempotency (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL,
    headers TEXT NOT NULL,
    body BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL);
ALTER TABLE core.idempotency ADD CONSTRAINT idempotency_unique UNIQUE (scope, key);
CREATE TABLE core.import_job (
    import_id UUID PRIMARY KEY NOT NULL,
    importer TEXT NOT NULL,
    site_id TEXT NOT NULL,
    file_name TEXT NOT NULL,
    mode TEXT NOT NULL,
    state TEXT NOT NULL,
    rows_read BIGINT NOT NULL DEFAULT 0,
    rows_accepted BIGINT NOT NULL DEFAULT 0,
    rows_rejected BIGINT NOT NULL DEFAULT 0,
    report JSONB,
    failure TEXT,
    created_by TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    heartbeat_at TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ);
ALTER TABLE core.import_job ADD CONSTRAINT import_job_mode_known CHECK (mode in ('all_or_nothing', 'partial'));
ALTER TABLE core.import_job ADD CONSTRAINT import_job_state_known CHECK (state in ('running', 'done', 'failed'));
CREATE TABLE core.inbound_message (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    endpoint_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    outcome TEXT NOT NULL);
ALTER TABLE core.inbound_message ADD CONSTRAINT inbound_message_unique UNIQUE (endpoint_id, message_id);
CREATE TABLE core.login_failure (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    username TEXT NOT NULL,
    source TEXT NOT NULL);
CREATE TABLE core.refresh_token (
    token_hash TEXT PRIMARY KEY NOT NULL,
    family UUID NOT NULL,
    user_id UUID NOT NULL,
    issued_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    family_expires_at TIMESTAMPTZ NOT NULL,
    used_at TIMESTAMPTZ,
    successor_seed BYTEA,
    revoked_at TIMESTAMPTZ);
CREATE TABLE core.remote_reference (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    endpoint_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    remote_id TEXT NOT NULL,
    marker TEXT,
    created_at TIMESTAMPTZ NOT NULL);
ALTER TABLE core.remote_reference ADD CONSTRAINT remote_reference_unique UNIQUE (endpoint_id, subject);
CREATE TABLE core.role (
    role TEXT PRIMARY KEY NOT NULL,
    title TEXT NOT NULL,
    permissions TEXT[] NOT NULL,
    offered TEXT[] NOT NULL,
    builtin BOOLEAN NOT NULL DEFAULT false,
    version INTEGER NOT NULL DEFAULT 1);
CREATE TABLE core.route (
    route_id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    sites TEXT[] NOT NULL,
    pattern TEXT[] NOT NULL,
    filter TEXT,
    mapping JSONB,
    endpoint_id TEXT NOT NULL,
    attempts_max INTEGER NOT NULL DEFAULT 12,
    state TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL);
ALTER TABLE core.route ADD CONSTRAINT route_state_known CHECK (state in ('draft', 'published', 'off'));
CREATE TABLE core.route_version (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    route_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    action TEXT NOT NULL,
    state TEXT NOT NULL,
    rule JSONB NOT NULL,
    changed_by TEXT NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL);
ALTER TABLE core.route_version ADD CONSTRAINT route_version_unique UNIQUE (route_id, version);
CREATE TABLE core.signing_key (
    kid TEXT PRIMARY KEY NOT NULL,
    public_jwk TEXT NOT NULL,
    private_encrypted TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    retired_at TIMESTAMPTZ);
CREATE TABLE core.site (
    site_id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    timezone TEXT NOT NULL DEFAULT 'UTC',
    version INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL DEFAULT current_timestamp);
CREATE TABLE core.site_module (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    site_id TEXT NOT NULL,
    module TEXT NOT NULL,
    enabled BOOLEAN NOT NULL);
ALTER TABLE core.site_module ADD CONSTRAINT site_module_unique UNIQUE (site_id, module);
CREATE TABLE core.ticket (
    ticket_id TEXT PRIMARY KEY NOT NULL,
    module TEXT NOT NULL,
    ticket_type TEXT NOT NULL,
    title TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    priority TEXT NOT NULL,
    status TEXT NOT NULL,
    on_hold BOOLEAN NOT NULL DEFAULT false,
    hold_since TIMESTAMPTZ,
    held_s INTEGER NOT NULL DEFAULT 0,
    site_id TEXT NOT NULL,
    assignee TEXT,
    created_by TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    closed_at TIMESTAMPTZ,
    sla_deadline TIMESTAMPTZ NOT NULL,
    object_kind TEXT,
    object_id TEXT,
    correlation_id TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1);
ALTER TABLE core.ticket ADD CONSTRAINT ticket_type_known CHECK (ticket_type in ('Incident', 'Maintenance', 'Procurement', 'Finance_Approval'));
ALTER TABLE core.ticket ADD CONSTRAINT ticket_priority_known CHECK (priority in ('P1', 'P2', 'P3', 'P4'));
ALTER TABLE core.ticket ADD CONSTRAINT ticket_status_known CHECK (status in ('Open', 'Assigned', 'In_Progress', 'Closed', 'Cancelled'));
CREATE TABLE core.ticket_counter (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    module TEXT NOT NULL,
    day DATE NOT NULL,
    last INTEGER NOT NULL);
ALTER TABLE core.ticket_counter ADD CONSTRAINT ticket_counter_unique UNIQUE (module, day);
CREATE TABLE core.user_account (
    user_id UUID PRIMARY KEY NOT NULL,
    username TEXT UNIQUE NOT NULL,
    display_name TEXT NOT NULL,
    email TEXT,
    password_hash TEXT NOT NULL,
    roles TEXT[] NOT NULL,
    sites TEXT[] NOT NULL,
    active BOOLEAN NOT NULL DEFAULT true,
    sessions_valid_from TIMESTAMPTZ NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL);
