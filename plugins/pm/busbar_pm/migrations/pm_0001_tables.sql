-- Plant maintenance. Piccolo's table classes are the definition; a test compares the two.

create schema pm;

CREATE TABLE pm.asset (
    asset_id TEXT PRIMARY KEY NOT NULL,
    asset_type TEXT NOT NULL,
    name TEXT NOT NULL,
    location TEXT NOT NULL DEFAULT '',
    latitude DOUBLE PRECISION,
    longitude DOUBLE PRECISION,
    installation_date DATE,
    status TEXT NOT NULL DEFAULT 'in_service',
    parent_id TEXT,
    customers_served INTEGER NOT NULL DEFAULT 0,
    voltage_kv DOUBLE PRECISION,
    attributes JSONB NOT NULL DEFAULT '{}',
    site_id TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL);
ALTER TABLE pm.asset ADD CONSTRAINT asset_status_known CHECK (status in ('planned', 'in_service', 'out_of_service', 'retired'));
ALTER TABLE pm.asset ADD CONSTRAINT asset_customers_not_negative CHECK (customers_served >= 0);
CREATE TABLE pm.asset_history (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    asset_id TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    kind TEXT NOT NULL,
    ticket_id TEXT NOT NULL,
    object_id TEXT NOT NULL,
    summary TEXT NOT NULL,
    recorded_by TEXT NOT NULL);
ALTER TABLE pm.asset_history ADD CONSTRAINT asset_history_once UNIQUE (kind, object_id);
CREATE TABLE pm.asset_type (
    asset_type TEXT PRIMARY KEY NOT NULL,
    title TEXT NOT NULL);
CREATE TABLE pm.incident (
    incident_id UUID PRIMARY KEY NOT NULL,
    ticket_id TEXT UNIQUE NOT NULL,
    asset_id TEXT NOT NULL,
    fault_type TEXT NOT NULL,
    severity TEXT NOT NULL,
    description TEXT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    restored_at TIMESTAMPTZ,
    customers_affected INTEGER NOT NULL DEFAULT 0,
    site_id TEXT NOT NULL,
    source_ref TEXT,
    version INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL);
ALTER TABLE pm.incident ADD CONSTRAINT incident_fault_type_known CHECK (fault_type in ('fault', 'outage', 'degradation'));
ALTER TABLE pm.incident ADD CONSTRAINT incident_severity_known CHECK (severity in ('P1', 'P2', 'P3', 'P4'));
ALTER TABLE pm.incident ADD CONSTRAINT incident_customers_not_negative CHECK (customers_affected >= 0);
ALTER TABLE pm.incident ADD CONSTRAINT incident_source_unique UNIQUE (site_id, source_ref);
CREATE TABLE pm.maintenance_order (
    order_id UUID PRIMARY KEY NOT NULL,
    ticket_id TEXT UNIQUE NOT NULL,
    asset_id TEXT NOT NULL,
    order_type TEXT NOT NULL,
    description TEXT NOT NULL,
    scheduled_date DATE NOT NULL,
    status TEXT NOT NULL DEFAULT 'planned',
    completed_at TIMESTAMPTZ,
    completion_notes TEXT,
    site_id TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL);
ALTER TABLE pm.maintenance_order ADD CONSTRAINT order_type_known CHECK (order_type in ('preventive', 'corrective', 'emergency'));
ALTER TABLE pm.maintenance_order ADD CONSTRAINT order_status_known CHECK (status in ('planned', 'completed', 'cancelled'));
CREATE TABLE pm.restoration_step (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    incident_id UUID NOT NULL,
    step INTEGER NOT NULL,
    restored_at TIMESTAMPTZ NOT NULL,
    customers_restored INTEGER NOT NULL,
    note TEXT);
ALTER TABLE pm.restoration_step ADD CONSTRAINT restoration_step_unique UNIQUE (incident_id, step);
ALTER TABLE pm.restoration_step ADD CONSTRAINT restoration_step_positive CHECK (customers_restored > 0);
