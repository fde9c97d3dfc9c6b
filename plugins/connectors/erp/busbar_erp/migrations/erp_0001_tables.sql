-- The ERP connector. Piccolo's table classes are the definition; a test compares the two.

create schema erp;

CREATE TABLE erp.document (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    endpoint_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    short_id TEXT NOT NULL,
    ticket_id TEXT,
    remote_id TEXT,
    told_version INTEGER NOT NULL DEFAULT 0,
    told_at TIMESTAMPTZ,
    state TEXT NOT NULL DEFAULT '',
    intended_state TEXT NOT NULL DEFAULT '',
    reported_state TEXT NOT NULL DEFAULT '',
    reported_message TEXT NOT NULL DEFAULT '',
    purchase_order TEXT NOT NULL DEFAULT '',
    purchase_order_item TEXT NOT NULL DEFAULT '',
    withdrawn BOOLEAN NOT NULL DEFAULT false,
    created_at TIMESTAMPTZ NOT NULL);
ALTER TABLE erp.document ADD CONSTRAINT document_once UNIQUE (endpoint_id, kind, subject);
ALTER TABLE erp.document ADD CONSTRAINT document_short_id UNIQUE (endpoint_id, short_id);
ALTER TABLE erp.document ADD CONSTRAINT document_kind_known CHECK (kind in ('requisition', 'movement', 'reversal', 'notification', 'order'));
create index document_ticket on erp.document (ticket_id);
