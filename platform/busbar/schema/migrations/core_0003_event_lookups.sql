-- What the lists of events, the trace and the dead-letter desk look up.

create index event_type_position on core.event (event_type, position) where position is not null;
-- Events are stored nearly in the order of time, so a block range index is enough and costs next to nothing to keep.
create index event_time on core.event using brin (time) with (pages_per_range = 32, autosummarize = on);
create index delivery_remote on core.delivery (remote_id) where remote_id is not null;
create index remote_reference_by_remote on core.remote_reference (remote_id);
