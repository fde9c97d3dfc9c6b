-- Finance. Piccolo's table classes are the definition; a test compares the two.

create schema fi;

CREATE TABLE fi.approval_level (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    approval_id UUID NOT NULL,
    level INTEGER NOT NULL,
    approver TEXT NOT NULL,
    decision TEXT,
    decided_by TEXT,
    on_behalf_of TEXT,
    decided_at TIMESTAMPTZ,
    comment TEXT);
ALTER TABLE fi.approval_level ADD CONSTRAINT approval_level_once UNIQUE (approval_id, level);
ALTER TABLE fi.approval_level ADD CONSTRAINT approval_level_decision_known CHECK (decision in ('approved', 'rejected'));
ALTER TABLE fi.approval_level ADD CONSTRAINT approval_level_decided CHECK ((decision is null) = (decided_by is null));
CREATE TABLE fi.approval_policy (
    site_id TEXT PRIMARY KEY NOT NULL,
    remind_after_h INTEGER NOT NULL DEFAULT 24,
    version INTEGER NOT NULL DEFAULT 1);
ALTER TABLE fi.approval_policy ADD CONSTRAINT approval_policy_hours_positive CHECK (remind_after_h > 0);
CREATE TABLE fi.approval_request (
    approval_id UUID PRIMARY KEY NOT NULL,
    ticket_id TEXT UNIQUE NOT NULL,
    cost_center_id TEXT NOT NULL,
    amount NUMERIC(15, 2) NOT NULL,
    currency TEXT NOT NULL,
    justification TEXT NOT NULL,
    priority TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending',
    level INTEGER NOT NULL DEFAULT 1,
    requested_by TEXT NOT NULL,
    subject_kind TEXT,
    subject_id TEXT,
    subject_ticket_id TEXT,
    waiting_since TIMESTAMPTZ NOT NULL,
    reminded_at TIMESTAMPTZ,
    decided_by TEXT,
    decided_at TIMESTAMPTZ,
    comment TEXT,
    site_id TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL);
ALTER TABLE fi.approval_request ADD CONSTRAINT approval_request_subject_once UNIQUE (subject_kind, subject_id);
ALTER TABLE fi.approval_request ADD CONSTRAINT approval_request_status_known CHECK (status in ('pending', 'approved', 'rejected', 'withdrawn'));
ALTER TABLE fi.approval_request ADD CONSTRAINT approval_request_not_negative CHECK (amount >= 0);
ALTER TABLE fi.approval_request ADD CONSTRAINT approval_request_decided CHECK ((status = 'pending') = (decided_at is null));
CREATE TABLE fi.approval_rule (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    site_id TEXT NOT NULL,
    up_to NUMERIC(15, 2),
    approvers TEXT[] NOT NULL);
ALTER TABLE fi.approval_rule ADD CONSTRAINT approval_rule_amount_positive CHECK (up_to > 0);
CREATE TABLE fi.budget_year (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    cost_center_id TEXT NOT NULL,
    fiscal_year INTEGER NOT NULL,
    budget_amount NUMERIC(15, 2),
    actual_amount NUMERIC(20, 2) NOT NULL DEFAULT 0,
    committed_amount NUMERIC(20, 2) NOT NULL DEFAULT 0,
    is_over BOOLEAN NOT NULL DEFAULT false);
ALTER TABLE fi.budget_year ADD CONSTRAINT budget_year_once UNIQUE (cost_center_id, fiscal_year);
ALTER TABLE fi.budget_year ADD CONSTRAINT budget_year_not_negative CHECK (budget_amount >= 0);
ALTER TABLE fi.budget_year ADD CONSTRAINT budget_year_committed_not_negative CHECK (committed_amount >= 0);
CREATE TABLE fi.commitment (
    commitment_id UUID PRIMARY KEY NOT NULL,
    source_kind TEXT NOT NULL,
    source_id TEXT NOT NULL,
    source_ticket_id TEXT NOT NULL,
    cost_center_id TEXT NOT NULL,
    fiscal_year INTEGER NOT NULL,
    original_amount NUMERIC(15, 2) NOT NULL,
    amount NUMERIC(15, 2) NOT NULL,
    currency TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'open',
    site_id TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL);
ALTER TABLE fi.commitment ADD CONSTRAINT commitment_once UNIQUE (source_kind, source_id);
ALTER TABLE fi.commitment ADD CONSTRAINT commitment_source_known CHECK (source_kind in ('requisition', 'order'));
ALTER TABLE fi.commitment ADD CONSTRAINT commitment_status_known CHECK (status in ('open', 'reduced', 'closed'));
ALTER TABLE fi.commitment ADD CONSTRAINT commitment_not_negative CHECK (amount >= 0 and original_amount >= 0);
ALTER TABLE fi.commitment ADD CONSTRAINT commitment_closed_is_empty CHECK (status <> 'closed' or amount = 0);
CREATE TABLE fi.cost_center (
    cost_center_id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    parent_id TEXT,
    responsible_manager TEXT NOT NULL,
    fiscal_year INTEGER NOT NULL,
    fiscal_year_start_month INTEGER NOT NULL DEFAULT 1,
    currency TEXT NOT NULL DEFAULT 'EUR',
    over_budget TEXT NOT NULL DEFAULT 'warn',
    is_default BOOLEAN NOT NULL DEFAULT false,
    status TEXT NOT NULL DEFAULT 'active',
    site_id TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL);
ALTER TABLE fi.cost_center ADD CONSTRAINT cost_center_over_budget_known CHECK (over_budget in ('off', 'warn', 'stop'));
ALTER TABLE fi.cost_center ADD CONSTRAINT cost_center_status_known CHECK (status in ('active', 'closed'));
ALTER TABLE fi.cost_center ADD CONSTRAINT cost_center_month_in_year CHECK (fiscal_year_start_month between 1 and 12);
ALTER TABLE fi.cost_center ADD CONSTRAINT cost_center_not_below_itself CHECK (parent_id <> cost_center_id);
CREATE TABLE fi.cost_entry (
    entry_id UUID PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    ticket_id TEXT,
    cost_center_id TEXT NOT NULL,
    fiscal_year INTEGER NOT NULL,
    posting_date DATE NOT NULL,
    cost_type TEXT NOT NULL,
    amount NUMERIC(15, 2) NOT NULL,
    currency TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    asset_id TEXT,
    reverses UUID UNIQUE,
    source_event_type TEXT,
    source_event_id UUID,
    source_line INTEGER,
    posted_by TEXT NOT NULL,
    site_id TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL);
ALTER TABLE fi.cost_entry ADD CONSTRAINT cost_entry_source_once UNIQUE (source_event_id, source_line);
ALTER TABLE fi.cost_entry ADD CONSTRAINT cost_entry_type_known CHECK (cost_type in ('CAPEX', 'OPEX'));
ALTER TABLE fi.cost_entry ADD CONSTRAINT cost_entry_sign_fits CHECK ((kind = 'cost' and amount > 0) or (kind in ('reversal', 'return') and amount < 0));
ALTER TABLE fi.cost_entry ADD CONSTRAINT cost_entry_reversal_names_its_entry CHECK ((kind = 'reversal') = (reverses is not null));
ALTER TABLE fi.cost_entry ADD CONSTRAINT cost_entry_source_complete CHECK ((source_event_id is null) = (source_line is null) and (source_event_id is null) = (source_event_type is null));
CREATE TABLE fi.cost_object (
    ticket_id TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    object_id TEXT NOT NULL,
    asset_id TEXT,
    cost_center_id TEXT,
    cost_type TEXT NOT NULL DEFAULT 'OPEX',
    site_id TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL);
ALTER TABLE fi.cost_object ADD CONSTRAINT cost_object_kind_known CHECK (kind in ('order', 'incident'));
ALTER TABLE fi.cost_object ADD CONSTRAINT cost_object_type_known CHECK (cost_type in ('CAPEX', 'OPEX'));
CREATE TABLE fi.delegation (
    delegation_id UUID PRIMARY KEY NOT NULL,
    delegator TEXT NOT NULL,
    delegate TEXT NOT NULL,
    valid_from TIMESTAMPTZ NOT NULL,
    valid_until TIMESTAMPTZ NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    revoked_at TIMESTAMPTZ,
    created_by TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL);
ALTER TABLE fi.delegation ADD CONSTRAINT delegation_to_another CHECK (delegator <> delegate);
ALTER TABLE fi.delegation ADD CONSTRAINT delegation_has_a_length CHECK (valid_from < valid_until);
