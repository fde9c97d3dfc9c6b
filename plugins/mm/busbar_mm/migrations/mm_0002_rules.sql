-- References, look-ups, the append-only ledger, and the rule that a material has at most one open reorder.

alter table mm.stock add foreign key (material_id) references mm.material (material_id);
alter table mm.stock_transaction add foreign key (material_id) references mm.material (material_id);
alter table mm.reservation add foreign key (material_id) references mm.material (material_id);
alter table mm.reservation add foreign key (ticket_id) references core.ticket (ticket_id);
alter table mm.purchase_requisition add foreign key (material_id) references mm.material (material_id);
alter table mm.purchase_requisition add foreign key (ticket_id) references core.ticket (ticket_id);
alter table mm.stock_count_line add foreign key (material_id) references mm.material (material_id);
alter table mm.stock_count_line add foreign key (count_id) references mm.stock_count (count_id);

create index material_site on mm.material (site_id, material_id);
create index material_text on mm.material using gin (to_tsvector('simple', description));
create index stock_transaction_material on mm.stock_transaction (material_id, entry);
create index stock_transaction_site on mm.stock_transaction (site_id, entry);
create index stock_transaction_ticket on mm.stock_transaction (ticket_id, material_id) where ticket_id is not null;
create index reservation_material on mm.reservation (material_id) where released_at is null;
create index requisition_material on mm.purchase_requisition (material_id);
create index requisition_site on mm.purchase_requisition (site_id, created_at);
create unique index requisition_one_open_reorder on mm.purchase_requisition (material_id)
    where origin = 'reorder' and status in ('requested', 'approved', 'ordered');
create index stock_count_site on mm.stock_count (site_id, created_at);
create index stock_count_line_material on mm.stock_count_line (material_id);

-- The same few rows are written again and again: room on their page keeps an update from touching the indexes.
alter table mm.material set (fillfactor = 80);
alter table mm.stock set (fillfactor = 80);

create function mm.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'mm.% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end $$;
create trigger stock_transaction_append_only before update or delete on mm.stock_transaction
    for each row execute function mm.refuse_change();
create trigger stock_transaction_not_truncated before truncate on mm.stock_transaction
    for each statement execute function mm.refuse_change();
