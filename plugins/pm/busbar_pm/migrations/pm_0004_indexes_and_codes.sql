-- Look-ups and references of plans, work and codes, and a catalogue of codes for networks of electricity, water and gas.

alter table pm.maintenance_plan add foreign key (asset_id) references pm.asset (asset_id);
alter table pm.maintenance_plan add foreign key (asset_type) references pm.asset_type (asset_type);
alter table pm.maintenance_call add foreign key (plan_id) references pm.maintenance_plan (plan_id);
alter table pm.maintenance_call add foreign key (order_id) references pm.maintenance_order (order_id);
alter table pm.maintenance_call add foreign key (incident_id) references pm.incident (incident_id);
alter table pm.maintenance_order add foreign key (plan_id) references pm.maintenance_plan (plan_id);
alter table pm.maintenance_order add foreign key (incident_id) references pm.incident (incident_id);
alter table pm.order_checklist_item add foreign key (order_id) references pm.maintenance_order (order_id);
alter table pm.order_planned_labour add foreign key (order_id) references pm.maintenance_order (order_id);
alter table pm.order_component add foreign key (order_id) references pm.maintenance_order (order_id);
alter table pm.order_actual add foreign key (order_id) references pm.maintenance_order (order_id);
alter table pm.order_issue add foreign key (order_id) references pm.maintenance_order (order_id);
alter table pm.measurement add foreign key (asset_id) references pm.asset (asset_id);

create index plan_site on pm.maintenance_plan (site_id, plan_id);
create index plan_asset on pm.maintenance_plan (asset_id);
create index plan_due on pm.maintenance_plan (next_due) where active and kind = 'calendar';
create index plan_incident on pm.maintenance_plan (site_id) where active and kind = 'incident';
create index order_plan on pm.maintenance_order (plan_id) where plan_id is not null;
create index order_incident on pm.maintenance_order (incident_id) where incident_id is not null;
create index call_order on pm.maintenance_call (order_id);
create index order_actual_order on pm.order_actual (order_id);
create index order_issue_order on pm.order_issue (order_id);
create index measurement_latest on pm.measurement (asset_id, name, taken_at desc);

-- The groups follow ISO 14224 (maintainable item, failure mode, failure cause, detection method), which SAP PM has as
-- object part, damage, cause and detection. `unknown` is in each: what nobody found out is said, not guessed.
insert into pm.failure_code (code_group, code, title) values
    ('object_part', 'unknown', 'Unknown'),
    ('object_part', 'bearing', 'Bearing'),
    ('object_part', 'breaker', 'Circuit breaker or switch'),
    ('object_part', 'bushing', 'Bushing'),
    ('object_part', 'cable', 'Cable'),
    ('object_part', 'conductor', 'Conductor'),
    ('object_part', 'control', 'Control, protection and communication'),
    ('object_part', 'cooling', 'Cooling'),
    ('object_part', 'drive', 'Drive or actuator'),
    ('object_part', 'fitting', 'Pipe fitting or flange'),
    ('object_part', 'housing', 'Housing or foundation'),
    ('object_part', 'insulator', 'Insulator'),
    ('object_part', 'joint', 'Joint'),
    ('object_part', 'meter', 'Meter or sensor'),
    ('object_part', 'pipe', 'Pipe'),
    ('object_part', 'pole', 'Pole or tower'),
    ('object_part', 'seal', 'Seal'),
    ('object_part', 'surge_arrester', 'Surge arrester'),
    ('object_part', 'tap_changer', 'Tap changer'),
    ('object_part', 'termination', 'Termination'),
    ('object_part', 'winding', 'Winding or core'),
    ('damage', 'unknown', 'Unknown'),
    ('damage', 'blocked', 'Blocked or jammed'),
    ('damage', 'broken', 'Broken or torn'),
    ('damage', 'burnt', 'Burnt'),
    ('damage', 'contaminated', 'Contaminated'),
    ('damage', 'corroded', 'Corroded'),
    ('damage', 'earth_fault', 'Earth fault'),
    ('damage', 'insulation_breakdown', 'Insulation breakdown'),
    ('damage', 'leaking', 'Leaking'),
    ('damage', 'loose', 'Loose'),
    ('damage', 'no_function', 'Does not operate on demand'),
    ('damage', 'open_circuit', 'Open circuit'),
    ('damage', 'overheated', 'Overheated'),
    ('damage', 'short_circuit', 'Short circuit'),
    ('damage', 'spurious_function', 'Operates without demand'),
    ('damage', 'vibration', 'Vibration or noise'),
    ('damage', 'worn', 'Worn'),
    ('cause', 'unknown', 'Unknown'),
    ('cause', 'ageing', 'Ageing or wear'),
    ('cause', 'animal', 'Animal'),
    ('cause', 'design', 'Design'),
    ('cause', 'flood', 'Flood or landslide'),
    ('cause', 'installation', 'Faulty installation'),
    ('cause', 'lightning', 'Lightning'),
    ('cause', 'maintenance', 'Faulty or missing maintenance'),
    ('cause', 'manufacture', 'Faulty manufacture or material'),
    ('cause', 'operation', 'Operating error'),
    ('cause', 'overload', 'Overload'),
    ('cause', 'software', 'Software or setting'),
    ('cause', 'storm', 'Storm, ice or snow'),
    ('cause', 'third_party', 'Third party, such as digging'),
    ('cause', 'upstream', 'Failure in the network above'),
    ('cause', 'vandalism', 'Vandalism or theft'),
    ('cause', 'vegetation', 'Vegetation'),
    ('detection', 'unknown', 'Unknown'),
    ('detection', 'alarm', 'Alarm of the control system'),
    ('detection', 'condition_monitoring', 'Condition monitoring'),
    ('detection', 'customer', 'Report of a customer'),
    ('detection', 'inspection', 'Inspection'),
    ('detection', 'on_demand', 'Failed on demand'),
    ('detection', 'operation', 'Seen in operation'),
    ('detection', 'preventive_maintenance', 'Preventive maintenance'),
    ('detection', 'protection', 'Trip of the protection'),
    ('detection', 'testing', 'Functional test');
