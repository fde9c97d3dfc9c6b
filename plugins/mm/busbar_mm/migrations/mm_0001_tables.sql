-- Materials management. Piccolo's table classes are the definition; a test compares the two.

create schema mm;

CREATE TABLE mm.material (
    material_id TEXT PRIMARY KEY NOT NULL,
    description TEXT NOT NULL,
    unit_of_measure TEXT NOT NULL,
    quantity NUMERIC(15, 3) NOT NULL DEFAULT 0,
    reorder_level NUMERIC(15, 3) NOT NULL DEFAULT 0,
    reorder_buffer NUMERIC(15, 3) NOT NULL DEFAULT 0,
    storage_location TEXT NOT NULL,
    cost_center_id TEXT,
    unit_price NUMERIC(15, 4),
    moving_average NUMERIC(21, 4),
    stock_value NUMERIC(15, 2) NOT NULL DEFAULT 0,
    currency TEXT NOT NULL DEFAULT 'EUR',
    site_id TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    posted_at TIMESTAMPTZ);
ALTER TABLE mm.material ADD CONSTRAINT material_quantity_not_negative CHECK (quantity >= 0);
ALTER TABLE mm.material ADD CONSTRAINT material_value_not_negative CHECK (stock_value >= 0);
CREATE TABLE mm.purchase_requisition (
    requisition_id UUID PRIMARY KEY NOT NULL,
    ticket_id TEXT UNIQUE NOT NULL,
    material_id TEXT NOT NULL,
    quantity NUMERIC(15, 3) NOT NULL,
    received_quantity NUMERIC(15, 3) NOT NULL DEFAULT 0,
    unit_price NUMERIC(21, 4),
    amount NUMERIC(15, 2) NOT NULL DEFAULT 0,
    currency TEXT NOT NULL,
    cost_center_id TEXT,
    justification TEXT NOT NULL DEFAULT '',
    origin TEXT NOT NULL DEFAULT 'manual',
    requested_by TEXT NOT NULL,
    storage_location TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'requested',
    external_number TEXT,
    decided_by TEXT,
    decided_at TIMESTAMPTZ,
    comment TEXT,
    site_id TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL);
ALTER TABLE mm.purchase_requisition ADD CONSTRAINT requisition_quantity_positive CHECK (quantity > 0);
ALTER TABLE mm.purchase_requisition ADD CONSTRAINT requisition_origin_known CHECK (origin in ('manual', 'reorder'));
ALTER TABLE mm.purchase_requisition ADD CONSTRAINT requisition_status_known CHECK (status in ('requested', 'approved', 'rejected', 'ordered', 'received', 'cancelled'));
CREATE TABLE mm.reservation (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    ticket_id TEXT NOT NULL,
    material_id TEXT NOT NULL,
    quantity NUMERIC(15, 3) NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    released_at TIMESTAMPTZ);
ALTER TABLE mm.reservation ADD CONSTRAINT reservation_unique UNIQUE (ticket_id, material_id);
ALTER TABLE mm.reservation ADD CONSTRAINT reservation_not_negative CHECK (quantity >= 0);
CREATE TABLE mm.stock (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    material_id TEXT NOT NULL,
    storage_location TEXT NOT NULL,
    quantity NUMERIC(15, 3) NOT NULL DEFAULT 0);
ALTER TABLE mm.stock ADD CONSTRAINT stock_unique UNIQUE (material_id, storage_location);
ALTER TABLE mm.stock ADD CONSTRAINT stock_not_negative CHECK (quantity >= 0);
CREATE TABLE mm.stock_count (
    count_id UUID PRIMARY KEY NOT NULL,
    storage_location TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    status TEXT NOT NULL DEFAULT 'open',
    site_id TEXT NOT NULL,
    created_by TEXT NOT NULL,
    posted_by TEXT,
    posted_at TIMESTAMPTZ,
    version INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL);
ALTER TABLE mm.stock_count ADD CONSTRAINT stock_count_status_known CHECK (status in ('open', 'posted', 'cancelled'));
CREATE TABLE mm.stock_count_line (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    count_id UUID NOT NULL,
    material_id TEXT NOT NULL,
    book_quantity NUMERIC(15, 3) NOT NULL,
    counted_quantity NUMERIC(15, 3),
    counted_by TEXT,
    counted_at TIMESTAMPTZ,
    transaction_id UUID);
ALTER TABLE mm.stock_count_line ADD CONSTRAINT stock_count_line_unique UNIQUE (count_id, material_id);
ALTER TABLE mm.stock_count_line ADD CONSTRAINT stock_count_line_not_negative CHECK (counted_quantity >= 0);
CREATE TABLE mm.stock_transaction (
    entry BIGSERIAL PRIMARY KEY NOT NULL,
    transaction_id UUID NOT NULL,
    line INTEGER NOT NULL DEFAULT 1,
    material_id TEXT NOT NULL,
    transaction_type TEXT NOT NULL,
    quantity_change NUMERIC(15, 3) NOT NULL,
    new_quantity NUMERIC(15, 3) NOT NULL,
    storage_location TEXT NOT NULL,
    quantity_at_location NUMERIC(15, 3) NOT NULL,
    value_change NUMERIC(15, 2) NOT NULL,
    currency TEXT NOT NULL,
    ticket_id TEXT,
    cost_center_id TEXT,
    requisition_id UUID,
    note TEXT NOT NULL DEFAULT '',
    posted_at TIMESTAMPTZ NOT NULL,
    posted_by TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    site_id TEXT NOT NULL);
ALTER TABLE mm.stock_transaction ADD CONSTRAINT stock_transaction_line_unique UNIQUE (transaction_id, line);
ALTER TABLE mm.stock_transaction ADD CONSTRAINT stock_transaction_type_agrees_with_sign CHECK (case transaction_type when 'receipt' then quantity_change > 0 when 'issue' then quantity_change < 0 when 'adjustment' then quantity_change <> 0 when 'transfer' then quantity_change <> 0 else false end);
ALTER TABLE mm.stock_transaction ADD CONSTRAINT stock_transaction_never_negative CHECK (new_quantity >= 0 and quantity_at_location >= 0);
CREATE TABLE mm.storage_location (
    id BIGSERIAL PRIMARY KEY NOT NULL,
    site_id TEXT NOT NULL,
    storage_location TEXT NOT NULL,
    title TEXT NOT NULL DEFAULT '',
    created_at TIMESTAMPTZ NOT NULL);
ALTER TABLE mm.storage_location ADD CONSTRAINT storage_location_unique UNIQUE (site_id, storage_location);
