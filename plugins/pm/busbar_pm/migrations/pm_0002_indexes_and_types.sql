-- Look-ups, references, and the asset types of electricity, water and gas networks.

alter table pm.asset add foreign key (asset_type) references pm.asset_type (asset_type);
alter table pm.asset add foreign key (parent_id) references pm.asset (asset_id);
alter table pm.maintenance_order add foreign key (asset_id) references pm.asset (asset_id);
alter table pm.maintenance_order add foreign key (ticket_id) references core.ticket (ticket_id);
alter table pm.incident add foreign key (asset_id) references pm.asset (asset_id);
alter table pm.incident add foreign key (ticket_id) references core.ticket (ticket_id);
alter table pm.restoration_step add foreign key (incident_id) references pm.incident (incident_id);
alter table pm.asset_history add foreign key (asset_id) references pm.asset (asset_id);

create index asset_site on pm.asset (site_id, asset_id);
create index asset_parent on pm.asset (parent_id);
create index asset_name on pm.asset using gin (to_tsvector('simple', name || ' ' || location));
create index incident_started on pm.incident (started_at desc, incident_id desc);
create index incident_asset on pm.incident (asset_id, started_at desc);
create index incident_open on pm.incident (site_id) where restored_at is null;
create index order_scheduled on pm.maintenance_order (scheduled_date, order_id);
create index order_asset on pm.maintenance_order (asset_id);
create index asset_history_asset on pm.asset_history (asset_id, at desc, id desc);

insert into pm.asset_type (asset_type, title) values
    ('network', 'Network'),
    ('substation', 'Substation'),
    ('transformer', 'Transformer'),
    ('feeder', 'Feeder'),
    ('line', 'Line or cable'),
    ('switch', 'Switch'),
    ('service_point', 'Service point'),
    ('pump', 'Pump'),
    ('valve', 'Valve'),
    ('main', 'Main'),
    ('area', 'Area');
