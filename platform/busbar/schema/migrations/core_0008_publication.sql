-- How far the events have been brought to the broker: one row. Null until a broker is used for the first time.
create table core.publication (
    name text primary key,
    position bigint
);
insert into core.publication (name, position) values ('events', null);
