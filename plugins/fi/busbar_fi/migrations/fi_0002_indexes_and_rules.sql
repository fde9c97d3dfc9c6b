-- Look-ups, references, and what no statement may do: change an entry.

alter table fi.cost_center add foreign key (parent_id) references fi.cost_center (cost_center_id);
alter table fi.budget_year add foreign key (cost_center_id) references fi.cost_center (cost_center_id);
alter table fi.commitment add foreign key (cost_center_id) references fi.cost_center (cost_center_id);
alter table fi.cost_entry add foreign key (cost_center_id) references fi.cost_center (cost_center_id);
alter table fi.cost_entry add foreign key (ticket_id) references core.ticket (ticket_id);
alter table fi.cost_entry add foreign key (reverses) references fi.cost_entry (entry_id);
alter table fi.approval_request add foreign key (cost_center_id) references fi.cost_center (cost_center_id);
alter table fi.approval_request add foreign key (ticket_id) references core.ticket (ticket_id);
alter table fi.approval_level add foreign key (approval_id) references fi.approval_request (approval_id);

create index cost_center_site on fi.cost_center (site_id, cost_center_id);
create index cost_center_parent on fi.cost_center (parent_id);
create unique index cost_center_default on fi.cost_center (site_id) where is_default;
create index cost_entry_created on fi.cost_entry (created_at desc, entry_id desc);
create index cost_entry_center on fi.cost_entry (cost_center_id, fiscal_year);
create index cost_entry_ticket on fi.cost_entry (ticket_id);
create index cost_entry_posting on fi.cost_entry (site_id, posting_date);
create index commitment_center on fi.commitment (cost_center_id, fiscal_year);
create index commitment_ticket on fi.commitment (source_ticket_id);
create index approval_request_pending on fi.approval_request (priority, created_at) where status = 'pending';
create index approval_request_created on fi.approval_request (created_at desc, approval_id desc);
create index delegation_delegate on fi.delegation (delegate, valid_until);
create unique index approval_rule_once on fi.approval_rule (site_id, up_to) nulls not distinct;

create function fi.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'cost entries are never changed or deleted; post a reversal' using errcode = 'restrict_violation';
end
$$;
create trigger cost_entry_stays before update or delete on fi.cost_entry
    for each row execute function fi.refuse_change();
create trigger cost_entry_is_not_emptied before truncate on fi.cost_entry
    for each statement execute function fi.refuse_change();
