-- Maintenance plans and their calls, the work and cost of orders, measurements, and codes of failures.

alter table pm.asset add column cost_center_id text;
alter table pm.maintenance_order
    add column cost_center_id text,
    add column cost_type text not null default 'OPEX',
    add column plan_id uuid,
    add column incident_id uuid,
    add column object_part text not null default 'unknown',
    add column damage text not null default 'unknown',
    add column cause text not null default 'unknown',
    add column detection text not null default 'unknown';
alter table pm.maintenance_order add constraint order_cost_type_known check (cost_type in ('OPEX', 'CAPEX'));
alter table pm.incident
    add column object_part text not null default 'unknown',
    add column damage text not null default 'unknown',
    add column cause text not null default 'unknown',
    add column detection text not null default 'unknown';
alter table pm.asset_history
    add column cost numeric(15,2) not null default 0,
    add column labour_hours numeric(15,3) not null default 0;

CREATE TABLE pm.order_checklist_item (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    order_id UUID NOT NULL,
    position INTEGER NOT NULL,
    text TEXT NOT NULL,
    mandatory BOOLEAN NOT NULL DEFAULT true,
    done_at TIMESTAMPTZ,
    done_by TEXT,
    note TEXT);
ALTER TABLE pm.order_checklist_item ADD CONSTRAINT checklist_position_once UNIQUE (order_id, position);
CREATE TABLE pm.order_planned_labour (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    order_id UUID NOT NULL,
    position INTEGER NOT NULL,
    description TEXT NOT NULL,
    hours NUMERIC(15, 3) NOT NULL,
    hourly_rate NUMERIC(15, 2) NOT NULL);
ALTER TABLE pm.order_planned_labour ADD CONSTRAINT planned_labour_position_once UNIQUE (order_id, position);
CREATE TABLE pm.order_component (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    order_id UUID NOT NULL,
    material_id TEXT NOT NULL,
    quantity NUMERIC(15, 3) NOT NULL);
ALTER TABLE pm.order_component ADD CONSTRAINT component_once UNIQUE (order_id, material_id);
ALTER TABLE pm.order_component ADD CONSTRAINT component_quantity_positive CHECK (quantity > 0);
CREATE TABLE pm.order_actual (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    entry_id UUID UNIQUE NOT NULL,
    order_id UUID NOT NULL,
    kind TEXT NOT NULL,
    description TEXT NOT NULL,
    hours NUMERIC(15, 3),
    hourly_rate NUMERIC(15, 2),
    amount NUMERIC(15, 2) NOT NULL,
    recorded_at TIMESTAMPTZ NOT NULL,
    recorded_by TEXT NOT NULL);
ALTER TABLE pm.order_actual ADD CONSTRAINT actual_kind_known CHECK (kind in ('labour', 'external', 'material'));
ALTER TABLE pm.order_actual ADD CONSTRAINT actual_hours_of_labour CHECK ((kind = 'labour') = (hours is not null and hourly_rate is not null));
ALTER TABLE pm.order_actual ADD CONSTRAINT actual_amount_not_negative CHECK (amount >= 0);
CREATE TABLE pm.order_issue (
    transaction_id UUID PRIMARY KEY NOT NULL,
    order_id UUID NOT NULL,
    material_id TEXT NOT NULL,
    description TEXT NOT NULL,
    unit_of_measure TEXT NOT NULL,
    quantity NUMERIC(15, 3) NOT NULL,
    value NUMERIC(15, 2) NOT NULL,
    posted_at TIMESTAMPTZ NOT NULL,
    posted_by TEXT NOT NULL);
CREATE TABLE pm.maintenance_plan (
    plan_id UUID PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    asset_id TEXT,
    asset_type TEXT,
    kind TEXT NOT NULL,
    trigger JSONB NOT NULL,
    template JSONB NOT NULL,
    lead_days INTEGER NOT NULL DEFAULT 0,
    active BOOLEAN NOT NULL DEFAULT true,
    next_due DATE,
    next_value NUMERIC(18, 3),
    armed BOOLEAN NOT NULL DEFAULT true,
    calls INTEGER NOT NULL DEFAULT 0,
    site_id TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL);
ALTER TABLE pm.maintenance_plan ADD CONSTRAINT plan_kind_known CHECK (kind in ('calendar', 'meter', 'condition', 'incident'));
ALTER TABLE pm.maintenance_plan ADD CONSTRAINT plan_of_one_asset_or_type CHECK ((asset_id is null) <> (asset_type is null));
ALTER TABLE pm.maintenance_plan ADD CONSTRAINT plan_of_a_type_waits_for_incidents CHECK (asset_type is null or kind = 'incident');
CREATE TABLE pm.maintenance_call (
    call_id UUID PRIMARY KEY NOT NULL,
    plan_id UUID NOT NULL,
    number INTEGER NOT NULL,
    order_id UUID NOT NULL,
    due_date DATE NOT NULL,
    reading NUMERIC(15, 3),
    incident_id UUID,
    covered INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL,
    called_at TIMESTAMPTZ NOT NULL);
ALTER TABLE pm.maintenance_call ADD CONSTRAINT call_number_once UNIQUE (plan_id, number);
ALTER TABLE pm.maintenance_call ADD CONSTRAINT call_incident_once UNIQUE (plan_id, incident_id);
CREATE TABLE pm.measurement (
    measurement_id UUID PRIMARY KEY NOT NULL,
    asset_id TEXT NOT NULL,
    name TEXT NOT NULL,
    value NUMERIC(15, 3) NOT NULL,
    unit TEXT NOT NULL DEFAULT '',
    taken_at TIMESTAMPTZ NOT NULL,
    source_ref TEXT,
    recorded_at TIMESTAMPTZ NOT NULL,
    recorded_by TEXT NOT NULL);
ALTER TABLE pm.measurement ADD CONSTRAINT measurement_source_once UNIQUE (asset_id, source_ref);
CREATE TABLE pm.failure_code (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    code_group TEXT NOT NULL,
    code TEXT NOT NULL,
    title TEXT NOT NULL,
    active BOOLEAN NOT NULL DEFAULT true);
ALTER TABLE pm.failure_code ADD CONSTRAINT failure_code_once UNIQUE (code_group, code);
ALTER TABLE pm.failure_code ADD CONSTRAINT failure_code_group_known CHECK (code_group in ('object_part', 'damage', 'cause', 'detection'));

